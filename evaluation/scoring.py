"""Classification metrics, as functions on arrays.

The report and the `evaluate` modules in `metrics/` call these functions. Scores and probabilities
are float, (N, C), labels and predictions integers, (N,). A class without samples has None for
figures and is excluded from macro averages.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from evaluation import curves

PerClass = list[float | None]


def top_k_accuracy(scores: ArrayLike, labels: ArrayLike, k: int = 1) -> float:
    """Returns the fraction of samples whose class is among the k highest scores.

    Of equal scores, the lower index ranks first, as in `numpy.argmax`: k=1 gives the accuracy.
    scikit-learn's function ranks it last.
    """
    scores, truth = np.asarray(scores), np.asarray(labels)
    true_score = scores[np.arange(len(truth)), truth][:, None]
    is_lower_class = np.arange(scores.shape[1]) < truth[:, None]
    ranks_higher = (scores > true_score) | ((scores == true_score) & is_lower_class)
    return float((ranks_higher.sum(axis=1) < k).mean())


def superclass_accuracy(
    predictions: ArrayLike, labels: ArrayLike, superclass_of: Sequence[int]
) -> float:
    """Returns the fraction of samples whose predicted class has the true superclass."""
    superclass = np.asarray(superclass_of)
    return float((superclass[np.asarray(predictions)] == superclass[np.asarray(labels)]).mean())


def cross_entropy(probabilities: ArrayLike, labels: ArrayLike, epsilon: float = 1e-7) -> float:
    """Returns the mean negative logarithm of the probability of the true class, in nats.

    Probabilities need not be normalised, unlike in scikit-learn's `log_loss`; those below epsilon
    count as epsilon, as in Keras' losses, which avoids an infinite mean.
    """
    truth = np.asarray(labels)
    of_true_class = np.asarray(probabilities, np.float64)[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(of_true_class, epsilon, 1.0)).mean())


def precision_recall_f1(
    predictions: ArrayLike, labels: ArrayLike, classes: int | None = None
) -> dict[str, float | PerClass | list[int]]:
    """Returns precision, recall and F1 of every class, and their macro averages.

    A class that is never predicted has a precision of 0. By default there is one class more than
    the highest label.

    Returns:
        `precision`, `recall` and `f1`, a list with a number or None per class; `macro_precision`,
        `macro_recall` and `macro_f1`; `support`, the number of samples of each class.
    """
    from sklearn.metrics import precision_recall_fscore_support

    classes = classes or 1 + int(max(np.max(predictions), np.max(labels)))
    *scores, support = precision_recall_fscore_support(
        labels, predictions, labels=range(classes), zero_division=0
    )
    result: dict[str, float | PerClass | list[int]] = {"support": support.tolist()}
    for name, values in zip(("precision", "recall", "f1"), scores, strict=True):
        result[f"macro_{name}"] = float(values[support > 0].mean())
        result[name] = [
            float(value) if count else None for value, count in zip(values, support, strict=True)
        ]
    return result


def average_precision(scores: ArrayLike, labels: ArrayLike) -> dict[str, float | PerClass | None]:
    """Returns the one-vs-rest average precision of each class, and the macro average.

    The keys are `average_precision`, a list with a number or None per class, and
    `macro_average_precision`.
    """
    return _areas("average_precision", curves.precision_recall_curves(scores, labels))


def roc_auc(scores: ArrayLike, labels: ArrayLike) -> dict[str, float | PerClass | None]:
    """Returns the one-vs-rest area under the ROC curve of each class, and the macro average.

    The keys are `roc_auc`, a list with a number or None per class, and `macro_roc_auc`. If all
    samples are of one class, it has no figure either.
    """
    return _areas("roc_auc", curves.roc_curves(scores, labels))


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = curves.CALIBRATION_BINS
) -> float:
    """Returns the mean distance between confidence and accuracy over bins of equal width.

    Each bin includes its upper edge.
    """
    return curves.reliability(probabilities, labels, bins).expected_calibration_error


def _areas(name: str, found: curves.ClassCurves) -> dict[str, float | PerClass | None]:
    areas = [None if curve is None else curve.area for curve in found.classes]
    return {f"macro_{name}": None if np.isnan(found.macro.area) else found.macro.area, name: areas}
