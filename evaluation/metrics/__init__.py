"""The metrics of an evaluation in one table; each folder here is an `evaluate` module.

A new metric is an entry of `METRICS`. A tile of the *Evaluation* tab also needs its name and note,
`tile_KEY` and `tile_KEY_note` in `interface/words.yaml`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from classifier.model_folder.folder import ClassNames
from evaluation import scoring

EQUAL_SUPPORT = 0.8  # of the largest class: below it, the balanced accuracy is stated too


@dataclass(frozen=True)
class Predictions:
    """What the metrics are computed from.

    Attributes:
        scores: probabilities, float32, (N, C).
        labels: integers, (N,).
        names: the C classes.
    """

    scores: np.ndarray
    labels: np.ndarray
    names: ClassNames

    @cached_property
    def answers(self) -> np.ndarray:
        """The predicted classes, (N,)."""
        return self.scores.argmax(axis=1)

    @cached_property
    def per_class(self) -> dict[str, Any]:
        """Precision, recall, F1, average precision and ROC AUC by class, and their averages."""
        return {
            **scoring.precision_recall_f1(self.answers, self.labels, len(self.names.classes)),
            **scoring.average_precision(self.scores, self.labels),
            **scoring.roc_auc(self.scores, self.labels),
        }

    def macro(self, name: str) -> float | None:
        """Returns the mean of a metric over the classes."""
        return self.per_class[f"macro_{name}"]


@dataclass(frozen=True)
class Metric:
    """A metric of `evaluation.json`.

    Attributes:
        compute: its function, which returns None if the metric does not apply; None if the metric
            is no function of the predictions.
        tile: whether the *Evaluation* tab shows it.
        percent: whether it is written as a percentage.
    """

    compute: Callable[[Predictions], float | None] | None
    tile: bool = True
    percent: bool = True


def balanced_accuracy(found: Predictions) -> float | None:
    """Returns the mean recall of the classes, None if they are about equal in size."""
    support = [count for count in found.per_class["support"] if count]
    return found.macro("recall") if min(support) < EQUAL_SUPPORT * max(support) else None


def superclass_top1(found: Predictions) -> float | None:
    """Returns the superclass accuracy, None without superclasses."""
    if found.names.superclass_of is None:
        return None
    return scoring.superclass_accuracy(found.answers, found.labels, found.names.superclass_of)


# By the key in evaluation.json, in the order of the tiles.
METRICS: dict[str, Metric] = {
    "top1": Metric(lambda found: scoring.top_k_accuracy(found.scores, found.labels)),
    "balanced_accuracy": Metric(balanced_accuracy),
    "top5": Metric(lambda found: scoring.top_k_accuracy(found.scores, found.labels, k=5)),
    "superclass_top1": Metric(superclass_top1),
    "loss": Metric(
        lambda found: scoring.cross_entropy(found.scores, found.labels), tile=False, percent=False
    ),
    "macro_precision": Metric(lambda found: found.macro("precision"), tile=False),
    "macro_recall": Metric(lambda found: found.macro("recall"), tile=False),
    "macro_f1": Metric(lambda found: found.macro("f1")),
    "macro_average_precision": Metric(
        lambda found: found.macro("average_precision"), percent=False
    ),
    "macro_roc_auc": Metric(lambda found: found.macro("roc_auc"), percent=False),
    "expected_calibration_error": Metric(
        lambda found: scoring.expected_calibration_error(found.scores, found.labels)
    ),
    "train_top1": Metric(None),
    "top1_without_duplicates": Metric(None),
}
