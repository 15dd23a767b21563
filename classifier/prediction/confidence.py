"""Selective classification: a confidence threshold above which predictions are reliable."""

from dataclasses import dataclass
from typing import Any

import numpy as np

TARGET_ACCURACY = 0.7  # accuracy of the predictions at or above the threshold
MIN_IMAGES = 50  # predictions above the threshold that are needed to estimate their accuracy


@dataclass(frozen=True)
class Confidence:
    """A threshold on the probability of the predicted class.

    Attributes:
        threshold: 0–1; predictions at or above it count as confident.
        coverage: the share of images with a confident prediction.
        accuracy: the accuracy of the confident predictions.
        samples: the number of images that it was chosen on.
    """

    threshold: float
    coverage: float
    accuracy: float
    samples: int

    @classmethod
    def read(cls, value: Any) -> "Confidence | None":
        """Parses the entry `confidence` of `training.json`; None if it is missing or invalid."""
        try:
            names = ("threshold", "coverage", "accuracy")
            threshold, coverage, accuracy = (float(value[name]) for name in names)
            return cls(threshold, coverage, accuracy, int(value["samples"]))
        except (TypeError, KeyError, ValueError):
            return None


def choose_threshold(
    probabilities: np.ndarray, labels: np.ndarray, *, accuracy: float = TARGET_ACCURACY
) -> Confidence | None:
    """Chooses the lowest threshold that reaches a target accuracy; None if none does.

    Use validation images: the test split can then verify the accuracy.

    Args:
        probabilities: float, (N, C).
        labels: integers, (N,).
        accuracy: the target accuracy of the confident predictions.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    order = np.argsort(-confidence, kind="stable")
    counts = np.arange(1, len(order) + 1)
    accuracies = correct[order].cumsum() / counts
    # Predictions of equal confidence are on the same side of the threshold.
    is_last_of_ties = np.append(np.diff(confidence[order]) < 0, True)
    candidates = np.flatnonzero((accuracies >= accuracy) & (counts >= MIN_IMAGES) & is_last_of_ties)
    if not len(candidates):
        return None
    chosen = int(candidates[-1])
    return Confidence(
        threshold=float(confidence[order][chosen]),
        coverage=float(counts[chosen] / len(order)),
        accuracy=float(accuracies[chosen]),
        samples=len(order),
    )
