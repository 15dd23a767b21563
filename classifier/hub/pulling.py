"""Downloads a model folder from the Hub, or takes it from the cache if the Hub fails."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.errors import ClassifierError, InputError
from classifier.hub_client import (
    FORBIDDEN,
    MISSING,
    HubError,
    connect,
    describe,
    status_of,
    with_retries,
)
from classifier.model_folder.folder import NEEDED_TO_PUBLISH, NEEDED_TO_SERVE, ModelFolder

if TYPE_CHECKING:
    from huggingface_hub import HfApi

logger = logging.getLogger(__name__)

# Seconds to wait for the commit of a branch, twice: the app starts within 10 s of a silent Hub.
COMMIT_TIMEOUT = 4.0
# All but plots and event files: the app draws its own figures.
SERVED_FILES = NEEDED_TO_PUBLISH


@dataclass(frozen=True)
class ResolvedModel:
    """A model folder, already checked, and where it is from.

    Attributes:
        name: the Hub id, or the name of the model or run folder.
        folder: the model folder.
        source: "hub", "cache" if the Hub failed, "embedded" or "folder".
        revision: the commit on the Hub, None for a folder.
        reason: why it comes from the cache, None if it does not.
    """

    name: str
    folder: ModelFolder
    source: str
    revision: str | None = None
    reason: str | None = None


def pull(repo_id: str, *, revision: str | None = None) -> ResolvedModel:
    """Downloads and checks the files for serving a model; uses the cache if the Hub fails.

    Args:
        repo_id: user/name.
        revision: a branch, tag or commit; main if not given.

    Raises:
        InputError: the model does not exist on the Hub, access is denied, or it cannot be loaded.
        HubError: the Hub fails and the revision is not in the cache.
    """
    try:
        commit = commit_at(connect(), repo_id, revision)
        # By commit: the branch in the cache still points to the last complete model.
        folder = _download(repo_id, commit)
    except InputError:
        raise
    except Exception as error:
        return _from_cache(repo_id, revision, error)
    with contextlib.suppress(Exception):  # lets the branch in the cache point to this commit
        _download(repo_id, revision)
    return ResolvedModel(repo_id, folder, "hub", commit)


def commit_at(api: HfApi, repo_id: str, revision: str | None = None) -> str:
    """Returns the commit that a branch or tag of a model on the Hub points to.

    Raises:
        InputError: there is no such model, access is denied, or it is not a model folder.
        Exception: any error of the client, if the Hub cannot be reached.
    """
    try:
        info = with_retries(
            lambda: api.model_info(repo_id, revision=revision, timeout=COMMIT_TIMEOUT), attempts=2
        )
    except Exception as error:
        if status_of(error) not in MISSING | FORBIDDEN:
            raise
        raise InputError(
            f"there is no folder {repo_id} here, and no accessible model {repo_id}@"
            f"{revision or 'main'} on the Hub ({describe(error)}): check the spelling; if it is "
            "private or gated, accept its terms and log in with `hf auth login`"
        ) from error
    missing = set(NEEDED_TO_SERVE) - {file.rfilename for file in info.siblings or []}
    if missing:
        raise InputError(
            f"{repo_id} on the Hub is not a model folder: it lacks {', '.join(sorted(missing))}"
        )
    return str(info.sha)


def _download(repo_id: str, revision: str | None, *, offline: bool = False) -> ModelFolder:
    from huggingface_hub import snapshot_download

    path = snapshot_download(
        repo_id, revision=revision, allow_patterns=list(SERVED_FILES), local_files_only=offline
    )
    folder = ModelFolder(Path(path))
    folder.check()
    return folder


def _from_cache(repo_id: str, revision: str | None, error: Exception) -> ResolvedModel:
    reason, name = describe(error), f"{repo_id}@{revision or 'main'}"
    try:
        folder = _download(repo_id, revision, offline=True)
    except (OSError, ClassifierError):
        raise HubError(
            f"cannot get {name} from the Hub ({reason}), and in the local cache it is missing or "
            "incomplete: check the network and try again"
        ) from error
    logger.warning("%s: using commit %s from the cache (%s)", name, folder.path.name[:7], reason)
    return ResolvedModel(repo_id, folder, "cache", folder.path.name, reason)
