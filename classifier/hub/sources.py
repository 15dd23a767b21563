"""Finds the model folder that a user names: a folder of this machine, or a model on the Hub."""

import logging
from pathlib import Path

from classifier.errors import InputError
from classifier.model_folder.folder import CONFIG, LABELS, ModelFolder

HUB_SCHEME = "hf://"
PRETRAINED = Path(__file__).resolve().parents[2] / "pretrained"

logger = logging.getLogger(__name__)


def find(source: str, *, revision: str | None = None) -> ModelFolder:
    """Returns the model folder that a `SOURCE` names, checked.

    Args:
        source: a model folder, a run folder with `model/` in it, a Hub id (`user/name`), or
            `hf://user/name`.
        revision: of a model on the Hub: a branch, a tag or a commit.

    Raises:
        InputError: there is no such folder, or no such model on the Hub; a folder has no revision.
        ClassifierError: the Hub cannot be reached, and the model is not in the cache.
    """
    local = local_folder(source)
    if local is not None:
        if revision is not None:
            raise InputError(f"{source} is a folder: a revision is for models on the Hub")
        local.check()
        return local
    from classifier.hub.connection import ModelNotFoundError
    from classifier.hub.pulling import pull

    try:
        pulled = pull(hub_id(source), revision=revision, timeout=None)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"there is no folder {source!r} here, and {error}") from error
    if pulled.reason:
        logger.warning(
            "%s: using commit %s from the cache (%s)", source, pulled.commit[:7], pulled.reason
        )
    return pulled.folder


def embedded_models() -> list[ModelFolder]:
    """Returns the model folders that lie in the repository, by name."""
    return [ModelFolder(path.parent) for path in sorted(PRETRAINED.glob(f"*/{CONFIG}"))]


def local_folder(source: str) -> ModelFolder | None:
    """Returns the model folder if the source is a folder of this machine, None otherwise.

    Raises:
        InputError: it is there, but neither a model folder nor a run folder.
    """
    path = Path(source).expanduser()
    if not path.exists() and path.parts[:1] == (PRETRAINED.name,):
        path = PRETRAINED.parent / path  # the embedded models, from any working directory
    if source.startswith(HUB_SCHEME) or not source or not path.exists():
        return None
    if not path.is_dir():
        raise InputError(f"{source} is a file: name the model folder that it lies in")
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file() or (folder / LABELS).is_file():
            return ModelFolder(folder)
    raise InputError(
        f"{source} holds no model: name a model folder, or a run folder with a finished model/"
    )


def hub_id(source: str) -> str:
    """Returns the `user/name` of a source that is no folder; raises `InputError` if it is none."""
    from classifier.hub.access import check_repo_id

    name = source.removeprefix(HUB_SCHEME).strip("/")
    try:
        return check_repo_id(name, "the source")
    except InputError:
        raise InputError(
            f"{source!r} is neither a folder of this machine nor a model on the Hub: name a model "
            "folder, or user/name"
        ) from None
