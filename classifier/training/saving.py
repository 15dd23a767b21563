"""Writes the files of the model folder: model, weights, history and JSON."""

import csv
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import keras
import numpy as np

from classifier.architectures import build_network
from classifier.architectures.views import average_views
from classifier.errors import InputError
from classifier.model_folder.folder import CONFIG, METADATA, WEIGHTS
from classifier.model_folder.saved_model import MAX_PARAMETERS, for_older_keras
from classifier.settings import Settings
from classifier.training.pruning import prune

SIGNIFICANT_BITS, STEPS = 7, 64  # of weights that are stored as float16
COMPRESSION = {"compression": "gzip", "compression_opts": 9, "shuffle": True}


def exportable(
    network: keras.Model,
    settings: Settings,
    *,
    mean: np.ndarray,
    deviation: np.ndarray,
    others: Sequence[keras.Model] = (),
) -> keras.Model:
    """Rebuilds a trained network in float32, with the test-time augmentation of the settings.

    Mean and deviation, float32, (3,), are the network's normalisation. The predictions of other
    networks are averaged with its own.
    """
    classes = network.output_shape[-1]
    keras.config.set_dtype_policy("float32")
    plain = build_network(settings, classes=classes, mean=mean, deviation=deviation)
    plain.set_weights(network.get_weights())
    if settings.prune_threshold:
        prune(plain, settings)
    return average_views([plain, *others], settings)


def check_exportable(network: keras.Model) -> None:
    """Raises `InputError`, before a training, for a network that a model folder cannot hold."""
    if network.count_params() > MAX_PARAMETERS:
        raise InputError(
            f"{network.count_params():,} parameters are too many: choose a smaller network: lower "
            "hidden_units, width, channels or local_units"
        )


def save_model(network: keras.Model, folder: Path, *, half: bool = False) -> None:
    """Writes `config.json`, `metadata.json` and `model.weights.h5`, uncompiled.

    With `half` the weights are stored as float16, rounded for better compression; Keras loads them
    as float32. Other files in the folder stay.
    """
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        network.save(temporary, zipped=False)
        written = Path(temporary)
        config = json.loads((written / CONFIG).read_text(encoding="utf-8"))
        (written / CONFIG).write_text(json.dumps(for_older_keras(config)), encoding="utf-8")
        if half:
            _halve(written / WEIGHTS)
        for name in (CONFIG, METADATA, WEIGHTS):  # not the empty folder `assets`
            (written / name).rename(folder / name)


def write_history(rows: list[dict[str, float]], path: Path) -> None:
    """Writes one row per epoch as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["epoch"])
        writer.writeheader()
        writer.writerows(rows)


def _halve(path: Path) -> None:
    halved = path.with_suffix(".half")
    with h5py.File(path, "r") as source, h5py.File(halved, "w") as target:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Group):
                new = target.require_group(name)
            elif item.dtype == np.float32:
                rounded = _rounded(item[()]).astype("float16")
                options = COMPRESSION if item.ndim else {}
                new = target.create_dataset(name, data=rounded, **options)
            else:
                new = target.create_dataset(name, data=item[()])
            new.attrs.update(item.attrs)

        target.attrs.update(source.attrs)
        source.visititems(copy)
    halved.replace(path)


def _rounded(weights: np.ndarray) -> np.ndarray:
    """Rounds to `SIGNIFICANT_BITS`, and kernels to 1/`STEPS` of their standard deviation."""
    mantissa, exponent = np.frexp(weights)
    scale = 2.0**SIGNIFICANT_BITS
    rounded = np.ldexp(np.rint(mantissa * scale) / scale, exponent)
    spread = float(weights.std()) if weights.ndim > 1 else 0.0
    if not spread:
        return rounded
    step = 2.0 ** math.floor(math.log2(spread)) / STEPS
    return np.rint(rounded / step) * step
