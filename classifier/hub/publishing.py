"""Publishes a model folder: checks everything first, then uploads it in one commit."""

from __future__ import annotations

import functools
import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier import provenance
from classifier.errors import ClassifierError, InputError
from classifier.hub.card import METADATA_RESULTS, name_of, results
from classifier.hub.commit import MAIN, Upload, commit_files
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
from classifier.model_folder.folder import CARD, EVALUATION, ModelFolder

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TOLERANCE = 1e-3  # the largest difference between two figures that is accepted as rounding
Figures = Callable[[], Mapping[str, Any]]


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
    """
    check_repo_id(repo_id)
    folder.check(complete=True)
    check_figures(folder, recomputed(), "predictions.npz gives")
    check_card(folder)
    api = connect()
    try:
        head = _find_head(api, repo_id, private=private, branch=branch, tag=tag)
        if head and not force:
            _check_score(api, folder, repo_id, head)
        if measured is not None:
            check_figures(folder, measured(), "the images give")
        folder.load_model()  # are the weights complete?
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
            message=f"{name_of(folder)}: top-1 {_top1(folder):.2%}",
            head=head,
            owned=OWNED,
            use=f'Load it with: keras.saving.load_model("hf://{repo_id}")' if on_main else "",
            branch=branch or MAIN,
            create_pr=create_pr,
        )
        if tag:
            commit = upload.commit.oid
            with_retries(lambda: api.create_tag(repo_id, tag=tag, revision=commit, exist_ok=True))
    except InputError:
        raise
    except Exception as error:
        raise _readable_error(api, folder, repo_id, error) from error
    return upload


def check_figures(folder: ModelFolder, figures: Mapping[str, Any], source: str) -> None:
    """Checks the figures of `evaluation.json`, without those of single classes.

    Args:
        folder: the model folder.
        figures: recomputed, in the format of `evaluation.json`.
        source: their source, for the message: "predictions.npz gives".

    Raises:
        InputError: with the first figure that differs by more than 0.001.
    """
    stated = folder.evaluation or {}
    for name, value in figures.items():
        claim = stated.get(name)
        if not isinstance(value, float):
            continue  # counts, names and tables
        if not isinstance(claim, (int, float)) or not abs(claim - value) <= TOLERANCE:
            raise InputError(
                f"{EVALUATION} states {name} = {claim}, and {source} {value:.6g}: evaluate the "
                "model again with `python -m evaluation`"
            )


def check_card(folder: ModelFolder) -> None:
    """Checks a model card; the Hub validates its metadata again when it is committed.

    Raises:
        InputError: its metadata cannot be read, it states other figures than `evaluation.json`, or
            it names a path of this machine.
    """
    import pandas as pd
    from huggingface_hub import ModelCard

    path, evaluation = folder.path / CARD, folder.evaluation or {}
    again = "write the card again: " + shlex.join(
        ["python", "-m", "classifier.hub.card", str(folder.path)]
    )
    try:
        card = ModelCard(folder.card or "", ignore_metadata_errors=False)
    except Exception as error:  # YAML errors; malformed results can raise anything
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the metadata of {path} cannot be read ({reason}): {again}") from error
    metadata: Any = card.data
    stated = {result.metric_type: result.metric_value for result in metadata.eval_results or []}
    stated |= re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", card.text, re.MULTILINE)
    expected = {kind: evaluation.get(key) for key, kind in METADATA_RESULTS.items()}
    for name, value in (expected | dict(results(evaluation))).items():
        if stated.get(name, value) != value:  # a card of one's own may have other tables
            raise InputError(
                f"{path} states {name} {stated[name]}, and {EVALUATION} {value}: {again}"
            )
    records = [folder.training, provenance.without_local_paths(folder.training)]
    for text, public in pd.json_normalize(records).T.itertuples(index=False):
        if isinstance(text, str) and text != public and text in card.text:
            raise InputError(f"{path} names {text}, a path of this machine: {again}")


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


def _readable_error(
    api: HfApi, folder: ModelFolder, repo_id: str, error: Exception
) -> ClassifierError:
    """Returns an error of one line that says how to continue."""
    if status_of(error) in FORBIDDEN:
        return InputError(
            f"{describe(error)}: no token with write access to {repo_id}: create one at "
            f"{api.endpoint}/settings/tokens and log in with `hf auth login`"
        )
    words = ["python", "train.py", "--push", "--from", str(folder.path), "--repo-id", repo_id]
    return HubError(
        f"{describe(error)}. What is published is complete, and so is the local folder; "
        f"continue, with the same options for publishing, with: {shlex.join(words)}"
    )
