"""The area under the ROC curve of each class (one vs. rest), and the macro average.

It is the probability that a sample of the class has a higher score than one of another class. A
class with no samples, or with all of them, has the value None and is excluded from the mean.

Args: scores (N, C) as `predictions`, classes (N,) as `references`.

>>> import evaluate
>>> metric = evaluate.load("evaluation/metrics/roc_auc")
>>> metric.compute(predictions=[[0.8, 0.2], [0.4, 0.6]], references=[0, 1])
{'macro_roc_auc': 1.0, 'roc_auc': [1.0, 1.0]}
"""

from evaluation import scoring
from evaluation.metrics.base import SCORES, Metric


class RocAuc(Metric):
    inputs = SCORES

    def _compute(self, predictions: list, references: list) -> dict:
        return scoring.roc_auc(predictions, references)
