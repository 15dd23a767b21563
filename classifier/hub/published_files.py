"""The files that are uploaded: of a model, and of a Space with the packages of the project."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from classifier import provenance
from classifier.data.image_formats import PILLOW_FORMATS
from classifier.hub.pulling import SERVED_FILES
from classifier.hub.sources import embedded_models, local_folder, parse_hub_id
from classifier.model_folder.folder import ONNX, PLOTS, RUNS, TOP, TRAINING, ModelFolder
from classifier.model_folder.saved_model import MIN_KERAS_VERSION

if TYPE_CHECKING:
    from huggingface_hub import RepoCard

PROJECT = Path(__file__).resolve().parents[2]
MIN_PILLOW_VERSION = "11.3.0"  # the first whose wheels read AVIF
OWNED = (f"{PLOTS}/*", f"{RUNS}/*", ONNX)  # deleted on the Hub when the folder no longer has them
# TensorBoard's event files: events.out.tfevents.TIME.HOST.PROCESS.NUMBER.v2
EVENTS = re.compile(r"(events\.out\.tfevents\.\d+)\..+(\.\d+\.\d+(\.v2)?)$")
SDKS = ("gradio", "static")
README = "README.md"
REQUIREMENTS = "requirements.txt"
SINGLE_FILES = ("app.py", README, REQUIREMENTS, "LICENSE")
PACKAGES = ("classifier", "evaluation", "interface")
NOT_UPLOADED = (".pyc", ".tmp", ".log")
# ZeroGPU offers Python 3.10.13 and 3.12.12 and brings these packages itself: pins of them break the
# start (Hub documentation, Spaces ZeroGPU, August 2026).
ZERO_GPU = "zero-a10g"
ZERO_GPU_PYTHON = "3.12"
ZERO_GPU_PACKAGES = ("gradio", "spaces", "huggingface_hub")


def published_files(folder: ModelFolder) -> dict[str, Path | bytes]:
    """Returns the content of each file of a published model, by its path.

    These are the files of the model folder, and those of an Inference Endpoint.
    """
    return {
        **model_files(folder),
        "handler.py": handler().encode(),
        "requirements.txt": f"keras>={MIN_KERAS_VERSION}\npillow>={MIN_PILLOW_VERSION}\n".encode(),
    }


def model_files(folder: ModelFolder) -> dict[str, Path | bytes]:
    """Returns the content of the files of a model folder, without local paths and host names."""
    files: dict[str, Path | bytes] = {
        EVENTS.sub(r"\1\2", name): folder.path / name for name in folder.files()
    }
    public = provenance.without_local_paths(folder.training)
    if public != folder.training:
        files[TRAINING] = (json.dumps(public, indent=1, ensure_ascii=False) + "\n").encode()
    return files


def handler() -> str:
    """Returns the handler as it is published: with the code that it imports from this project."""
    source = (PROJECT / "classifier" / "data" / "preprocessing.py").read_text(encoding="utf-8")
    preprocessing = source.split('"""', 2)[2].replace(  # without its docstring
        "from classifier.data.image_formats import PILLOW_FORMATS\n",
        f"PILLOW_FORMATS = {PILLOW_FORMATS}\n",
    )
    text = (PROJECT / "classifier" / "hub" / "handler.py").read_text(encoding="utf-8")
    start, end = text.index("# In the published file"), text.index("class EndpointHandler")
    constant = f"TOP = {TOP}  # classes returned without `top_k`"
    return f"{text[:start]}{preprocessing.strip()}\n\n{constant}\n\n\n{text[end:]}"


def gradio_files(models: Sequence[str], *, zero_gpu: bool = False) -> dict[str, Path | bytes]:
    """Returns the content of every file that the app needs, by its path in the Space.

    Args:
        models: user/name of the models to serve; the README names and preloads them.
        zero_gpu: whether the Space runs on ZeroGPU.
    """
    files: dict[str, Path | bytes] = {name: PROJECT / name for name in SINGLE_FILES}
    for package in PACKAGES:
        for path in sorted((PROJECT / package).rglob("*")):
            name = path.relative_to(PROJECT).as_posix()
            if path.is_file() and "/." not in name and path.suffix not in NOT_UPLOADED:
                files[name] = path
    # What the app compares, and the embedded models.
    files |= {f"pretrained/{path.name}": path for path in (PROJECT / "pretrained").glob("*.json")}
    for model in embedded_models():
        for name, content in model_files(model).items():
            files[f"pretrained/{model.path.name}/{name}"] = content
    card = _readme()
    card.data["models"] = list(models)
    card.data["preload_from_hub"] = [f"{model} {','.join(SERVED_FILES)}" for model in models]
    if zero_gpu:
        card.data["python_version"] = ZERO_GPU_PYTHON
        requirements = (PROJECT / REQUIREMENTS).read_text(encoding="utf-8")
        files[REQUIREMENTS] = zero_gpu_requirements(requirements).encode()
    files[README] = str(card).encode()
    return files


def static_readme(models: Sequence[str]) -> bytes:
    """Returns the README of a static Space, whose metadata configures it.

    It says nothing of CIFAR-100: the models may be of other images.
    """
    card = _readme()
    for name in ("sdk_version", "python_version", "datasets", "short_description"):
        card.data.pop(name, None)
    card.data["title"] = title = "Image classification in the browser"
    card.data["tags"] = ["keras", "image-classification"]
    card.data["sdk"], card.data["app_file"] = "static", "index.html"
    on_hub = [model for model in models if local_folder(model) is None]
    card.data["models"] = [parse_hub_id(model)[0] for model in on_hub]
    card.text = f"\n# {title}\n\nA page of plain files: pictures are classified in the browser.\n"
    return str(card).encode()


def zero_gpu_requirements(requirements: str) -> str:
    """Returns the requirements without what ZeroGPU brings; what its extras add is listed."""
    kept = []
    lines = [line.partition("#")[0].strip() for line in requirements.splitlines()]
    for requirement in map(Requirement, filter(None, lines)):
        if requirement.name not in ZERO_GPU_PACKAGES:
            kept.append(str(requirement))
        for extra in requirement.extras:
            for item in map(Requirement, metadata.requires(requirement.name) or []):
                if item.marker and f"extra == {extra!r}" in str(item.marker).replace('"', "'"):
                    kept.append(f"{item.name}=={metadata.version(item.name)}")
    return "\n".join(kept) + "\n"


def _readme() -> RepoCard:
    from huggingface_hub import RepoCard

    return RepoCard((PROJECT / README).read_text(encoding="utf-8"))
