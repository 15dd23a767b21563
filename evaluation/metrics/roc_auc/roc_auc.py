"""An `evaluate` metric: the area under the ROC curve, one vs. rest, and the macro average.

It is the probability that a sample of the class has a higher score than one of another class. A
class with no samples, or with all of them, has the value None and is excluded from the mean.
"""

from typing import Any

import datasets
import evaluate

_INPUTS = """
Args:
    predictions: a score per class for each sample, (N, C).
    references: the true class of each sample, (N,), integers from 0 to C - 1.

Returns:
    macro_roc_auc: float, or None if no class has a figure.
    roc_auc: a float or None per class.

Example:
    >>> metric = evaluate.load("evaluation/metrics/roc_auc")
    >>> metric.compute(predictions=[[0.8, 0.2], [0.4, 0.6]], references=[0, 1])["roc_auc"]
    [1.0, 1.0]
"""


class RocAuc(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            inputs_description=_INPUTS,
            citation="",
            features=datasets.Features(
                predictions=datasets.List(datasets.Value("float32")),
                references=datasets.Value("int64"),
            ),
        )

    def _compute(self, predictions: list[list[float]], references: list[int]) -> dict[str, Any]:
        # Not at the top: `evaluate.load` would treat the project as a package to install.
        from evaluation import scoring

        return scoring.roc_auc(predictions, references)
