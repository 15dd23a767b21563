"""From which probability on an answer can be trusted: a threshold with the promise it keeps."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

TRUSTED_ACCURACY = 0.7  # share of right answers that makes an answer a sure one
MIN_IMAGES = 50  # answers above the threshold, below which their accuracy is chance


@dataclass(frozen=True)
class Confidence:
    """A threshold on the probability of the likeliest class.

    Attributes:
        threshold: 0–1; answers at or above it count as sure.
        coverage: share of the images that are answered surely.
        accuracy: share of those answers that are right.
        samples: images that it was chosen on.
    """

    threshold: float
    coverage: float
    accuracy: float
    samples: int

    @classmethod
    def read(cls, value: Any) -> "Confidence | None":
        """Returns what stands in `training.json`, None if nothing usable does."""
        try:
            found = cls(
                threshold=float(value["threshold"]),
                coverage=float(value["coverage"]),
                accuracy=float(value["accuracy"]),
                samples=int(value["samples"]),
            )
        except (TypeError, KeyError, ValueError):
            return None
        shares = (found.threshold, found.coverage, found.accuracy)
        return found if all(0 <= share <= 1 for share in shares) else None

    def to_dict(self) -> dict[str, float]:
        """Returns what is to stand in `training.json`, under `confidence`."""
        return asdict(self)


def choose_threshold(
    probabilities: np.ndarray, labels: np.ndarray, *, accuracy: float = TRUSTED_ACCURACY
) -> Confidence | None:
    """Chooses the lowest threshold whose answers are right as often as wanted.

    To be chosen on validation, so that its promise can be checked on the test split.

    Args:
        probabilities: float, (N, C).
        labels: integers, (N,).
        accuracy: the wanted share of right answers.

    Returns:
        The threshold, or None if no part of the answers is right so often.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    order = np.argsort(-confidence, kind="stable")
    counts = np.arange(1, len(order) + 1)
    shares = right[order].cumsum() / counts
    # Answers of the same probability are sure together or not at all.
    last_of_its_kind = np.append(np.diff(confidence[order]) < 0, True)
    good = np.flatnonzero((shares >= accuracy) & (counts >= MIN_IMAGES) & last_of_its_kind)
    if not len(good):
        return None
    chosen = int(good[-1])
    return Confidence(
        threshold=float(confidence[order][chosen]),
        coverage=float(counts[chosen] / len(order)),
        accuracy=float(shares[chosen]),
        samples=len(order),
    )
