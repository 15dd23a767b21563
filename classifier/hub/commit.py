"""An atomic commit to a repository of the Hub that never overwrites a concurrent one."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.hub_client import HubError, status_of, with_retries

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi

MAIN = "main"
PRECONDITION_FAILED = 412  # the branch does not point to `parent_commit` any more


@dataclass(frozen=True)
class Upload:
    """A commit on the Hub, as `create_commit` describes it; its text is for the user.

    Attributes:
        commit: the commit; that before it if no file has changed.
        changed: whether a file has changed.
        use: a line that says how to use what is uploaded.
    """

    commit: CommitInfo
    changed: bool
    use: str

    def __str__(self) -> str:
        first = "Uploaded" if self.changed else "Nothing has changed since"
        lines = [f"{first}: {self.commit.commit_url}", self.use]
        if self.commit.pr_url:
            lines.append(f"Pull request: {self.commit.pr_url}")
        return "\n".join(filter(None, lines))


def commit_files(
    api: HfApi,
    repo_id: str,
    files: Mapping[str, Path | bytes],
    *,
    message: str,
    head: str,
    owned: Sequence[str],
    use: str,
    repo_type: str = "model",
    branch: str = MAIN,
    create_pr: bool = False,
) -> Upload:
    """Commits files on top of a branch; makes no commit if nothing changes.

    Args:
        api: the client, from `hub_client.connect`.
        repo_id: user/name.
        files: the content of each path.
        message: the commit's first line.
        head: the commit that the branch points to.
        owned: patterns of paths; those that are not in `files` are deleted.
        use: as in `Upload`.
        repo_type: "model" or "space".
        branch: the branch.
        create_pr: opens a pull request instead.

    Raises:
        HubError: somebody else has pushed to the branch.
        Exception: any error of the client that persists.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    remote = api.list_repo_files(repo_id, repo_type=repo_type, revision=head)
    ours = {path for pattern in owned for path in fnmatch.filter(remote, pattern)}

    def commit() -> CommitInfo:
        # `create_commit` leaves out files that have not changed. It modifies the operations.
        return api.create_commit(
            repo_id,
            [
                *(CommitOperationDelete(path) for path in sorted(ours - set(files))),
                *(CommitOperationAdd(path, content) for path, content in files.items()),
            ],
            commit_message=message,
            repo_type=repo_type,
            revision=None if create_pr else branch,
            create_pr=create_pr,
            parent_commit=head,
        )

    try:
        made = with_retries(commit)
    except Exception as error:
        if status_of(error) != PRECONDITION_FAILED:
            raise
        raise HubError(
            f"somebody has pushed to {branch} of {repo_id} in the meantime; it was not "
            "overwritten: review it"
        ) from error
    return Upload(made, made.oid != head, use)
