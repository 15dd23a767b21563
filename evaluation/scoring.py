"""Classification metrics, as functions on arrays.

The evaluation report, the figures and the `evaluate` modules in `metrics/` call these functions.
Scores and probabilities are float, (N, C), labels and predictions integers, (N,). A class without
samples has None for figures and is excluded from macro averages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

CALIBRATION_BINS = 15  # Guo et al. 2017, "On Calibration of Modern Neural Networks"

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
    the highest label. The macro recall is also called balanced accuracy.

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
    from sklearn.metrics import average_precision_score

    return _one_vs_rest("average_precision", average_precision_score, scores, labels)


def roc_auc(scores: ArrayLike, labels: ArrayLike) -> dict[str, float | PerClass | None]:
    """Returns the one-vs-rest area under the ROC curve of each class, and the macro average.

    The keys are `roc_auc`, a list with a number or None per class, and `macro_roc_auc`. If all
    samples are of one class, it has no figure either.
    """
    from sklearn.metrics import roc_auc_score

    return _one_vs_rest("roc_auc", roc_auc_score, scores, labels)


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = CALIBRATION_BINS
) -> float:
    """Returns the mean distance between confidence and accuracy over bins of equal width.

    The confidence is the probability of the predicted class. Each bin includes its upper edge.
    """
    probabilities = np.asarray(probabilities, np.float64)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == np.asarray(labels)
    index = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    # Per bin: the number of samples times the distance of their means.
    distances = np.bincount(index, confidence - correct, minlength=bins)
    return float(np.abs(distances).sum() / len(confidence))


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int) -> np.ndarray:
    """Counts (true class, predicted class) pairs: int64, (classes, classes)."""
    from sklearn.metrics import confusion_matrix as count_pairs

    return count_pairs(labels, predictions, labels=range(classes))


def _one_vs_rest(
    name: str, area: Callable[[np.ndarray, np.ndarray], float], scores: ArrayLike, labels: ArrayLike
) -> dict[str, float | PerClass | None]:
    """Returns the area of each class that has both positive and negative samples, and the mean.

    A class that has all samples has an average precision of 1, but no ROC curve.
    """
    scores = np.asarray(scores, np.float32)
    one_hot = np.asarray(labels)[:, None] == np.arange(scores.shape[1])
    defined = one_hot.any(axis=0)
    if name == "roc_auc":
        defined &= ~one_hot.all(axis=0)
    areas = [
        float(area(one_hot[:, index], scores[:, index])) if defined[index] else None
        for index in range(scores.shape[1])
    ]
    known = [value for value in areas if value is not None]
    return {f"macro_{name}": float(np.mean(known)) if known else None, name: areas}
