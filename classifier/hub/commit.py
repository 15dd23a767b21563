"""An atomic commit to a repository of the Hub that never overwrites a concurrent one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.errors import InputError
from classifier.hub_client import HubError, is_missing, status_of, with_retries

if TYPE_CHECKING:
    from huggingface_hub import HfApi, RepoFile

    Content = Path | bytes

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
    revision: str
    head: str | None
    create_pr: bool = False

    @property
    def repository(self) -> dict[str, Any]:
        """Arguments of huggingface_hub that name the repository."""
        return {"repo_id": self.repo_id, "repo_type": self.repo_type}

    @property
    def branch(self) -> dict[str, Any]:
        """Arguments of huggingface_hub that name the branch; a pull request names none."""
        return {
            **self.repository,
            "revision": None if self.create_pr else self.revision,
            "create_pr": self.create_pr,
        }


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


def remote_files(api: HfApi, target: Target) -> dict[str, RepoFile]:
    """Returns the files at the target's head, by path."""
    from huggingface_hub import RepoFile

    if target.head is None:
        return {}
    try:
        entries = with_retries(
            lambda: list(
                api.list_repo_tree(**target.repository, recursive=True, revision=target.head)
            )
        )
    except Exception as error:
        if is_missing(error):  # a repository without any commit has no tree
            return {}
        raise
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def commit_files(
    api: HfApi,
    target: Target,
    files: Mapping[str, Content],
    *,
    remove: Iterable[str] = (),
    message: str,
) -> CommitResult:
    """Commits files on top of the target's head; makes no commit if nothing changes.

    A commit whose response was lost is found and not made twice.

    Args:
        api: the client, from `hub_client.connect`.
        target: the target.
        files: the content of each path.
        remove: paths to delete, if they exist.
        message: the commit's first line.

    Raises:
        HubError: somebody else has pushed to the branch.
        Exception: any error of the client that persists.
    """
    changed, deleted = differences(api, target, files, remove)
    if not changed and not deleted:
        assert target.head is not None  # unchanged files are in a commit
        return CommitResult(target.head, _url(api, target, target.head), False, target.revision)
    before = _pull_requests(api, target) if target.create_pr else {}

    def attempt() -> CommitResult:
        try:
            return _commit(api, target, {path: files[path] for path in changed}, deleted, message)
        except Exception as error:
            found = _find_unacknowledged(api, target, files, deleted, before, error)
            if found is None:
                raise
            return found

    return with_retries(attempt)


def differences(
    api: HfApi, target: Target, files: Mapping[str, Content], remove: Iterable[str] = ()
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
    return changed, sorted(set(remove) & set(remote))


def head_of(api: HfApi, target: Target) -> str | None:
    """Returns the commit that the target's branch points to, None if it has none."""
    try:
        return with_retries(
            lambda: api.repo_info(**target.repository, revision=target.revision)
        ).sha
    except Exception as error:
        if is_missing(error):
            return None
        raise


def with_branch(api: HfApi, target: Target) -> Target:
    """Creates the target's branch from its head, if the branch does not exist."""
    if target.revision == MAIN:
        return target
    start: dict[str, Any] = {"revision": target.head, "exist_ok": True}
    try:
        with_retries(
            lambda: api.create_branch(branch=target.revision, **target.repository, **start)
        )
    except Exception as error:
        if status_of(error) == 400:
            raise InputError(
                f"--branch {target.revision!r} is not a valid name for a branch"
            ) from error
        raise
    return replace(target, head=head_of(api, target))


def _commit(
    api: HfApi, target: Target, files: Mapping[str, Content], deleted: list[str], message: str
) -> CommitResult:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    # The client modifies the operations: each attempt needs new ones.
    additions = [CommitOperationAdd(path, content) for path, content in files.items()]
    for addition in additions:
        if b"\0" in addition.upload_info.sample:
            # A binary file. The client uploads a single file in this thread, which Ctrl-C stops at
            # once; for several files it starts threads and waits for them.
            api.preupload_lfs_files(additions=[addition], **target.branch, free_memory=False)
    made = api.create_commit(
        operations=[*(CommitOperationDelete(path) for path in deleted), *additions],
        commit_message=message,
        parent_commit=target.head,
        **target.branch,
    )
    reference = made.pr_revision or target.revision
    return CommitResult(made.oid, _url(api, target, made.oid), True, reference, made.pr_url)


def _find_unacknowledged(
    api: HfApi,
    target: Target,
    files: Mapping[str, Content],
    deleted: list[str],
    before: Mapping[str, str],
    error: Exception,
) -> CommitResult | None:
    """Finds the commit of an attempt that succeeded although the client raised an error.

    Raises:
        HubError: the branch points to somebody else's commit.
    """

    def holds(commit: str) -> bool:
        return not any(differences(api, replace(target, head=commit), files, deleted))

    if target.create_pr:
        after = _pull_requests(api, target)
        for reference in sorted(set(after) - set(before)):
            if holds(after[reference]):
                page = f"{api.endpoint}/{target.repo_id}/discussions/{reference.split('/')[-1]}"
                url = _url(api, target, after[reference])
                return CommitResult(after[reference], url, True, reference, page)
        return None
    head = head_of(api, target)
    if head == target.head or head is None:
        return None
    if holds(head):
        return CommitResult(head, _url(api, target, head), True, target.revision)
    raise HubError(
        f"somebody has pushed commit {head[:7]} to {target.revision} of {target.repo_id} "
        "in the meantime; it was not overwritten: review it"
    ) from error


def _pull_requests(api: HfApi, target: Target) -> dict[str, str]:
    refs = with_retries(lambda: api.list_repo_refs(**target.repository, include_pull_requests=True))
    return {item.ref: item.target_commit for item in refs.pull_requests or []}


def _is_same(api: HfApi, target: Target, remote: RepoFile, content: Content) -> bool:
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


def _url(api: HfApi, target: Target, commit: str) -> str:
    prefix = "" if target.repo_type == "model" else f"{target.repo_type}s/"
    return f"{api.endpoint}/{prefix}{target.repo_id}/commit/{commit}"
