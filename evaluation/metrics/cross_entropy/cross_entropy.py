"""An `evaluate` metric: the categorical cross-entropy, in nats.

Probabilities are clipped to at least `epsilon`, so that one impossible sample does not make the
mean infinite; the default is that of Keras' losses.
"""

import datasets
import evaluate

_INPUTS = """
Args:
    predictions: a probability per class for each sample, (N, C).
    references: the true class of each sample, (N,), integers from 0 to C - 1.
    epsilon: lower bound of a probability (default 1e-7).

Returns:
    cross_entropy: float, 0 or more; 0 is best.

Example:
    >>> metric = evaluate.load("evaluation/metrics/cross_entropy")
    >>> metric.compute(predictions=[[0.5, 0.5]], references=[0])
    {'cross_entropy': 0.6931471805599453}
"""


class CrossEntropy(evaluate.Metric):
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
        self, predictions: list[list[float]], references: list[int], epsilon: float = 1e-7
    ) -> dict[str, float]:
        # Not at the top: `evaluate.load` would treat the project as a package to install.
        from evaluation import scoring

        return {"cross_entropy": scoring.cross_entropy(predictions, references, epsilon)}
