"""The files of a model folder as they are published: without local paths and host names."""

import json
import re
from pathlib import Path

from classifier import provenance
from classifier.data.image_formats import PILLOW_FORMATS
from classifier.model_folder.folder import ONNX, PLOTS, RUNS, TOP, TRAINING, ModelFolder
from classifier.model_folder.saved_model import MIN_KERAS_VERSION

CLASSIFIER = Path(__file__).resolve().parents[1]
MIN_PILLOW_VERSION = "11.3.0"  # the first whose wheels read AVIF
OWNED = (f"{PLOTS}/*", f"{RUNS}/*", ONNX)  # deleted on the Hub when the folder no longer has them
# TensorBoard's event files: events.out.tfevents.TIME.HOST.PROCESS.NUMBER.v2
EVENTS = re.compile(r"(events\.out\.tfevents\.\d+)\..+(\.\d+\.\d+(\.v2)?)$")


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
    source = (CLASSIFIER / "data" / "preprocessing.py").read_text(encoding="utf-8")
    preprocessing = source.split('"""', 2)[2].replace(  # without its docstring
        "from classifier.data.image_formats import PILLOW_FORMATS\n",
        f"PILLOW_FORMATS = {PILLOW_FORMATS}\n",
    )
    text = (CLASSIFIER / "hub" / "handler.py").read_text(encoding="utf-8")
    start, end = text.index("# In the published file"), text.index("class EndpointHandler")
    constant = f"TOP = {TOP}  # classes returned without `top_k`"
    return f"{text[:start]}{preprocessing.strip()}\n\n{constant}\n\n\n{text[end:]}"
