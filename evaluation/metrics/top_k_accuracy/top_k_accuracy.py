"""An `evaluate` metric: the fraction of samples whose class is among the k highest scores.

Of two equal scores, the class with the lower index ranks first, as in `numpy.argmax`, so k=1 is
the usual accuracy.
"""

import datasets
import evaluate

_INPUTS = """
Args:
    predictions: a score per class for each sample, (N, C).
    references: the true class of each sample, (N,), integers from 0 to C - 1.
    k: the number of highest scores (default 1).

Returns:
    top_k_accuracy: float, 0 to 1.

Example:
    >>> metric = evaluate.load("evaluation/metrics/top_k_accuracy")
    >>> metric.compute(predictions=[[0.5, 0.2, 0.3], [0.6, 0.4, 0.0]], references=[2, 0], k=1)
    {'top_k_accuracy': 0.5}
"""


class TopKAccuracy(evaluate.Metric):
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

    def _compute(
        self, predictions: list[list[float]], references: list[int], k: int = 1
    ) -> dict[str, float]:
        # Not at the top: `evaluate.load` would treat the project as a package to install.
        from evaluation import scoring

        return {"top_k_accuracy": scoring.top_k_accuracy(predictions, references, k)}
