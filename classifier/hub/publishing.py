"""Publishes a model folder: checks everything first, then uploads it in one commit."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.errors import ClassifierError, InputError
from classifier.hub import commit as commits
from classifier.hub.access import check_repo_id, check_token, find_token
from classifier.hub.checks import check_card, check_figures, check_model
from classifier.hub.commit import MAIN, CommitResult, Target
from classifier.hub_client import (
    CONFLICT,
    FORBIDDEN,
    HubError,
    connect,
    is_missing,
    redact_token,
    status_of,
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


@dataclass(frozen=True)
class _Destination:
    """The target of the upload; the head of a new branch is that of main."""

    target: Target
    exists: bool
    new_branch: bool
    tags: dict[str, str]


def publish(
    folder: ModelFolder | Path,
    *,
    repo_id: str,
    recomputed: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
    measured: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
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
        recomputed: the figures computed from `predictions.npz`, or a function for them.
        measured: the figures measured again on the images, or a function for them.
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
    folder = folder if isinstance(folder, ModelFolder) else ModelFolder(Path(folder))
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
        destination = _resolve(api, request)
        _check_score(folder, _published_top1(api, destination.target), request)
        _check_tag(api, request, destination)
    if measured is not None:
        check_figures(folder, measured, "the images give", deep=False)
    check_model(folder)
    with _readable_errors(request, token):
        committed = _upload(api, request, destination)
        _tag(api, request, committed)
    return Publication(**vars(committed), repo_id=repo_id, create_pr=create_pr, tag=tag)


def _resolve(api: HfApi, request: _Request) -> _Destination:
    """Asks the Hub for the state of the repository, the branch and the tags."""
    info = None
    try:
        info = with_retries(lambda: api.repo_info(request.repo_id))
    except Exception as error:
        if not is_missing(error):
            raise
    main = Target(request.repo_id, "model", MAIN, info.sha if info else None, request.create_pr)
    if info is None:
        target = replace(main, revision=request.branch or MAIN)
        return _Destination(target, exists=False, new_branch=bool(request.branch), tags={})
    if request.private and info.private is False:
        raise InputError(
            f"{request.repo_id} exists and is public: make it private in its settings on "
            f"{api.endpoint}, or leave out --private"
        )
    if not (request.branch or request.tag):
        return _Destination(main, exists=True, new_branch=False, tags={})
    refs = with_retries(lambda: api.list_repo_refs(request.repo_id))
    tags = {ref.name: ref.target_commit for ref in refs.tags}
    heads = {ref.name: ref.target_commit for ref in refs.branches}
    if request.branch is None:
        return _Destination(main, exists=True, new_branch=False, tags=tags)
    target = replace(main, revision=request.branch, head=heads.get(request.branch, main.head))
    return _Destination(target, True, request.branch not in heads, tags)


def _published_top1(api: HfApi, target: Target) -> float | None:
    file = commits.remote_files(api, target).get(EVALUATION)
    if file is None or file.size > MAX_FILE_BYTES[EVALUATION]:
        return None
    path = with_retries(
        lambda: api.hf_hub_download(target.repo_id, EVALUATION, revision=target.head)
    )
    try:
        top1 = json.loads(Path(path).read_bytes())["top1"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return float(top1) if isinstance(top1, (int, float)) else None


def _check_score(folder: ModelFolder, published: float | None, request: _Request) -> None:
    top1 = float((folder.evaluation or {})["top1"])
    if published is None or top1 >= published:
        return
    figures = f"top-1 {top1:.2%}, the one published in {request.repo_id} {published:.2%}"
    if not request.force:
        raise InputError(f"this model scores worse: {figures}. Publish it anyway with --force")
    logger.warning("this model scores worse: %s; published because of --force", figures)


def _check_tag(api: HfApi, request: _Request, destination: _Destination) -> None:
    """Raises InputError if the tag exists, unless it is on a commit with the same files."""
    tagged = destination.tags.get(request.tag or "")
    if tagged is None:
        return
    target = replace(destination.target, head=tagged)
    unmoved = tagged == destination.target.head and not request.create_pr
    stale = _stale(api, target, request)
    if not unmoved or any(commits.differences(api, target, _files(request), stale)):
        raise InputError(
            f"{request.repo_id} has a tag {request.tag} already, on commit {tagged[:7]}: choose "
            "another --tag"
        )


def _files(request: _Request) -> dict[str, Path | bytes]:
    """Returns the files of the model folder and those of the Inference Endpoint."""
    folder = request.folder
    return {**{name: folder.path / name for name in folder.files()}, **INFERENCE_ENDPOINT_FILES}


def _stale(api: HfApi, target: Target, request: _Request) -> set[str]:
    """Returns plots, event files and an ONNX file on the Hub that the folder no longer has."""
    ours = set(request.folder.files())
    folders = (f"{PLOTS}/", f"{RUNS}/")
    return {
        name
        for name in commits.remote_files(api, target)
        if (name.startswith(folders) or name == ONNX) and name not in ours
    }


def _upload(api: HfApi, request: _Request, destination: _Destination) -> CommitResult:
    target = destination.target
    if not destination.exists:
        with_retries(
            lambda: api.create_repo(request.repo_id, private=request.private or None, exist_ok=True)
        )
        target = replace(target, head=commits.head_of(api, replace(target, revision=MAIN)))
    if destination.new_branch:
        target = commits.with_branch(api, target)
    name = request.folder.training.get("preset") or request.folder.path.name
    top1 = (request.folder.evaluation or {})["top1"]
    return commits.commit_files(
        api,
        target,
        _files(request),
        remove=_stale(api, target, request),
        message=f"{name}: top-1 {top1:.2%}",
    )


def _tag(api: HfApi, request: _Request, committed: CommitResult) -> None:
    tag = request.tag
    if tag is None:
        return
    try:
        with_retries(lambda: api.create_tag(request.repo_id, tag=tag, revision=committed.commit))
    except Exception as error:
        if status_of(error) != CONFLICT:
            raise
        refs = with_retries(lambda: api.list_repo_refs(request.repo_id))
        if {ref.name: ref.target_commit for ref in refs.tags}.get(tag) != committed.commit:
            raise HubError(
                f"the model is published as {committed.url}, but tag {tag} exists"
            ) from error


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
