"""Precision-recall, ROC and calibration curves, from scikit-learn, with the areas of `scoring`.

Probabilities are float, (N, C), labels and predictions integers, (N,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from classifier.model_folder.folder import ClassNames
from evaluation import scoring
from evaluation.scoring import CALIBRATION_BINS

# Where curves are averaged and resampled: denser at the left, where ROC curves rise.
_GRID = np.unique(np.concatenate([np.geomspace(1e-4, 1, 201), np.linspace(0, 1, 201)]))


@dataclass(frozen=True)
class Curve:
    """A curve in the unit square with its area under the curve or average precision."""

    x: np.ndarray  # float64, (P,)
    y: np.ndarray  # float64, (P,)
    area: float


@dataclass(frozen=True)
class ClassCurves:
    """One-vs-rest curves of all classes, and their micro and macro averages.

    Attributes:
        classes: one curve per class; None for a class without images.
        micro: the curve of all (image, class) pairs.
        macro: the mean of the classes' curves; its area is the mean of their areas.
    """

    classes: tuple[Curve | None, ...]
    micro: Curve
    macro: Curve


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy in bins of equal width; empty bins hold NaN.

    Attributes:
        edges: the limits of the bins, (bins + 1,).
        confidence: mean probability of the predicted class, (bins,).
        accuracy: accuracy of the predictions, (bins,).
        counts: images per bin, (bins,).
        expected_calibration_error: from `scoring`.
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray
    expected_calibration_error: float


@dataclass(frozen=True)
class Records:
    """The results of a model, from which its figures are drawn.

    Attributes:
        names: the C classes.
        evaluation: the content of `evaluation.json`.
        predictions: the probabilities, float, (N, C), and the labels, (N,).
        history: the rows of `history.csv`.
    """

    names: ClassNames
    evaluation: Mapping[str, Any]
    predictions: tuple[np.ndarray, np.ndarray]
    history: Sequence[Mapping[str, float]] = ()

    @property
    def matrix(self) -> np.ndarray:
        """The confusion matrix: counts, (C, C)."""
        return np.asarray(self.evaluation["confusion_matrix"])

    @cached_property
    def precision_recall(self) -> ClassCurves:
        """The precision-recall curves."""
        return precision_recall_curves(*self.predictions)

    @cached_property
    def roc(self) -> ClassCurves:
        """The ROC curves."""
        return roc_curves(*self.predictions)


def count_superclasses(
    matrix: np.ndarray, superclass_of: Sequence[int], superclasses: int
) -> np.ndarray:
    """Sums a matrix over classes (C, C) into one over superclasses (S, S)."""
    membership = np.eye(superclasses, dtype=np.int64)[list(superclass_of)]
    return membership.T @ np.asarray(matrix) @ membership


def normalise_rows(counts: np.ndarray) -> np.ndarray:
    """Normalises rows to sum to 1; a row without images stays zero."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def by_superclass(names: ClassNames) -> list[int]:
    """Returns the indices of the classes, sorted by superclass."""
    if names.superclass_of is None:
        return list(range(len(names.classes)))
    return np.argsort(names.superclass_of, kind="stable").tolist()


def default_classes(evaluation: Mapping[str, Any] | None) -> tuple[int, ...]:
    """Returns the three best and the three worst classes of an `evaluation.json`, by index.

    Their curves are drawn at first; without an evaluation there are none.
    """
    if evaluation is None:
        return ()
    names = [row["name"] for row in evaluation["per_class"]]
    chosen = [*evaluation["best_classes"][:3], *evaluation["worst_classes"][:3]]
    return tuple(names.index(name) for name in dict.fromkeys(chosen))


def precision_recall_curves(probabilities: ArrayLike, labels: ArrayLike) -> ClassCurves:
    """Precision over recall of every class; the area is the average precision."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    def curve_of(is_class: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        precision, recall, _ = precision_recall_curve(is_class, scores, drop_intermediate=True)
        return recall[::-1], precision[::-1]

    areas = scoring.average_precision(probabilities, labels)
    return _curves(curve_of, average_precision_score, areas, probabilities, labels)


def roc_curves(probabilities: ArrayLike, labels: ArrayLike) -> ClassCurves:
    """True positive rate over false positive rate of every class."""
    from sklearn.metrics import roc_auc_score, roc_curve

    def curve_of(is_class: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return roc_curve(is_class, scores)[:2]

    areas = scoring.roc_auc(probabilities, labels)
    return _curves(curve_of, roc_auc_score, areas, probabilities, labels)


def reliability(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = CALIBRATION_BINS
) -> Reliability:
    """Confidence against accuracy of the predicted class, in bins of equal width from 0 to 1."""
    probabilities = np.asarray(probabilities, np.float64)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == np.asarray(labels)
    edges = np.linspace(0, 1, bins + 1)
    index = np.searchsorted(edges[1:-1], confidence)
    counts = np.bincount(index, minlength=bins)
    sums = np.stack([np.bincount(index, values, bins) for values in (confidence, correct)])
    means = np.where(counts, sums / np.maximum(counts, 1), np.nan)
    error = scoring.expected_calibration_error(probabilities, labels, bins)
    return Reliability(edges, means[0], means[1], counts, error)


def _curves(
    curve_of: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    area_of: Callable[[np.ndarray, np.ndarray], float],
    areas: Mapping[str, Any],
    probabilities: ArrayLike,
    labels: ArrayLike,
) -> ClassCurves:
    """Returns the curves of the classes that have an area, and the averages.

    The areas are a macro average and a list, as from `scoring.roc_auc`.
    """
    macro, area_of_class = areas.values()
    scores = np.asarray(probabilities, np.float32)
    one_hot = np.asarray(labels)[:, None] == np.arange(scores.shape[1])
    curves = tuple(
        None if area is None else Curve(*curve_of(one_hot[:, index], scores[:, index]), area)
        for index, area in enumerate(area_of_class)
    )
    resampled = [np.interp(_GRID, curve.x, curve.y) for curve in curves if curve is not None]
    mean = np.mean(resampled, axis=0) if resampled else np.full_like(_GRID, np.nan)
    x, y = curve_of(one_hot.ravel(), scores.ravel())
    micro = Curve(_GRID, np.interp(_GRID, x, y), float(area_of(one_hot.ravel(), scores.ravel())))
    return ClassCurves(curves, micro, Curve(_GRID, mean, float("nan") if macro is None else macro))
