"""The expected calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks").

Samples are sorted into bins of equal width by the probability of the predicted class, and the
distance between mean confidence and accuracy is averaged over the bins, each weighted with its
samples. A bin includes its upper edge: (0, 1/15], (1/15, 2/15] and so on.

Args: probabilities (N, C) as `predictions`, classes (N,) as `references`; `bins` (15).

>>> import evaluate
>>> metric = evaluate.load("evaluation/metrics/expected_calibration_error")
>>> metric.compute(predictions=[[0.75, 0.25], [0.25, 0.75]], references=[0, 1])
{'expected_calibration_error': 0.25}
"""

from evaluation import scoring
from evaluation.metrics.base import SCORES, Metric


class ExpectedCalibrationError(Metric):
    inputs = SCORES

    def _compute(self, predictions: list, references: list, bins: int = 15) -> dict:
        error = scoring.expected_calibration_error(predictions, references, bins)
        return {"expected_calibration_error": error}
