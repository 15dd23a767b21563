"""An `evaluate` metric: the area under the ROC curve of every class against the rest."""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import roc_auc_score

_DESCRIPTION = """
Area under the ROC curve of every class against the rest, and the mean over classes: how probable it
is that a sample of the class has a higher score than one of another class. A class that no sample,
or every sample, belongs to has no figure (None) and is left out of the mean.
"""

_INPUTS = """
Args:
    predictions: a score per class for each sample, (N, C).
    references: the true class of each sample, (N,), integers from 0 to C - 1.

Returns:
    macro_roc_auc: float, or None where no class has a figure.
    roc_auc: a float or None per class.

Example:
    >>> metric = evaluate.load("evaluation/metrics/roc_auc")
    >>> metric.compute(predictions=[[0.8, 0.2], [0.4, 0.6]], references=[0, 1])["roc_auc"]
    [1.0, 1.0]
"""


class RocAuc(evaluate.Metric):
    """Area under the ROC curve, one class against the rest."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            inputs_description=_INPUTS,
            citation="",
            features=datasets.Features(
                {
                    "predictions": datasets.List(datasets.Value("float32")),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions: list[list[float]], references: list[int]) -> dict[str, object]:
        scores, truth = np.asarray(predictions), np.asarray(references)
        values: list[float | None] = []
        for index in range(scores.shape[1]):
            is_class = truth == index
            defined = is_class.any() and not is_class.all()
            values.append(float(roc_auc_score(is_class, scores[:, index])) if defined else None)
        known = [value for value in values if value is not None]
        return {
            "macro_roc_auc": float(np.mean(known)) if known else None,
            "roc_auc": values,
        }
