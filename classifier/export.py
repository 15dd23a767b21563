"""From a trained network to the files of the model folder that describe it and its training."""

import csv
import json
import math
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
from classifier.augmentation import SIZE, sampling_matrix
from classifier.errors import InputError
from classifier.model_folder import CONFIG, WEIGHTS
from classifier.optimizers import SPARSE_LAYERS
from classifier.saved_model import for_older_keras
from classifier.settings import Settings

SIGNIFICANT_BITS, STEPS = 7, 64  # of weights that are stored in half precision
PACKING = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
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
    if settings.average_flip or settings.average_zoom < 1:
        plain = average_views(plain, flip=settings.average_flip, zoom=settings.average_zoom)
    if settings.sparsity:
        prune(plain, settings)
    return plain


def prune(network: keras.Model, settings: Settings) -> None:
    """Sets to zero the weights that the pressure to few weights leaves behind at its end.

    The threshold of `AdamW` falls with the learning rate, and lets ever smaller weights leave zero;
    here the one at the highest learning rate is applied once more.
    """
    smallest = settings.sparsity * settings.learning_rate
    for layer in network.layers:
        if layer.name.startswith(SPARSE_LAYERS) and isinstance(layer, keras.layers.Dense):
            kernel = keras.ops.convert_to_numpy(layer.kernel)
            layer.kernel.assign(np.where(np.abs(kernel) < smallest, 0.0, kernel))


def average_views(network: keras.Model, *, flip: bool = False, zoom: float = 1.0) -> keras.Model:
    """Builds the network that answers with the mean of its answers to several views of an image.

    Mirroring and zooming are linear: a dense layer on a changed image is a dense layer with changed
    weights on the image as it is. Each further view needs one kernel more and shares all layers
    after it.

    Args:
        network: one that begins with a dense layer on flattened pixels.
        flip: whether to take each view mirrored, too.
        zoom: also look at the middle of the image, this share of its side, enlarged; 1: do not. A
            network that was trained on zoomed crops knows objects larger than they are in whole
            images (Touvron et al., "Fixing the train-test resolution discrepancy", 2019).

    Raises:
        InputError: the network does not begin with a dense layer on flattened pixels.
    """
    flatten = next((x for x in network.layers if isinstance(x, keras.layers.Flatten)), None)
    if flatten is None:
        raise InputError("average_flip and average_zoom need a network of dense layers on pixels")
    first = network.layers[network.layers.index(flatten) + 1]
    weights = []
    answers: list[keras.KerasTensor] = []
    for extent in dict.fromkeys((1.0, zoom)):
        for mirrored in (False, True) if flip else (False,):
            name = f"{first.name}_{len(answers)}"
            view = keras.layers.Dense.from_config({**first.get_config(), "name": name})
            answers.append(_branch(network, flatten, first, view))
            weights.append((view, _kernel_of_view(first.kernel, extent, mirrored)))
    for view, kernel in weights:
        view.set_weights([kernel, first.bias])
    answer = keras.layers.Average(name="mean_of_views")(answers)
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
        half: store the weights as float16, rounded so that they pack better; Keras loads them as
            float32.
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


def _branch(
    network: keras.Model,
    flatten: keras.layers.Layer,
    first: keras.layers.Layer,
    view: keras.layers.Layer,
) -> keras.KerasTensor:
    """Calls `view` in the place of the first dense layer, and all layers after it once more."""
    tensors = {id(first.output): view(flatten.output)}
    output = tensors[id(first.output)]
    for layer in network.layers[network.layers.index(first) + 1 :]:
        given = layer.input
        if isinstance(given, list):
            output = layer([tensors[id(tensor)] for tensor in given])
        else:
            output = layer(tensors[id(given)])
        tensors[id(layer.output)] = output
    return output


def _kernel_of_view(kernel: Any, extent: float, mirrored: bool) -> np.ndarray:
    """Returns the kernel that does to the image what `kernel` does to a view of it."""
    start, length = np.array([[(1 - extent) * SIZE / 2], [extent]], "float32")
    rows, columns = (
        keras.ops.convert_to_numpy(
            sampling_matrix(start, length, np.array([backwards], "float32"))
        )[0]
        for backwards in (False, mirrored)
    )
    pixels = keras.ops.convert_to_numpy(kernel).reshape(SIZE, SIZE, 3, -1)
    seen = np.einsum("ij,ilcu->jlcu", rows, pixels)
    return np.einsum("lk,jlcu->jkcu", columns, seen).reshape(SIZE * SIZE * 3, -1)


def _halve(path: Path) -> None:
    halved = path.with_suffix(".half")
    with h5py.File(path, "r") as source, h5py.File(halved, "w") as target:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Group):
                new = target.require_group(name)
            elif item.dtype == np.float32:
                rounded = _rounded(item[()]).astype("float16")
                packed = PACKING if item.ndim else {}
                new = target.create_dataset(name, data=rounded, **packed)
            else:
                new = target.create_dataset(name, data=item[()])
            new.attrs.update(item.attrs)

        target.attrs.update(source.attrs)
        source.visititems(copy)
    halved.replace(path)


def _rounded(weights: np.ndarray) -> np.ndarray:
    """Rounds to `SIGNIFICANT_BITS`, and kernels to `STEPS` steps in their deviation at most."""
    mantissa, exponent = np.frexp(weights)
    scale = 2.0**SIGNIFICANT_BITS
    rounded = np.ldexp(np.rint(mantissa * scale) / scale, exponent)
    spread = float(weights.std()) if weights.ndim > 1 else 0.0
    if not spread:
        return rounded
    step = 2.0 ** math.floor(math.log2(spread)) / STEPS
    return np.rint(rounded / step) * step


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
