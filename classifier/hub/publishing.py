"""Publishes a model folder: checks everything first, then uploads it in one commit."""

from __future__ import annotations

import contextlib
import functools
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.errors import InputError
from classifier.hub.checks import Figures, check_card, check_figures, check_model
from classifier.hub.commit import MAIN, Upload, commit_files
from classifier.hub.published_files import OWNED, published_files
from classifier.hub_client import (
    FORBIDDEN,
    HubError,
    check_repo_id,
    connect_to_write,
    describe,
    status_of,
    unless_missing,
    with_retries,
)
from classifier.model_folder.folder import EVALUATION, ModelFolder

if TYPE_CHECKING:
    from huggingface_hub import HfApi


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
) -> Upload:
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

    Raises:
        InputError: something is wrong with the folder, the name, the token or the target.
        HubError: the Hub failed repeatedly, or somebody else has pushed in the meantime. The
            published model is unchanged; the message names the command that continues.
        KeyboardInterrupt: with the same message.
    """
    check_repo_id(repo_id)
    folder.check(complete=True)
    check_figures(folder, recomputed(), "predictions.npz gives")
    check_card(folder)
    api = connect_to_write()
    with _readable_errors(folder, repo_id):
        head = _find_head(api, repo_id, private=private, branch=branch, tag=tag)
        if head and not force:
            _check_score(api, folder, repo_id, head)
        if measured is not None:
            check_figures(folder, measured(), "the images give")
        check_model(folder)
        if head is None:
            with_retries(lambda: api.create_repo(repo_id, private=private or None, exist_ok=True))
            head = str(with_retries(lambda: api.repo_info(repo_id)).sha)
        if branch:
            create = functools.partial(api.create_branch, repo_id, branch=branch, exist_ok=True)
            with_retries(functools.partial(create, revision=head))
        on_main = not create_pr and branch in (None, MAIN)
        upload = commit_files(
            api,
            repo_id,
            published_files(folder),
            message=commit_message(folder),
            head=head,
            owned=OWNED,
            use=f'Load it with: keras.saving.load_model("hf://{repo_id}")' if on_main else "",
            branch=branch or MAIN,
            create_pr=create_pr,
        )
        if tag:
            commit = upload.commit.oid
            with_retries(lambda: api.create_tag(repo_id, tag=tag, revision=commit, exist_ok=True))
    return upload


def _find_head(
    api: HfApi, repo_id: str, *, private: bool, branch: str | None, tag: str | None
) -> str | None:
    """Returns the commit to publish on top of, None without a repository.

    For a new branch it is the head of main.

    Raises:
        InputError: the repository is public, but should be private, or it has the tag.
    """
    info = unless_missing(lambda: api.repo_info(repo_id))
    if info is None:
        return None
    if private and info.private is False:
        raise InputError(
            f"{repo_id} exists and is public: make it private in its settings on "
            f"{api.endpoint}, or leave out --private"
        )
    refs = with_retries(lambda: api.list_repo_refs(repo_id))
    if tag in [known.name for known in refs.tags]:
        raise InputError(f"{repo_id} has a tag {tag} already: choose another, or leave out --tag")
    heads = {known.name: known.target_commit for known in refs.branches}
    return heads.get(branch or MAIN, info.sha)


def _check_score(api: HfApi, folder: ModelFolder, repo_id: str, head: str) -> None:
    """Raises InputError if the published model has a higher top-1."""
    path = unless_missing(lambda: api.hf_hub_download(repo_id, EVALUATION, revision=head))
    try:
        published = float(json.loads(Path(path or "").read_bytes())["top1"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # none, or not ours
    if _top1(folder) < published:
        raise InputError(
            f"this model scores worse: top-1 {_top1(folder):.2%}, the one published in {repo_id} "
            f"{published:.2%}. Publish it anyway with --force"
        )


def _top1(folder: ModelFolder) -> float:
    return (folder.evaluation or {})["top1"]


@contextlib.contextmanager
def _readable_errors(folder: ModelFolder, repo_id: str) -> Iterator[None]:
    """Converts errors of the Hub and its client to one line that says how to continue."""
    words = ["python", "train.py", "--push", "--from", str(folder.path), "--repo-id", repo_id]
    go_on = (
        "What is published is complete, and so is the local folder; continue, with the same "
        f"options for publishing, with: {shlex.join(words)}"
    )
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted. {go_on}") from None
    except InputError:
        raise
    except Exception as error:
        if status_of(error) in FORBIDDEN:
            raise InputError(
                f"{describe(error)}: the token has no write access to {repo_id}; choose another "
                "name or token"
            ) from error
        raise HubError(f"{describe(error)}. {go_on}") from error
