"""An `evaluate` metric: precision, recall and F1 of every class, and their macro averages.

A class without samples has the value None and is excluded from the averages; a class
that is never predicted has a precision of 0.
"""

from typing import Any

import datasets
import evaluate

_INPUTS = """
Args:
    predictions: the predicted class of each sample, (N,).
    references: the true class of each sample, (N,).
    classes: the number of classes; by default one more than the highest label.

Returns:
    macro_precision, macro_recall, macro_f1: floats, 0 to 1.
    precision, recall, f1: a float or None per class.
    support: the number of samples of each class.

Example:
    >>> metric = evaluate.load("evaluation/metrics/precision_recall_f1")
    >>> metric.compute(predictions=[0, 1, 1], references=[0, 0, 1])["recall"]
    [0.5, 1.0]
"""


class PrecisionRecallF1(evaluate.Metric):
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
        self, predictions: list[int], references: list[int], classes: int | None = None
    ) -> dict[str, Any]:
        # Not at the top: `evaluate.load` would treat the project as a package to install.
        from evaluation import scoring

        return scoring.precision_recall_f1(predictions, references, classes)
