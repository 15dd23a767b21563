"""The evaluation report: computes its figures and writes its files."""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.data.labelled_images import LabelledImages
from classifier.data.loading import find_duplicates, load_split, source_of
from classifier.errors import ClassifierError, InputError
from classifier.files import require_writable, write_atomically
from classifier.model_folder.folder import EVALUATION, PLOTS, PREDICTIONS, ClassNames, ModelFolder
from evaluation import plots, scoring
from evaluation.curves import Records
from evaluation.metrics import METRICS, Predictions
from evaluation.samples import stratified_subset, to_float16

if TYPE_CHECKING:
    from classifier.prediction.classifier import Classifier

CONFIDENCE_LEVEL = 0.95
RANKED_CLASSES = 10  # best and worst classes in the report
CONFUSED_PAIRS = 20


def evaluate(
    folder: ModelFolder,
    split: LabelledImages,
    *,
    split_name: str = "test",
    training_split: LabelledImages | None = None,
    limit: int | None = None,
    output: Path | None = None,
) -> dict[str, Any]:
    """Evaluates a model on a split; writes `evaluation.json`, `predictions.npz` and `plots/`.

    All files are created before the first one is written, and each is replaced atomically.

    Args:
        folder: the model folder.
        split: the images; their classes are matched with the model's by name.
        split_name: the name of the split in the report.
        training_split: the training images; without them duplicates are not counted.
        limit: the number of images to evaluate, chosen by `samples.stratified_subset`.
        output: the output folder, created if missing; by default the model folder.

    Returns:
        The content of `evaluation.json`.

    Raises:
        InputError: images of other classes than the model's, or `output` cannot be written to.
        ClassifierError: the files cannot be written.
    """
    split = split.to_classes(folder.labels.classes)
    target = folder.path if output is None else Path(output)
    require_writable(target)
    chosen = stratified_subset(split.labels, limit)
    images, labels = split.images[chosen], split.labels[chosen]
    probabilities = to_float16(_load(folder).probabilities(images))
    duplicates = None
    if training_split is not None:
        duplicates = find_duplicates(images, training_split.images)
    evaluation = {
        **summarise(probabilities, labels, folder.labels, split=split_name, duplicates=duplicates),
        "train_top1": folder.training.get("train_top1"),
        "dataset": split.dataset,
        "dataset_revision": split.revision,
        "dataset_fingerprint": split.fingerprint,
        "limit": limit if len(chosen) < len(split.labels) else None,
    }
    _write(target, _files(folder, evaluation, probabilities, labels))
    return evaluation


def summarise(
    probabilities: np.ndarray,
    labels: np.ndarray,
    names: ClassNames,
    *,
    split: str = "test",
    duplicates: Sequence[int] | np.ndarray | None = None,
) -> dict[str, Any]:
    """Computes the content of `evaluation.json`, but for the data set, from predictions alone.

    The probabilities are rounded to float16, as in `predictions.npz`: the figures can be recomputed
    from it. Classes without images have None for figures and are excluded from the macro averages.
    The accuracy of a class is its recall. No value is NaN.

    Args:
        probabilities: float, (N, C).
        labels: integers, (N,).
        names: the names of the C classes and their superclasses.
        split: the name of the split.
        duplicates: indices of the images that are also training images; None if not counted.

    Raises:
        InputError: the arrays do not match each other or the names, or are not finite.
    """
    _check_predictions(probabilities, labels, names)
    found = Predictions(to_float16(probabilities).astype(np.float32), np.asarray(labels), names)
    matrix = scoring.confusion_matrix(labels, found.answers, len(names.classes))
    per_class = _per_class(found)
    ranking = _ranking(per_class)
    shown = min(RANKED_CLASSES, math.ceil(len(ranking) / 2))
    return {
        "split": split,
        "samples": len(labels),
        **{
            key: _rounded(metric.compute(found))
            for key, metric in METRICS.items()
            if metric.compute is not None
        },
        "top1_interval": top1_interval(int(np.trace(matrix)), len(labels)),
        "interval_method": f"Wilson score interval, {CONFIDENCE_LEVEL:.0%}",
        **_without_duplicates(found.answers == labels, duplicates),
        "per_class": per_class,
        "best_classes": ranking[:shown],
        "worst_classes": ranking[::-1][:shown],
        "most_confused": _most_confused(matrix, names.classes),
        "confusion_matrix": matrix.tolist(),
    }


def recompute(folder: ModelFolder) -> dict[str, Any]:
    """Recomputes the figures from a folder's `predictions.npz`; empty without the file."""
    predictions = folder.predictions()
    return summarise(*predictions, folder.labels) if predictions else {}


def measure_again(folder: ModelFolder, options: argparse.Namespace) -> dict[str, Any]:
    """Evaluates a folder's model again on the split that its `evaluation.json` names.

    The data are those of the options of `add_data_arguments`.
    """
    name = (folder.evaluation or {}).get("split", "test")
    source = source_of(options, folder.training.get("dataset", {}), size=folder.image_size)
    split = load_split(source, name, size=folder.image_size)
    split = split.to_classes(folder.labels.classes)
    return summarise(_load(folder).probabilities(split.images), split.labels, folder.labels)


