"""The categorical cross-entropy, in nats.

Probabilities are clipped to at least `epsilon`, so that one impossible sample does not make the
mean infinite; the default is that of Keras' losses.

Args: probabilities (N, C) as `predictions`, classes (N,) as `references`; `epsilon`.

>>> import evaluate
>>> metric = evaluate.load("evaluation/metrics/cross_entropy")
>>> metric.compute(predictions=[[0.5, 0.5]], references=[0])
{'cross_entropy': 0.6931471805599453}
"""

from evaluation import scoring
from evaluation.metrics.base import SCORES, Metric


class CrossEntropy(Metric):
    inputs = SCORES

    def _compute(self, predictions: list, references: list, epsilon: float = 1e-7) -> dict:
        return {"cross_entropy": scoring.cross_entropy(predictions, references, epsilon)}
