"""Resolves the `SOURCE` of a command: a local model folder or a model on the Hub."""

from pathlib import Path

from classifier.errors import InputError
from classifier.hub.pulling import ResolvedModel, pull
from classifier.hub_client import is_hub_id
from classifier.model_folder.folder import CONFIG, LABELS, ModelFolder

HUB_SCHEME = "hf://"
PRETRAINED = Path(__file__).resolve().parents[2] / "pretrained"


def locate(source: str, *, revision: str | None = None) -> ResolvedModel:
    """Resolves a source to a model folder and its origin.

    Args:
        source: a model folder, a run folder with `model/` in it, a Hub id (`user/name`), or
            `hf://user/name`; both may end with `@revision`.
        revision: of a model on the Hub: a branch, a tag or a commit; by default that of the source.

    Raises:
        InputError: there is no such folder or model on the Hub, or a folder was given a revision.
        ClassifierError: the Hub cannot be reached, and the model is not in the cache.
    """
    local = local_folder(source)
    if local is not None:
        if revision is not None:
            raise InputError(f"{source} is a folder: a revision is for models on the Hub")
        local.check()
        path = local.path.resolve()
        name = path.parent.name if path.name == "model" else path.name
        return ResolvedModel(name, local, "embedded" if path.parent == PRETRAINED else "folder")
    name, stated = parse_hub_id(source)
    return pull(name, revision=revision or stated)


def embedded_models(folder: Path = PRETRAINED) -> list[ModelFolder]:
    """Returns the model folders in the repository, sorted by name."""
    return [ModelFolder(path.parent) for path in sorted(folder.glob(f"*/{CONFIG}"))]


def local_folder(source: str) -> ModelFolder | None:
    """Returns the model folder of a local folder, None for any other source.

    Raises:
        InputError: the folder exists, but is neither a model folder nor a run folder.
    """
    path = Path(source).expanduser()
    if not path.exists() and path.parts[:1] == (PRETRAINED.name,):
        path = PRETRAINED.parent / path  # the embedded models, from any working directory
    if source.startswith(HUB_SCHEME) or not source or not path.exists():
        return None
    if not path.is_dir():
        raise InputError(f"{source} is a file: name the model folder that contains it")
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file() or (folder / LABELS).is_file():
            return ModelFolder(folder)
    raise InputError(
        f"{source} contains no model: name a model folder, or a run folder with a finished model/"
    )


def parse_hub_id(source: str) -> tuple[str, str | None]:
    """Returns the Hub id and the revision of a source that is not a folder, else `InputError`."""
    name, _, revision = source.removeprefix(HUB_SCHEME).partition("@")
    name = name.strip("/")
    if name.count("/") != 1 or not is_hub_id(name):
        raise InputError(
            f"{source!r} is neither a local folder nor a Hub id: name a model folder, user/name or "
            "user/name@revision"
        )
    return name, revision or None
