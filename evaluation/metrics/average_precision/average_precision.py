"""The average precision of each class (one vs. rest), and the macro average.

It is the area under the precision-recall curve as a step function, without interpolation. A class
without samples has the value None and is excluded from the mean.

Args: scores (N, C) as `predictions`, classes (N,) as `references`.

>>> import evaluate
>>> metric = evaluate.load("evaluation/metrics/average_precision")
>>> metric.compute(predictions=[[0.8, 0.2], [0.4, 0.6]], references=[0, 1])
{'macro_average_precision': 1.0, 'average_precision': [1.0, 1.0]}
"""

from evaluation import scoring
from evaluation.metrics.base import SCORES, Metric


class AveragePrecision(Metric):
    inputs = SCORES

    def _compute(self, predictions: list, references: list) -> dict:
        return scoring.average_precision(predictions, references)
