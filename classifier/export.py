"""From a trained network to the files of the model folder that describe it and its training."""

import csv
import json
import os
import platform
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from classifier import precision
from classifier.architectures import build_network
from classifier.errors import InputError
from classifier.model_folder import CONFIG, WEIGHTS
from classifier.saved_model import for_older_keras
from classifier.settings import Settings

SAVED_FILES = (CONFIG, "metadata.json", WEIGHTS)
LIBRARIES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "h5py", "datasets")


def exportable(
    network: keras.Model, settings: Settings, *, mean: np.ndarray, deviation: np.ndarray
) -> keras.Model:
    """Rebuilds a trained network in float32, as others load it, and averages views if asked to.

    Args:
        network: from `build_network`, trained in any precision.
        settings: those of the training.
        mean, deviation: float32, (3,): what the network was built with.
    """
    classes = network.output_shape[-1]
    precision.set_policy("float32")
    plain = build_network(settings, classes=classes, mean=mean, deviation=deviation)
    plain.set_weights(network.get_weights())
    return average_flip(plain) if settings.average_flip else plain


def average_flip(network: keras.Model) -> keras.Model:
    """Builds the network that answers with the mean of an image's and its mirror image's answers.

    A dense layer on mirrored pixels is the dense layer with mirrored weights on the pixels as they
    are: the second branch needs one kernel more and shares everything after it.

    Raises:
        InputError: the network does not begin with a dense layer on flattened pixels.
    """
    flatten = next((x for x in network.layers if isinstance(x, keras.layers.Flatten)), None)
    if flatten is None:
        raise InputError("average_flip needs a network that begins with dense layers on pixels")
    first = network.layers[network.layers.index(flatten) + 1]
    kernel, bias = first.get_weights()
    mirrored = keras.layers.Dense.from_config({**first.get_config(), "name": f"{first.name}_flip"})
    branches = []
    for layer in (first, mirrored):
        tensors = {id(flatten.output): flatten.output}
        for following in network.layers[network.layers.index(first) :]:
            given = following.input
            if isinstance(given, list):
                inputs: Any = [tensors[id(tensor)] for tensor in given]
            else:
                inputs = tensors[id(given)]
            output = (layer if following is first else following)(inputs)
            tensors[id(following.output)] = output
        branches.append(output)
    mirrored.set_weights([kernel.reshape(32, 32, 3, -1)[:, ::-1].reshape(kernel.shape), bias])
    answer = keras.layers.Average(name="mean_of_flips")(branches)
    averaged = keras.Model(network.input, answer, name=network.name)
    # A copy has only the connections of this graph, not those that the layers had before.
    copy = keras.Model.from_config(averaged.get_config())
    copy.set_weights(averaged.get_weights())
    return copy


def save_model(network: keras.Model, folder: Path, *, half: bool = False) -> None:
    """Writes `config.json`, `metadata.json` and `model.weights.h5`, uncompiled.

    Args:
        network: in float32.
        folder: exists; other files in it stay.
        half: store the weights as float16, packed; Keras loads them as float32.
    """
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        network.save(temporary, zipped=False)
        written = Path(temporary)
        config = json.loads((written / CONFIG).read_text(encoding="utf-8"))
        (written / CONFIG).write_text(json.dumps(for_older_keras(config)), encoding="utf-8")
        if half:
            _halve(written / WEIGHTS)
        for name in SAVED_FILES:  # and not the empty folder `assets` beside them
            (written / name).rename(folder / name)


def write_history(rows: list[dict[str, float]], path: Path) -> None:
    """Writes one row per epoch as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["epoch"])
        writer.writeheader()
        writer.writerows(rows)


def write_json(content: dict[str, Any], path: Path) -> None:
    """Writes indented JSON; a number that JSON does not know (NaN) raises `ValueError`."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def library_versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that a training depends on."""
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> dict[str, Any]:
    """Returns what the training ran on: processor, cores, accelerator, system."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "accelerator": _accelerator(),
        "system": platform.platform(terse=True),
        "backend": keras.backend.backend(),
    }


def git_commit() -> str | None:
    """Returns the commit that the code stood at, with `-dirty` after it if files had changed."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None


def _halve(path: Path) -> None:
    halved = path.with_suffix(".half")
    with h5py.File(path, "r") as source, h5py.File(halved, "w") as target:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Group):
                new = target.require_group(name)
            elif item.dtype == np.float32:
                packed = {"compression": "gzip", "shuffle": True} if item.ndim else {}
                new = target.create_dataset(name, data=item[()].astype("float16"), **packed)
            else:
                new = target.create_dataset(name, data=item[()])
            new.attrs.update(item.attrs)

        target.attrs.update(source.attrs)
        source.visititems(copy)
    halved.replace(path)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _accelerator() -> str | None:
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        return None if device.platform == "cpu" else device.device_kind
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        return devices[0].name if devices else None
    return None
