"""An `evaluate` metric: the average precision of each class (one vs. rest), and the macro average.

It is the area under the precision-recall curve as a step function, without interpolation. A class
without samples has the value None and is excluded from the mean.
"""

from typing import Any

import datasets
import evaluate

_INPUTS = """
Args:
    predictions: a score per class for each sample, (N, C).
    references: the true class of each sample, (N,), integers from 0 to C - 1.

Returns:
    macro_average_precision: float, or None if no class has a figure.
    average_precision: a float or None per class.

Example:
    >>> metric = evaluate.load("evaluation/metrics/average_precision")
    >>> metric.compute(predictions=[[0.8, 0.2], [0.4, 0.6]], references=[0, 1])["average_precision"]
    [1.0, 1.0]
"""


class AveragePrecision(evaluate.Metric):
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

        return scoring.average_precision(predictions, references)
