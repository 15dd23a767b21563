"""Precision, recall and F1 of each class, and their macro averages.

A class without samples has the value None and is excluded from the averages; one that is never
predicted has a precision of 0. `support` is the number of samples of each class.

Args: classes (N,) as `predictions` and `references`; `classes`, by default one more than
the highest label.

>>> import evaluate
>>> metric = evaluate.load("evaluation/metrics/precision_recall_f1")
>>> metric.compute(predictions=[0, 1, 1], references=[0, 0, 1])["recall"]
[0.5, 1.0]
"""

from evaluation import scoring
from evaluation.metrics.base import CLASSES, Metric


class PrecisionRecallF1(Metric):
    inputs = CLASSES

    def _compute(self, predictions: list, references: list, classes: int | None = None) -> dict:
        return scoring.precision_recall_f1(predictions, references, classes)