def _check_predictions(probabilities: np.ndarray, labels: np.ndarray, names: ClassNames) -> None:
    classes = len(names.classes)
    if np.shape(probabilities) != (len(labels), classes) or not len(labels):
        raise InputError(
            f"predictions of shape (N, {classes}) with N labels, at least one, are wanted. "
            f"Received: {np.shape(probabilities)} and {len(labels)} labels"
        )
    if not np.isfinite(probabilities).all():
        raise InputError("the model's probabilities are not finite numbers: it cannot be evaluated")
    if np.min(labels) < 0 or np.max(labels) >= classes:
        raise InputError(f"labels must lie in 0 to {classes - 1} for a model of {classes} classes")


def _per_class(found: Predictions) -> list[dict[str, Any]]:
    """Returns the figures of each class."""
    figures = {**found.per_class, "accuracy": found.per_class["recall"]}
    columns = ("accuracy", "precision", "recall", "f1", "average_precision", "roc_auc")
    return [
        {
            "name": name,
            "support": int(figures["support"][index]),
            **{column: _rounded(figures[column][index]) for column in columns},
        }
        for index, name in enumerate(found.names.classes)
    ]


def _ranking(per_class: list[dict[str, Any]]) -> list[str]:
    """Returns the classes with images, best first: by accuracy, F1 and average precision."""
    present = [row for row in per_class if row["support"]]
    present.sort(key=lambda row: (row["accuracy"], row["f1"], row["average_precision"]))
    return [row["name"] for row in reversed(present)]


def _most_confused(matrix: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    mistakes = matrix * ~np.eye(len(matrix), dtype=bool)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:CONFUSED_PAIRS]
    pairs = zip(*np.unravel_index(order, matrix.shape), strict=True)
    return [
        {
            "true": classes[true],
            "predicted": classes[predicted],
            "count": int(mistakes[true, predicted]),
        }
        for true, predicted in pairs
        if mistakes[true, predicted]
    ]


def _without_duplicates(
    correct: np.ndarray, duplicates: Sequence[int] | np.ndarray | None
) -> dict[str, Any]:
    if duplicates is None:
        return {"duplicates": None, "top1_without_duplicates": None, "duplicate_indices": None}
    rest = np.delete(correct, np.asarray(duplicates, np.int64))
    return {
        "duplicates": len(duplicates),
        "top1_without_duplicates": _rounded(rest.mean()) if len(rest) else None,
        "duplicate_indices": [int(index) for index in duplicates],
    }


def top1_interval(correct: int, samples: int) -> list[float]:
    """Returns the 95% Wilson score interval of an accuracy; there is at least one sample."""
    from scipy.stats import binomtest

    interval = binomtest(correct, samples).proportion_ci(CONFIDENCE_LEVEL, method="wilson")
    return [round(float(interval.low), 6), round(float(interval.high), 6)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)


def _load(folder: ModelFolder) -> Classifier:
    # Imported here: figures of given predictions need no model.
    from classifier.prediction import runtime

    return runtime.load(folder)


def _files(
    folder: ModelFolder, evaluation: dict[str, Any], probabilities: np.ndarray, labels: np.ndarray
) -> dict[str, bytes]:
    """Returns the content of each file by its relative path; the report is the last."""
    predictions = io.BytesIO()
    np.savez_compressed(predictions, probabilities=probabilities, labels=labels.astype(np.int32))
    records = Records(folder.labels, evaluation, (probabilities, labels), folder.history)
    return {
        PREDICTIONS: predictions.getvalue(),
        **{f"{PLOTS}/{name}.png": plots.png(figure) for name, figure in plots.draw_all(records)},
        EVALUATION: as_json(evaluation).encode(),
    }


def as_json(evaluation: dict[str, Any]) -> str:
    """Returns strict JSON with a line per field, and per row of long fields."""
    fields = []
    for name, value in evaluation.items():
        if name in ("per_class", "most_confused", "confusion_matrix") and value:
            rows = ",\n".join("  " + json.dumps(row, allow_nan=False) for row in value)
            text = f"[\n{rows}\n ]"
        else:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        fields.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _write(target: Path, files: dict[str, bytes]) -> None:
    def write_all(folder: Path) -> None:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    try:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, write_all)
            return
        (target / PLOTS).mkdir(exist_ok=True)
        for name, content in files.items():
            write_atomically(target / name, partial(Path.write_bytes, data=content))
        for plot in (f"{PLOTS}/{name}.png" for name in plots.OF_THE_CARD):
            if plot not in files:  # of another model that was written here
                (target / plot).unlink(missing_ok=True)
    except OSError as error:
        raise ClassifierError(f"cannot write the evaluation to {target}: {error}") from error
