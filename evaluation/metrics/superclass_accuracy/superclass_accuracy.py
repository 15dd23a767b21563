"""An `evaluate` metric: the fraction of samples whose prediction has the true superclass.

The prediction "oak" for a maple is correct, "bus" is not.
"""

import datasets
import evaluate

_INPUTS = """
Args:
    predictions: the predicted class of each sample, (N,).
    references: the true class of each sample, (N,).
    superclass_of: the superclass of each class, (C,).

Returns:
    superclass_accuracy: float, 0 to 1.

Example:
    >>> metric = evaluate.load("evaluation/metrics/superclass_accuracy")
    >>> metric.compute(predictions=[0, 2], references=[1, 1], superclass_of=[0, 0, 1])
    {'superclass_accuracy': 0.5}
"""


class SuperclassAccuracy(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            inputs_description=_INPUTS,
            citation="",
            features=datasets.Features(
                predictions=datasets.Value("int64"),
                references=datasets.Value("int64"),
            ),
        )

    def _compute(
        self, predictions: list[int], references: list[int], superclass_of: list[int]
    ) -> dict[str, float]:
        # Not at the top: `evaluate.load` would treat the project as a package to install.
        from evaluation import scoring

        return {
            "superclass_accuracy": scoring.superclass_accuracy(
                predictions, references, superclass_of
            )
        }
