"""Precision-recall, ROC and calibration curves and confusion matrices, from scikit-learn.

Probabilities are float, (N, C), labels and predictions integers, (N,).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

CALIBRATION_BINS = 15  # Guo et al. 2017, "On Calibration of Modern Neural Networks"
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
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance between confidence and accuracy, weighted by the images of each bin."""
        distance = np.nan_to_num(np.abs(self.confidence - self.accuracy))
        return float(np.average(distance, weights=self.counts))


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Counts (true class, predicted class) pairs: int64, (classes, classes)."""
    from sklearn.metrics import confusion_matrix as count_pairs

    return count_pairs(labels, predictions, labels=range(classes))


def superclass_confusion_matrix(
    matrix: np.ndarray, superclass_of: Sequence[int], superclasses: int
) -> np.ndarray:
    """Sums a matrix over classes (C, C) into one over superclasses (S, S)."""
    membership = np.eye(superclasses, dtype=np.int64)[list(superclass_of)]
    return membership.T @ np.asarray(matrix) @ membership


def precision_recall_curves(probabilities: ArrayLike, labels: ArrayLike) -> ClassCurves:
    """Precision over recall of every class; the area is the average precision."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    def curve_of(is_class: np.ndarray, scores: np.ndarray) -> Curve:
        precision, recall, _ = precision_recall_curve(is_class, scores, drop_intermediate=True)
        area = float(average_precision_score(is_class, scores))
        return Curve(recall[::-1], precision[::-1], area)

    return _curves(curve_of, probabilities, labels, needs_negatives=False)


def roc_curves(probabilities: ArrayLike, labels: ArrayLike) -> ClassCurves:
    """True positive rate over false positive rate of every class."""
    from sklearn.metrics import auc, roc_curve

    def curve_of(is_class: np.ndarray, scores: np.ndarray) -> Curve:
        false_positives, true_positives, _ = roc_curve(is_class, scores)
        return Curve(false_positives, true_positives, float(auc(false_positives, true_positives)))

    return _curves(curve_of, probabilities, labels, needs_negatives=True)


def reliability(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = CALIBRATION_BINS
) -> Reliability:
    """Confidence against accuracy of the predicted class, in bins of equal width from 0 to 1."""
    from sklearn.calibration import calibration_curve

    probabilities = np.asarray(probabilities, np.float64)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == np.asarray(labels)
    accuracy_of_filled, confidence_of_filled = calibration_curve(
        correct, confidence, n_bins=bins, pos_label=True
    )
    edges = np.linspace(0, 1, bins + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=bins)
    means = np.full((2, bins), np.nan)
    means[:, counts > 0] = confidence_of_filled, accuracy_of_filled
    return Reliability(edges, means[0], means[1], counts)


def _curves(
    curve_of: Callable[[np.ndarray, np.ndarray], Curve],
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    needs_negatives: bool,
) -> ClassCurves:
    scores, labels = np.asarray(probabilities, np.float32), np.asarray(labels)
    one_hot = labels[:, None] == np.arange(scores.shape[1])
    defined = one_hot.any(axis=0)
    if needs_negatives:
        defined &= ~one_hot.all(axis=0)
    curves = [
        curve_of(one_hot[:, index], scores[:, index]) if defined[index] else None
        for index in range(scores.shape[1])
    ]
    known = [curve for curve in curves if curve is not None]
    resampled = [np.interp(_GRID, curve.x, curve.y) for curve in known]
    area = float(np.mean([curve.area for curve in known])) if known else float("nan")
    mean = np.mean(resampled, axis=0) if known else np.full_like(_GRID, np.nan)
    pooled = curve_of(one_hot.ravel(), scores.ravel())
    micro = Curve(_GRID, np.interp(_GRID, pooled.x, pooled.y), pooled.area)
    return ClassCurves(tuple(curves), micro, Curve(_GRID, mean, area))
