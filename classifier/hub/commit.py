"""An atomic commit to a repository of the Hub that never overwrites a concurrent one."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.hub_client import HubError, unless_missing, with_retries

if TYPE_CHECKING:
    from huggingface_hub import HfApi, RepoFile

    Files = Mapping[str, Path | bytes]

MAIN = "main"


@dataclass(frozen=True)
class Target:
    """The target of a commit.

    Attributes:
        repo_id: user/name.
        repo_type: "model" or "space".
        revision: the branch.
        head: the commit that the branch points to, None if it has none.
        create_pr: whether the commit opens a pull request instead.
    """

    repo_id: str
    repo_type: str
    revision: str = MAIN
    head: str | None = None
    create_pr: bool = False

    @property
    def repository(self) -> dict[str, Any]:
        """Arguments of huggingface_hub that name the repository."""
        return {"repo_id": self.repo_id, "repo_type": self.repo_type}


@dataclass(frozen=True)
class CommitResult:
    """The result of `commit_files`.

    Attributes:
        commit: the hash of the commit.
        url: its page.
        changed: False if the branch had exactly these files before.
        reference: the branch, or the reference of the pull request.
        pull_request: the page of the pull request, None if there is none.
    """

    commit: str
    url: str
    changed: bool
    reference: str
    pull_request: str | None = None


def head_of(api: HfApi, target: Target) -> str | None:
    """Returns the commit that the target's branch points to, None if it has none."""
    info = unless_missing(lambda: api.repo_info(**target.repository, revision=target.revision))
    return info.sha if info else None


def remote_files(api: HfApi, target: Target) -> dict[str, RepoFile]:
    """Returns the files at the target's head, by path."""
    from huggingface_hub import RepoFile

    if target.head is None:
        return {}
    location = {**target.repository, "revision": target.head, "recursive": True}
    # A repository without any commit has no tree.
    entries = unless_missing(lambda: list(api.list_repo_tree(**location))) or []
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def commit_files(
    api: HfApi, target: Target, files: Files, *, owned: Sequence[str], message: str
) -> CommitResult:
    """Commits files on top of the target's head; makes no commit if nothing changes.

    A commit whose response was lost is found and not made twice.

    Args:
        api: the client, from `hub_client.connect`.
        target: the target.
        files: the content of each path.
        owned: patterns of paths; those that are not in `files` are deleted.
        message: the commit's first line.

    Raises:
        HubError: somebody else has pushed to the branch.
        Exception: any error of the client that persists.
    """
    changed, deleted = differences(api, target, files, owned)
    if not changed and not deleted:
        assert target.head is not None  # unchanged files are in a commit
        return _result(api, target, target.head, target.revision, changed=False)
    before = _heads(api, target) if target.create_pr else {target.revision: target.head}

    def attempt() -> CommitResult:
        try:
            return _commit(api, target, {path: files[path] for path in changed}, deleted, message)
        except Exception as error:
            heads = _heads(api, target).items()
            new = {name: commit for name, commit in heads if commit and commit != before.get(name)}
            for name, commit in new.items():  # ours, if only the response was lost
                if not any(differences(api, replace(target, head=commit), files, owned)):
                    return _result(api, target, commit, name)
            if target.create_pr or not new:
                raise
            raise HubError(
                f"somebody has pushed commit {new[target.revision][:7]} to {target.revision} of "
                f"{target.repo_id} in the meantime; it was not overwritten: review it"
            ) from error

    return with_retries(attempt)


def differences(
    api: HfApi, target: Target, files: Files, owned: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Returns the paths that differ from the target's head, and those to delete there.

    `create_commit` drops unchanged files too, but does not report them. The comparison is needed
    to distinguish a commit whose response was lost from somebody else's.
    """
    remote = remote_files(api, target)
    changed = [
        path
        for path, content in files.items()
        if path not in remote or not _is_same(api, target, remote[path], content)
    ]
    ours = {path for pattern in owned for path in fnmatch.filter(remote, pattern)}
    return changed, sorted(ours - set(files))


def _commit(
    api: HfApi, target: Target, files: Files, deleted: list[str], message: str
) -> CommitResult:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    branch: dict[str, Any] = {**target.repository, "create_pr": target.create_pr}
    branch["revision"] = None if target.create_pr else target.revision
    # The client modifies the operations: each attempt needs new ones.
    additions = [CommitOperationAdd(path, content) for path, content in files.items()]
    for addition in additions:
        if b"\0" in addition.upload_info.sample:
            # A binary file. The client uploads a single file in this thread, which Ctrl-C stops at
            # once; for several files it starts threads and waits for them.
            api.preupload_lfs_files(additions=[addition], **branch, free_memory=False)
    made = api.create_commit(
        operations=[*map(CommitOperationDelete, deleted), *additions],
        commit_message=message,
        parent_commit=target.head,
        **branch,
    )
    return _result(api, target, made.oid, made.pr_revision or target.revision)


def _heads(api: HfApi, target: Target) -> dict[str, str | None]:
    """Returns the commit of the target's branch, or of each pull request, by reference."""
    if not target.create_pr:
        return {target.revision: head_of(api, target)}
    refs = with_retries(lambda: api.list_repo_refs(**target.repository, include_pull_requests=True))
    return {item.ref: item.target_commit for item in refs.pull_requests or []}


def _is_same(api: HfApi, target: Target, remote: RepoFile, content: Path | bytes) -> bool:
    """Returns whether a file at the target's head has this content."""
    local = content.read_bytes() if isinstance(content, Path) else content
    if remote.size != len(local):
        return False
    if remote.lfs is not None:
        return remote.lfs.sha256 == hashlib.sha256(local).hexdigest()
    if remote.blob_id == hashlib.sha1(b"blob %d\0" % len(local) + local).hexdigest():
        return True
    # Some Hubs have other hashes than Git's outside of LFS: compare the content.
    location = {**target.repository, "revision": target.head}
    fetched = with_retries(lambda: api.hf_hub_download(filename=remote.path, **location))
    return Path(fetched).read_bytes() == local


def _result(
    api: HfApi, target: Target, commit: str, reference: str, *, changed: bool = True
) -> CommitResult:
    prefix = "" if target.repo_type == "model" else f"{target.repo_type}s/"
    page = f"{api.endpoint}/{prefix}{target.repo_id}"
    pull_request = None
    if reference != target.revision:
        pull_request = f"{page}/discussions/{reference.rpartition('/')[2]}"
    return CommitResult(commit, f"{page}/commit/{commit}", changed, reference, pull_request)
