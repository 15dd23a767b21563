"""An `evaluate` metric: the expected calibration error.

Samples are sorted into bins of equal width by the probability of the predicted class, and the
distance between mean confidence and accuracy is averaged over the bins, each weighted with its
samples. A bin includes its upper edge: (0, 1/15], (1/15, 2/15] and so on.
"""

import datasets
import evaluate

_INPUTS = """
Args:
    predictions: a probability per class for each sample, (N, C).
    references: the true class of each sample, (N,), integers from 0 to C - 1.
    bins: the number of bins of equal width from 0 to 1 (default 15).

Returns:
    expected_calibration_error: float, 0 to 1; 0 is best.

Example:
    >>> metric = evaluate.load("evaluation/metrics/expected_calibration_error")
    >>> metric.compute(predictions=[[0.75, 0.25], [0.25, 0.75]], references=[0, 1])
    {'expected_calibration_error': 0.25}
"""

_CITATION = """
@inproceedings{guo2017calibration,
  title={On Calibration of Modern Neural Networks},
  author={Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.},
  booktitle={International Conference on Machine Learning},
  year={2017}
}
"""


class ExpectedCalibrationError(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            inputs_description=_INPUTS,
            citation=_CITATION,
            features=datasets.Features(
                predictions=datasets.List(datasets.Value("float32")),
                references=datasets.Value("int64"),
            ),
        )

    def _compute(
        self, predictions: list[list[float]], references: list[int], bins: int = 15
    ) -> dict[str, float]:
        # Not at the top: `evaluate.load` would treat the project as a package to install.
        from evaluation import scoring

        return {
            "expected_calibration_error": scoring.expected_calibration_error(
                predictions, references, bins
            )
        }
