"""The fraction of samples whose class is among the k highest scores.

Of two equal scores, the class with the lower index ranks first, as in `numpy.argmax`, so k=1 is
the usual accuracy.

Args: scores (N, C) as `predictions`, classes (N,) as `references`; `k` (1).

>>> import evaluate
>>> metric = evaluate.load("evaluation/metrics/top_k_accuracy")
>>> metric.compute(predictions=[[0.5, 0.2, 0.3], [0.6, 0.4, 0.0]], references=[2, 0], k=1)
{'top_k_accuracy': 0.5}
"""

from evaluation import scoring
from evaluation.metrics.base import SCORES, Metric


class TopKAccuracy(Metric):
    inputs = SCORES

    def _compute(self, predictions: list, references: list, k: int = 1) -> dict:
        return {"top_k_accuracy": scoring.top_k_accuracy(predictions, references, k)}
