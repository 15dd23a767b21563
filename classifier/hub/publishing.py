"""Publishes a model folder: checks everything first, then uploads it in one commit."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.errors import ClassifierError, InputError
from classifier.hub.access import check_repo_id, check_token, find_token
from classifier.hub.checks import Figures, check_card, check_figures, check_model
from classifier.hub.commit import (
    MAIN,
    CommitResult,
    Target,
    commit_files,
    differences,
    head_of,
    remote_files,
)
from classifier.hub_client import (
    FORBIDDEN,
    INVALID,
    HubError,
    connect,
    redact_token,
    status_of,
    unless_missing,
    with_retries,
)
from classifier.model_folder.folder import (
    EVALUATION,
    MAX_FILE_BYTES,
    ONNX,
    PLOTS,
    RUNS,
    ModelFolder,
)
from classifier.model_folder.saved_model import MIN_KERAS_VERSION

if TYPE_CHECKING:
    from huggingface_hub import HfApi

OWNED = (f"{PLOTS}/*", f"{RUNS}/*", ONNX)  # deleted on the Hub when the folder no longer has them
# The handler of an Inference Endpoint, and the packages that its container lacks.
INFERENCE_ENDPOINT_FILES: dict[str, Path | bytes] = {
    "handler.py": Path(__file__).with_name("handler.py"),
    "requirements.txt": f"keras>={MIN_KERAS_VERSION}\npillow\n".encode(),
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Publication(CommitResult):
    """A published model folder.

    Attributes:
        repo_id: user/name.
        create_pr: whether a pull request was requested.
        tag: the tag of the commit, None if there is none.
    """

    repo_id: str = ""
    create_pr: bool = False
    tag: str | None = None

    @property
    def loading_line(self) -> str:
        """The line of Python that loads the model with Keras and huggingface_hub."""
        if self.reference == MAIN:
            return f'keras.saving.load_model("hf://{self.repo_id}")'
        download = f'huggingface_hub.snapshot_download("{self.repo_id}", revision="{self.commit}")'
        return f"keras.saving.load_model({download})"

    def __str__(self) -> str:
        first = "Published" if self.changed else "Nothing has changed since"
        if self.create_pr and not self.changed:
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

    @property
    def files(self) -> dict[str, Path | bytes]:
        """The files of the model folder and those of the Inference Endpoint."""
        ours = {name: self.folder.path / name for name in self.folder.files()}
        return {**ours, **INFERENCE_ENDPOINT_FILES}


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
    if branch and create_pr:
        raise InputError("--branch and --create-pr exclude each other: a pull request goes to main")
    folder.check(complete=True)
    check_figures(folder, recomputed, "predictions.npz gives", deep=True)
    token = find_token(token)
    api = connect(token)
    with _readable_errors(request, token):
        check_token(api)
        check_card(folder)
        target, tags = _resolve(api, request)
        _check_score(api, request, target)
        _check_tag(api, request, target, tags.get(tag or ""))
    if measured is not None:
        check_figures(folder, measured, "the images give", deep=False)
    check_model(folder)
    with _readable_errors(request, token):
        committed = _upload(api, request, target)
        _tag(api, request, committed)
    return Publication(**vars(committed), repo_id=repo_id, create_pr=create_pr, tag=tag)


def _resolve(api: HfApi, request: _Request) -> tuple[Target, dict[str, str]]:
    """Returns the target, whose head is that of main for a new branch, and the tags."""
    branch = request.branch or MAIN
    info = unless_missing(lambda: api.repo_info(request.repo_id))
    head = info.sha if info else None
    target = Target(request.repo_id, "model", branch, head, request.create_pr)
    if info is None:
        return target, {}
    if request.private and info.private is False:
        raise InputError(
            f"{request.repo_id} exists and is public: make it private in its settings on "
            f"{api.endpoint}, or leave out --private"
        )
    if not (request.branch or request.tag):
        return target, {}
    refs = with_retries(lambda: api.list_repo_refs(request.repo_id))
    tags = {ref.name: ref.target_commit for ref in refs.tags}
    heads = {ref.name: ref.target_commit for ref in refs.branches}
    return replace(target, head=heads.get(branch, target.head)), tags


def _check_score(api: HfApi, request: _Request, target: Target) -> None:
    """Raises InputError if the published model has a higher top-1, unless forced."""
    file = remote_files(api, target).get(EVALUATION)
    if file is None or file.size > MAX_FILE_BYTES[EVALUATION]:
        return
    path = with_retries(
        lambda: api.hf_hub_download(target.repo_id, EVALUATION, revision=target.head)
    )
    try:
        published = float(json.loads(Path(path).read_bytes())["top1"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    top1 = _top1(request.folder)
    if top1 >= published:
        return
    figures = f"top-1 {top1:.2%}, the one published in {request.repo_id} {published:.2%}"
    if not request.force:
        raise InputError(f"this model scores worse: {figures}. Publish it anyway with --force")
    logger.warning("this model scores worse: %s; published because of --force", figures)


def _check_tag(api: HfApi, request: _Request, target: Target, tagged: str | None) -> None:
    """Raises InputError if the tag is on a commit, unless the upload would leave it there."""
    if tagged is None:
        return
    if (
        tagged != target.head
        or request.create_pr
        or any(differences(api, target, request.files, OWNED))
    ):
        raise InputError(
            f"{request.repo_id} has a tag {request.tag} already, on commit {tagged[:7]}: choose "
            "another --tag"
        )


def _upload(api: HfApi, request: _Request, target: Target) -> CommitResult:
    if target.head is None:
        with_retries(
            lambda: api.create_repo(request.repo_id, private=request.private or None, exist_ok=True)
        )
        target = replace(target, head=head_of(api, replace(target, revision=MAIN)))
    if target.revision != MAIN and head_of(api, target) is None:
        _create_branch(api, target)
        target = replace(target, head=head_of(api, target))
    name = request.folder.training.get("preset") or request.folder.path.name
    message = f"{name}: top-1 {_top1(request.folder):.2%}"
    return commit_files(api, target, request.files, owned=OWNED, message=message)


def _create_branch(api: HfApi, target: Target) -> None:
    name, start = target.revision, target.head
    try:
        with_retries(
            lambda: api.create_branch(target.repo_id, branch=name, revision=start, exist_ok=True)
        )
    except Exception as error:
        if status_of(error) != INVALID:
            raise
        raise InputError(f"--branch {name!r} is not a valid name for a branch") from error


def _top1(folder: ModelFolder) -> float:
    return (folder.evaluation or {})["top1"]


def _tag(api: HfApi, request: _Request, committed: CommitResult) -> None:
    tag, commit = request.tag, committed.commit
    if tag is None:
        return
    with_retries(lambda: api.create_tag(request.repo_id, tag=tag, revision=commit, exist_ok=True))
    refs = with_retries(lambda: api.list_repo_refs(request.repo_id))
    if commit not in (ref.target_commit for ref in refs.tags if ref.name == tag):
        raise HubError(f"the model is published as {committed.url}, but tag {tag} exists")


@contextlib.contextmanager
def _readable_errors(request: _Request, token: str) -> Iterator[None]:
    """Converts errors of the Hub and its client to one line that says how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "interrupted: what is published is complete, and so is the local folder. "
            f"Continue with: {request.command}"
        ) from None
    except Exception as error:
        text = redact_token(error, token)
        if isinstance(error, InputError):
            raise InputError(text) from error
        if status_of(error) in FORBIDDEN:
            raise InputError(
                f"{text}: the token has no write access to {request.repo_id}; choose another "
                "name or token"
            ) from error
        if isinstance(error, ClassifierError) and not isinstance(error, HubError):
            raise ClassifierError(text) from error
        raise HubError(
            f"{text.rstrip('.')}. What is published is complete, and so is the local folder; "
            f"continue with: {request.command}"
        ) from error
