"""Makes complete model folders in a moment: a tiny network that answers what it is built to."""

import json
import os
from pathlib import Path

import numpy as np

from classifier.hub import card
from classifier.model_folder.folder import (
    EVALUATION,
    HISTORY,
    PLOTS,
    PREDICTIONS,
    TRAINING,
    ClassNames,
    ModelFolder,
)
from classifier.model_folder.saved_model import for_older_keras

CLASSES = ("apple", "bridge", "cloud", "dolphin", "elephant", "fox")
SUPERCLASSES = ("animals", "things")
SUPERCLASS_OF = (1, 1, 1, 0, 0, 0)
LABELS = ClassNames("shapes", CLASSES, SUPERCLASSES, SUPERCLASS_OF)


def make_model_folder(
    path: Path, *, right: int = 50, preset: str = "tiny", units: int = 8, size: int = 32
) -> ModelFolder:
    """Writes a complete model folder whose test of 60 images has `right` right answers.

    Args:
        path: the folder to make.
        right: out of 60.
        preset: the name of the recipe.
        units: width of the hidden layer: another one gives other weights.
        size: side of the images, in pixels.
    """
    path.mkdir(parents=True)
    _write_network(path, units, size)
    LABELS.write(path)
    write_json(path / TRAINING, training_record(preset, units))
    rows = ["epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds"]
    rows += [f"{epoch},{2 / epoch},0.5,{2.1 / epoch},0.4,0.01,1.5" for epoch in (1, 2, 3)]
    (path / HISTORY).write_text("\n".join(rows) + "\n", encoding="utf-8")
    write_figures(path, right)
    (path / PLOTS).mkdir()
    for name in ("confusion_matrix", "training"):
        _write_plot(path / PLOTS / f"{name}.png")
    card.write(ModelFolder(path))
    return ModelFolder(path)


def write_figures(path: Path, right: int) -> None:
    """Writes `predictions.npz` with so many right answers, and the report that follows from it."""
    from evaluation.report import summarise

    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(6, dtype="int32"), 10)
    answers = np.where(np.arange(60) < right, labels, (labels + 1) % 6)
    probabilities = random.uniform(0, 0.1, (60, 6))
    probabilities[np.arange(60), answers] = 1
    probabilities = (probabilities / probabilities.sum(1, keepdims=True)).astype("float16")
    np.savez_compressed(path / PREDICTIONS, probabilities=probabilities, labels=labels)
    evaluation = summarise(probabilities, labels, LABELS)
    write_json(path / EVALUATION, {**evaluation, "dataset": "shapes", "dataset_revision": None})


def training_record(preset: str = "tiny", units: int = 8) -> dict[str, object]:
    """Returns what `training.json` holds after a training."""
    return {
        "preset": preset,
        "settings": {
            "preset": preset,
            "architecture": "mlp",
            "hidden_units": [units],
            "optimizer": "sgd",
            "schedule": "plateau",
            "learning_rate": 0.01,
            "batch_size": 32,
            "a_setting_of_tomorrow": 0.125,
        },
        "seed": 3,
        "epochs_run": 3,
        "best_epoch": 2,
        "wall_seconds": 5400.0,
        "dataset": {"id": "shapes", "revision": None, "fingerprint": "abc123"},
        "git_commit": "0" * 40,
        "versions": {"python": "3.11.9", "keras": "3.15.1"},
        "machine": {"processor": "Testprocessor 9000", "cores": 2, "accelerator": None},
        "parameters": 24646,
        "flops_per_image": 49248,
        "train_top1": 0.95,
        "validation_top1": 0.7,
        "temperature": 1.25,
        "command": "python train.py --preset tiny",
        "date": "2026-11-23",
    }


def write_json(path: Path, content: object) -> None:
    """Writes a value as JSON."""
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_network(path: Path, units: int, size: int) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    keras.utils.set_random_seed(units)
    images = keras.Input((size, size, 3), name="images")
    pixels = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    hidden = keras.layers.Dense(units, activation="relu")(pixels)
    answer = keras.layers.Dense(6, activation="softmax")(hidden)
    keras.Model(images, answer).save(path, zipped=False)
    config = path / "config.json"
    write_json(config, for_older_keras(json.loads(config.read_text(encoding="utf-8"))))


def _write_plot(path: Path) -> None:
    from PIL import Image

    Image.effect_noise((64, 64), 30).save(path)
