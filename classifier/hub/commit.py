"""One guarded commit to a repository of the Hub: whole, once, and never over somebody else's."""

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
    """Where a commit goes.

    Attributes:
        repo_id: user/name.
        repo_type: "model" or "space".
        revision: the branch.
        head: the commit that it stands at, None if there is none yet.
        create_pr: whether the commit opens a pull request instead.
    """

    repo_id: str
    repo_type: str
    revision: str
    head: str | None
    create_pr: bool = False

    @property
    def repository(self) -> dict[str, Any]:
        """The arguments by which huggingface_hub knows the repository."""
        return {"repo_id": self.repo_id, "repo_type": self.repo_type}

    @property
    def branch(self) -> dict[str, Any]:
        """The arguments that say where to commit: a pull request goes to main and names none."""
        return {
            **self.repository,
            "revision": None if self.create_pr else self.revision,
            "create_pr": self.create_pr,
        }


@dataclass(frozen=True)
class Committed:
    """What came of it.

    Attributes:
        commit: the hash of the commit.
        url: where to see it.
        changed: False if the branch held exactly these files already.
        reference: the branch, or the reference of the pull request.
        pull_request: where to see the pull request, None if there is none.
    """

    commit: str
    url: str
    changed: bool
    reference: str
    pull_request: str | None = None


def remote_files(api: HfApi, target: Target) -> dict[str, RepoFile]:
    """Returns the files at the target's head by their path."""
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
) -> Committed:
    """Makes the branch hold these files, in one commit on top of the head that the target names.

    A commit whose answer was lost is found again and not made twice.

    Args:
        api: the client, as `hub_client.connect` gives it.
        target: where to.
        files: the content of each path.
        remove: paths to delete, if they are there.
        message: the commit's first line.

    Raises:
        HubError: the branch has moved meanwhile.
        Exception: whatever the client raises once a fault lasts.
    """
    changed, gone = differences(api, target, files, remove)
    if not changed and not gone:
        assert target.head is not None  # files that are there are in a commit
        return Committed(target.head, _url(api, target, target.head), False, target.revision)
    before = _pull_requests(api, target) if target.create_pr else {}

    def attempt() -> Committed:
        try:
            return _commit(api, target, {path: files[path] for path in changed}, gone, message)
        except Exception as error:
            found = _find_lost(api, target, files, gone, before, error)
            if found is None:
                raise
            return found

    return with_retries(attempt)


def differences(
    api: HfApi, target: Target, files: Mapping[str, Content], remove: Iterable[str] = ()
) -> tuple[list[str], list[str]]:
    """Returns the paths of files that are others at the target's head, and those to delete there.

    `create_commit` drops unchanged files as well, but says neither which nor whether there were
    any, and a commit whose answer was lost cannot be told from somebody else's by that.
    """
    there = remote_files(api, target)
    changed = [
        path
        for path, content in files.items()
        if path not in there or not _same(api, target, there[path], content)
    ]
    return changed, sorted(set(remove) & set(there))


def head_of(api: HfApi, target: Target) -> str | None:
    """Returns the commit that the target's branch stands at now, None if it has none."""
    try:
        return with_retries(
            lambda: api.repo_info(**target.repository, revision=target.revision)
        ).sha
    except Exception as error:
        if is_missing(error):
            return None
        raise


def with_branch(api: HfApi, target: Target) -> Target:
    """Creates the target's branch, from the head of the target, if it is not there."""
    if target.revision == MAIN:
        return target
    start: dict[str, Any] = {"revision": target.head, "exist_ok": True}
    try:
        with_retries(
            lambda: api.create_branch(branch=target.revision, **target.repository, **start)
        )
    except Exception as error:
        if status_of(error) == 400:
            raise InputError(f"--branch {target.revision!r} is no name for a branch") from error
        raise
    return replace(target, head=head_of(api, target))


def _commit(
    api: HfApi, target: Target, files: Mapping[str, Content], gone: list[str], message: str
) -> Committed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    # The client writes into the operations: each attempt takes new ones.
    additions = [CommitOperationAdd(path, content) for path, content in files.items()]
    for addition in additions:
        if b"\0" in addition.upload_info.sample:
            # A large file. One at a time, the client uploads in this thread, which Ctrl-C stops at
            # once; several would go through threads that it waits for.
            api.preupload_lfs_files(additions=[addition], **target.branch, free_memory=False)
    made = api.create_commit(
        operations=[*(CommitOperationDelete(path) for path in gone), *additions],
        commit_message=message,
        parent_commit=target.head,
        **target.branch,
    )
    reference = made.pr_revision or target.revision
    return Committed(made.oid, _url(api, target, made.oid), True, reference, made.pr_url)


def _find_lost(
    api: HfApi,
    target: Target,
    files: Mapping[str, Content],
    gone: list[str],
    before: Mapping[str, str],
    error: Exception,
) -> Committed | None:
    """Finds the commit that an attempt made although its answer was an error.

    Raises:
        HubError: the branch stands at somebody else's commit.
    """

    def holds(commit: str) -> bool:
        return not any(differences(api, replace(target, head=commit), files, gone))

    if target.create_pr:
        now = _pull_requests(api, target)
        for reference in sorted(set(now) - set(before)):
            if holds(now[reference]):
                page = f"{api.endpoint}/{target.repo_id}/discussions/{reference.split('/')[-1]}"
                url = _url(api, target, now[reference])
                return Committed(now[reference], url, True, reference, page)
        return None
    head = head_of(api, target)
    if head == target.head or head is None:
        return None
    if holds(head):
        return Committed(head, _url(api, target, head), True, target.revision)
    raise HubError(
        f"somebody has pushed commit {head[:7]} to {target.revision} of {target.repo_id} "
        "meanwhile, and it is not overwritten: look at it"
    ) from error


def _pull_requests(api: HfApi, target: Target) -> dict[str, str]:
    refs = with_retries(lambda: api.list_repo_refs(**target.repository, include_pull_requests=True))
    return {item.ref: item.target_commit for item in refs.pull_requests or []}


def _same(api: HfApi, target: Target, remote: RepoFile, content: Content) -> bool:
    """Tells whether a file at the target's head has this content."""
    local = content.read_bytes() if isinstance(content, Path) else content
    if remote.size != len(local):
        return False
    if remote.lfs is not None:
        return remote.lfs.sha256 == hashlib.sha256(local).hexdigest()
    if remote.blob_id == hashlib.sha1(b"blob %d\0" % len(local) + local).hexdigest():
        return True
    # Some Hubs have other hashes than Git's outside of LFS: there, the content decides.
    where = {**target.repository, "revision": target.head}
    fetched = with_retries(lambda: api.hf_hub_download(filename=remote.path, **where))
    return Path(fetched).read_bytes() == local


def _url(api: HfApi, target: Target, commit: str) -> str:
    prefix = "" if target.repo_type == "model" else f"{target.repo_type}s/"
    return f"{api.endpoint}/{prefix}{target.repo_id}/commit/{commit}"
