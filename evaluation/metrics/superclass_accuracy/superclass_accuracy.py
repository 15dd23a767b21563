"""The fraction of samples whose predicted class has the true superclass.

The prediction "oak" for a maple is correct, "bus" is not.

Args: classes (N,) as `predictions` and `references`; `superclass_of`, the superclass of each class.

>>> import evaluate
>>> metric = evaluate.load("evaluation/metrics/superclass_accuracy")
>>> metric.compute(predictions=[0, 2], references=[1, 1], superclass_of=[0, 0, 1])
{'superclass_accuracy': 0.5}
"""

from evaluation.metrics.base import CLASSES, Metric
from evaluation.scoring import superclass_accuracy


class SuperclassAccuracy(Metric):
    inputs = CLASSES

    def _compute(self, predictions: list, references: list, superclass_of: list) -> dict:
        return {"superclass_accuracy": superclass_accuracy(predictions, references, superclass_of)}
