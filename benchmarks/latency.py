"""Measures the latency of one image on one core, in a separate process.

python -m benchmarks.latency pretrained/mlp
"""

import json
import os
import sys
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np

from classifier import command_line

WARM_UP = 30  # predictions: the first ones compile the model
REPETITIONS = 300


def main(arguments: list[str]) -> None:
    """Prints the median, and the spread, as JSON."""
    parser = command_line.argument_parser(
        "Measures how long a model takes to classify one image on one core."
    )
    parser.add_argument("folder", metavar="MODEL_FOLDER", type=Path)
    options = parser.parse_args(arguments)
    keep_to_one_core()
    print(json.dumps(measure(options.folder)))


def keep_to_one_core() -> None:
    """Pins this process to one core; must be called before the backend counts the cores."""
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = "1"
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def milliseconds_of(call: Callable[[], object]) -> np.ndarray:
    """Returns the time of each of `REPETITIONS` calls, after the warm-up."""
    seconds = timeit.repeat(call, number=1, repeat=WARM_UP + REPETITIONS)
    return 1000 * np.array(seconds[WARM_UP:])


def measure(folder: Path) -> dict[str, float]:
    """Measures `Classifier.probabilities` on one image, with Keras (the app uses ONNX Runtime).

    Returns:
        Milliseconds: `median`, and the tenth and ninetieth percentile, `low` and `high`; and the
        number of `repetitions`.
    """
    from classifier.prediction.classifier import Classifier

    classifier = Classifier.load(folder)
    shape = (1, classifier.image_size, classifier.image_size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    milliseconds = milliseconds_of(lambda: classifier.probabilities(images))
    low, median, high = np.percentile(milliseconds, [10, 50, 90])
    return {
        "median": round(float(median), 3),
        "low": round(float(low), 3),
        "high": round(float(high), 3),
        "repetitions": REPETITIONS,
    }


if __name__ == "__main__":
    sys.exit(command_line.run(main, batches=False))
