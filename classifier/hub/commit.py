"""One guarded commit to a repository of the Hub: whole, once, and never over somebody else's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.errors import InputError
from classifier.hub.connection import (
    BACKOFF,
    PATIENCE_SECONDS,
    HubError,
    is_missing,
    is_transient,
    pause,
    status_of,
    with_retries,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    Content = Path | bytes
    CommitOperation = Any

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


@dataclass(frozen=True)
class Committed:
    """What came of it.

    Attributes:
        commit: the hash of the commit.
        url: where to see it.
        changed: False if the branch held exactly these files already.
        pull_request: where to see the pull request, None if there is none.
        reference: the branch, or the reference of the pull request.
    """

    commit: str
    url: str
    changed: bool
    pull_request: str | None
    reference: str


def remote_files(api: HfApi, target: Target, commit: str | None = None) -> dict[str, RepoFile]:
    """Returns the files of a commit (the target's head if not given) by their path."""
    from huggingface_hub.hf_api import RepoFile

    commit = commit or target.head
    if commit is None:
        return {}

    def listed() -> list[Any]:
        return list(
            api.list_repo_tree(
                target.repo_id, recursive=True, revision=commit, repo_type=target.repo_type
            )
        )

    try:
        entries = with_retries(listed)
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
        api: the client, as `connection.connect` gives it.
        target: where to.
        files: the content of each path.
        remove: paths to delete, if they are there.
        message: the commit's first line.

    Raises:
        HubError: the branch has moved meanwhile.
        Exception: whatever the client raises once a fault lasts.
    """
    changed, gone = _differences(api, target, files, remove)
    if not changed and not gone:
        assert target.head is not None  # files that are there are in a commit
        return Committed(target.head, _url(api, target, target.head), False, None, target.revision)
    before = _pull_requests(api, target) if target.create_pr else {}
    start = time.monotonic()
    for wait in (*BACKOFF, None):
        try:
            return _attempt(api, target, changed, gone, message)
        except Exception as error:
            found = _landed(api, target, files, gone, before, error)
            if found is not None:
                return found
            late = time.monotonic() - start > PATIENCE_SECONDS
            if wait is None or late or not is_transient(error):
                raise
            pause(error, wait)
    raise AssertionError  # the last attempt returns or raises


def differ(
    api: HfApi, target: Target, files: Mapping[str, Content], remove: Iterable[str] = ()
) -> bool:
    """Tells whether `commit_files` would have anything to commit."""
    return any(_differences(api, target, files, remove))


def _differences(
    api: HfApi, target: Target, files: Mapping[str, Content], remove: Iterable[str]
) -> tuple[dict[str, Content], list[str]]:
    """Returns the files that are others at the target's head, and those to delete there."""
    there = remote_files(api, target)
    changed = {
        path: content
        for path, content in files.items()
        if not _same(api, target, there.get(path), content, target.head)
    }
    return changed, sorted(set(remove) & set(there))


def _attempt(
    api: HfApi, target: Target, changed: Mapping[str, Content], gone: list[str], message: str
) -> Committed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    # The client writes into the operations: each attempt takes new ones.
    operations: list[CommitOperation] = [CommitOperationDelete(path) for path in gone]
    for path, content in changed.items():
        source = str(content) if isinstance(content, Path) else content
        addition = CommitOperationAdd(path, source)
        operations.append(addition)
        if b"\0" in addition.upload_info.sample:
            # A large file. One at a time, the client uploads in this thread, which Ctrl-C stops at
            # once; several would go through threads that it waits for.
            api.preupload_lfs_files(
                target.repo_id,
                [addition],
                repo_type=target.repo_type,
                revision=None if target.create_pr else target.revision,
                create_pr=target.create_pr,
                free_memory=False,
            )
    made = api.create_commit(
        target.repo_id,
        operations,
        commit_message=message,
        repo_type=target.repo_type,
        # The client refuses a branch beside `create_pr`: a pull request goes to main.
        revision=None if target.create_pr else target.revision,
        create_pr=target.create_pr,
        parent_commit=target.head,
    )
    reference = (made.pr_revision if target.create_pr else None) or target.revision
    changed_anything = made.oid != target.head
    return Committed(made.oid, str(made.commit_url), changed_anything, made.pr_url, reference)


def _landed(
    api: HfApi,
    target: Target,
    files: Mapping[str, Content],
    gone: list[str],
    before: dict[str, str],
    error: Exception,
) -> Committed | None:
    """Returns our commit if it was made though the client reports an error.

    Raises:
        HubError: the branch moved, and not by us.
    """
    if status_of(error) is None and not is_transient(error):
        return None
    if target.create_pr:
        new = {
            reference: commit
            for reference, commit in _pull_requests(api, target).items()
            if reference not in before
        }
        for reference, commit in new.items():
            if _holds(api, target, commit, files, gone):
                number = reference.rpartition("/")[2]
                page = f"{api.endpoint}/{target.repo_id}/discussions/{number}"
                return Committed(commit, _url(api, target, commit), True, page, reference)
        return None
    head = head_of(api, target)
    if head == target.head or head is None:
        return None
    if _holds(api, target, head, files, gone):
        return Committed(head, _url(api, target, head), True, None, target.revision)
    raise HubError(
        f"somebody has pushed commit {head[:7]} to {target.revision} of {target.repo_id} "
        "meanwhile, and it is not overwritten: look at it"
    ) from error


def head_of(api: HfApi, target: Target) -> str | None:
    """Returns the commit that the target's branch stands at now, None if it has none."""
    try:
        info = with_retries(
            lambda: api.repo_info(
                target.repo_id, repo_type=target.repo_type, revision=target.revision, timeout=10
            )
        )
    except Exception as error:
        if is_missing(error):
            return None
        raise
    return info.sha


def _pull_requests(api: HfApi, target: Target) -> dict[str, str]:
    refs = with_retries(
        lambda: api.list_repo_refs(
            target.repo_id, repo_type=target.repo_type, include_pull_requests=True
        )
    )
    return {item.ref: item.target_commit for item in refs.pull_requests or []}


def _holds(
    api: HfApi, target: Target, commit: str, files: Mapping[str, Content], gone: list[str]
) -> bool:
    there = remote_files(api, target, commit)
    return not any(path in there for path in gone) and all(
        _same(api, target, there.get(path), content, commit) for path, content in files.items()
    )


def _same(
    api: HfApi, target: Target, remote: RepoFile | None, content: Content, commit: str | None
) -> bool:
    """Tells whether a file of the repository has this content."""
    from huggingface_hub.utils import sha

    size = content.stat().st_size if isinstance(content, Path) else len(content)
    if remote is None or remote.size != size:
        return False
    if remote.lfs is not None:
        return remote.lfs.sha256 == _sha256(content)
    local = content.read_bytes() if isinstance(content, Path) else content
    if remote.blob_id == sha.git_hash(local):
        return True
    # The hash of a file outside of LFS is Git's affair: its content decides.
    fetched = with_retries(
        lambda: api.hf_hub_download(
            target.repo_id, remote.path, repo_type=target.repo_type, revision=commit
        )
    )
    return Path(fetched).read_bytes() == local


def _sha256(content: Content) -> str:
    import hashlib

    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _url(api: HfApi, target: Target, commit: str) -> str:
    prefix = "" if target.repo_type == "model" else f"{target.repo_type}s/"
    return f"{api.endpoint}/{prefix}{target.repo_id}/commit/{commit}"


def with_branch(api: HfApi, target: Target) -> Target:
    """Creates the target's branch, from the head of the target, if it is not there."""
    if target.revision == MAIN:
        return target
    try:
        with_retries(
            lambda: api.create_branch(
                target.repo_id,
                repo_type=target.repo_type,
                branch=target.revision,
                revision=target.head,
                exist_ok=True,
            )
        )
    except Exception as error:
        if status_of(error) == 400:
            raise InputError(f"--branch {target.revision!r} is no name for a branch") from error
        raise
    return replace(target, head=head_of(api, target))
