"""Publishes a model folder: checks everything first, then uploads it in one commit."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.errors import InputError
from classifier.hub.access import check_token, find_token
from classifier.hub.checks import Figures, check_card, check_figures, check_model
from classifier.hub.commit import MAIN, commit_files, head_of
from classifier.hub.published_files import OWNED, published_files
from classifier.hub_client import (
    FORBIDDEN,
    HubError,
    check_repo_id,
    connect,
    describe,
    status_of,
    unless_missing,
    with_retries,
)
from classifier.model_folder.folder import EVALUATION, ModelFolder

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Publication:
    """A published model folder.

    Attributes:
        repo_id: user/name.
        commit: the hash of the commit.
        url: its page.
        changed: False if the branch had exactly these files before.
        branch: the branch, None if a pull request was requested.
        pull_request: the page of the pull request, None if there is none.
        tag: the tag of the commit, None if there is none.
    """

    repo_id: str
    commit: str
    url: str
    changed: bool
    branch: str | None = MAIN
    pull_request: str | None = None
    tag: str | None = None

    @property
    def loading_line(self) -> str:
        """The line of Python that loads the model with Keras and huggingface_hub."""
        if self.branch == MAIN or not self.changed:
            return f'keras.saving.load_model("hf://{self.repo_id}")'
        download = f'huggingface_hub.snapshot_download("{self.repo_id}", revision="{self.commit}")'
        return f"keras.saving.load_model({download})"

    def __str__(self) -> str:
        first = "Published" if self.changed else "Nothing has changed since"
        if self.branch is None and not self.changed:
            first += ", so no pull request was opened"
        lines = [f"{first}: {self.url}"]
        if self.pull_request:
            lines.append(f"Pull request: {self.pull_request}")
        if self.tag:
            lines.append(f"Tag: {self.tag}")
        return "\n".join([*lines, f"Load it with: {self.loading_line}"])


@dataclass(frozen=True)
class _Request:
    """The arguments of `publish`, and the command that repeats it."""

    folder: ModelFolder
    repo_id: str
    private: bool
    branch: str | None
    create_pr: bool
    tag: str | None
    force: bool

    @property
    def command(self) -> str:
        words = ["python", "train.py", "--push", "--from", str(self.folder.path)]
        words += ["--repo-id", self.repo_id]
        words += ["--private"] if self.private else []
        words += ["--branch", self.branch] if self.branch else []
        words += ["--create-pr"] if self.create_pr else []
        words += ["--tag", self.tag] if self.tag else []
        words += ["--force"] if self.force else []
        return shlex.join(words)


def commit_message(folder: ModelFolder) -> str:
    """Returns the first line of the commit that publishes a model folder."""
    name = folder.training.get("preset") or folder.path.name
    return f"{name}: top-1 {_top1(folder):.2%}"


def publish(
    folder: ModelFolder,
    *,
    repo_id: str,
    recomputed: Figures,
    measured: Figures | None = None,
    private: bool = False,
    branch: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    force: bool = False,
    token: str | None = None,
) -> Publication:
    """Checks a model folder and uploads it in one commit.

    Args:
        folder: a complete model folder.
        repo_id: user/name; the repository is created if it does not exist.
        recomputed: returns the figures computed from `predictions.npz`.
        measured: returns the figures measured again on the images.
        private: creates a private repository.
        branch: commits to this branch, created from main if it does not exist.
        create_pr: opens a pull request.
        tag: tags the commit.
        force: also publishes a model with a lower top-1 than the published one.
        token: by default `HF_TOKEN`, or the one that `hf auth login` stored.

    Returns:
        The publication; `str` of it is the message for the user.

    Raises:
        InputError: something is wrong with the folder, the name, the token or the target.
        HubError: the Hub failed repeatedly, or somebody else has pushed in the meantime. The
            published model is unchanged; the message names the command that continues.
        KeyboardInterrupt: with the same message.
    """
    request = _Request(folder, repo_id, private, branch, create_pr, tag, force)
    check_repo_id(repo_id)
    folder.check(complete=True)
    check_figures(folder, recomputed, "predictions.npz gives", deep=True)
    check_card(folder)
    api = connect(find_token(token))
    with _readable_errors(request):
        check_token(api)
        head = _find_head(api, request)
        if head:
            _check_score(api, request, head)
    if measured is not None:
        check_figures(folder, measured, "the images give", deep=False)
    check_model(folder)
    with _readable_errors(request):
        head = head or _create_repository(api, request)
        made = _upload(api, request, head)
        if tag:
            with_retries(lambda: api.create_tag(repo_id, tag=tag, revision=made.oid, exist_ok=True))
    target = None if create_pr else branch or MAIN
    return Publication(
        repo_id, made.oid, made.commit_url, made.oid != head, target, made.pr_url, tag
    )


def _find_head(api: HfApi, request: _Request) -> str | None:
    """Returns the commit to publish on top of, None without a repository; checks the tag.

    For a new branch it is the head of main.
    """
    info = unless_missing(lambda: api.repo_info(request.repo_id))
    if info is None:
        return None
    if request.private and info.private is False:
        raise InputError(
            f"{request.repo_id} exists and is public: make it private in its settings on "
            f"{api.endpoint}, or leave out --private"
        )
    refs = with_retries(lambda: api.list_repo_refs(request.repo_id))
    for tag in refs.tags:
        if tag.name == request.tag:
            raise InputError(
                f"{request.repo_id} has a tag {tag.name} already, on commit "
                f"{tag.target_commit[:7]}: choose another --tag, or leave it out"
            )
    heads = {branch.name: branch.target_commit for branch in refs.branches}
    return heads.get(request.branch or MAIN, info.sha)


def _check_score(api: HfApi, request: _Request, head: str) -> None:
    """Raises InputError if the published model has a higher top-1, unless forced."""
    path = unless_missing(lambda: api.hf_hub_download(request.repo_id, EVALUATION, revision=head))
    try:
        published = float(json.loads(Path(path or "").read_bytes())["top1"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # none, or not ours
    top1 = _top1(request.folder)
    if top1 >= published:
        return
    figures = f"top-1 {top1:.2%}, the one published in {request.repo_id} {published:.2%}"
    if not request.force:
        raise InputError(f"this model scores worse: {figures}. Publish it anyway with --force")
    logger.warning("this model scores worse: %s; published because of --force", figures)


def _create_repository(api: HfApi, request: _Request) -> str:
    """Creates the repository and returns its first commit, which the Hub makes."""
    repo_id, private = request.repo_id, request.private or None
    with_retries(lambda: api.create_repo(repo_id, private=private, exist_ok=True))
    return str(head_of(api, repo_id))


def _upload(api: HfApi, request: _Request, head: str) -> CommitInfo:
    repo_id, branch = request.repo_id, request.branch or MAIN
    if branch != MAIN:
        with_retries(
            lambda: api.create_branch(repo_id, branch=branch, revision=head, exist_ok=True)
        )
    return commit_files(
        api,
        repo_id,
        published_files(request.folder),
        message=commit_message(request.folder),
        head=head,
        owned=OWNED,
        branch=branch,
        create_pr=request.create_pr,
    )


def _top1(folder: ModelFolder) -> float:
    return (folder.evaluation or {})["top1"]


@contextlib.contextmanager
def _readable_errors(request: _Request) -> Iterator[None]:
    """Converts errors of the Hub and its client to one line that says how to continue."""
    go_on = f"continue with: {request.command}"
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted: what is published is complete, and so is the local folder; {go_on}"
        ) from None
    except InputError:
        raise
    except Exception as error:
        if status_of(error) in FORBIDDEN:
            raise InputError(
                f"{describe(error)}: the token has no write access to {request.repo_id}; choose "
                "another name or token"
            ) from error
        raise HubError(
            f"{describe(error)}. What is published is complete, and so is the local folder; {go_on}"
        ) from error
