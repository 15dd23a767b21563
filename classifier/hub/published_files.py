"""The files of a model folder as they are published: without local paths and host names."""

import json
import re
from pathlib import Path

from classifier import provenance
from classifier.model_folder.folder import ONNX, PLOTS, RUNS, TRAINING, ModelFolder
from classifier.model_folder.saved_model import MIN_KERAS_VERSION

OWNED = (f"{PLOTS}/*", f"{RUNS}/*", ONNX)  # deleted on the Hub when the folder no longer has them
# TensorBoard's event files: events.out.tfevents.TIME.HOST.PROCESS.NUMBER.v2
EVENTS = re.compile(r"(events\.out\.tfevents\.\d+)\..+(\.\d+\.\d+(\.v2)?)$")


def published_files(folder: ModelFolder) -> dict[str, Path | bytes]:
    """Returns the content of each file of a published model, by its path.

    These are the files of the model folder, and those of an Inference Endpoint.
    """
    return {
        **model_files(folder),
        "handler.py": Path(__file__).with_name("handler.py"),
        "requirements.txt": f"keras>={MIN_KERAS_VERSION}\npillow\n".encode(),
    }


def model_files(folder: ModelFolder) -> dict[str, Path | bytes]:
    """Returns the content of the files of a model folder, without local paths and host names."""
    files: dict[str, Path | bytes] = {
        EVENTS.sub(r"\1\2", name): folder.path / name for name in folder.files()
    }
    recorded = (folder.path / TRAINING).read_bytes() if TRAINING in files else b"{}"
    training = json.loads(recorded)
    public = provenance.without_local_paths(training)
    if public != training:
        files[TRAINING] = (json.dumps(public, indent=1, ensure_ascii=False) + "\n").encode()
    return files
