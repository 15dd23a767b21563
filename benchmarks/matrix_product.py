"""GFLOP/s of a plain matrix product on all cores, the upper bound for dense layers.

For `benchmarks.training`: the best of several shapes in one library and one number format, for each
line of standard input.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.training import answer_each_line

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

SHAPES = (  # rows, inner, columns: two of the network's layers, and a large square
    (512, 3072, 512),
    (512, 512, 2048),
    (2048, 2048, 2048),
)
SECONDS = 0.5  # on each shape
REPETITIONS = 5  # at least

Shape = tuple[int, int, int]


def sustained(product: Callable[[Shape], Callable[[], Any]]) -> float:
    """Returns the GFLOP/s of the best shape.

    Args:
        product: returns, for a shape, a function that computes one product and waits for it.
    """
    return max(
        2 * rows * inner * columns / median_seconds(product((rows, inner, columns))) / 1e9
        for rows, inner, columns in SHAPES
    )


def median_seconds(call: Callable[[], Any]) -> float:
    """Returns the median time of a call, repeated for `SECONDS`, after a first call.

    The median, as for the trainings: a single repetition can be faster than the sustained speed
    because of a temporarily higher clock rate.
    """
    call()
    seconds: list[float] = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(seconds) < REPETITIONS:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def in_tensorflow(number_format: str, shape: Shape) -> Callable[[], Any]:
    """Returns TensorFlow's product of random matrices of a shape."""
    import tensorflow as tf

    rows, inner, columns = shape
    left = tf.cast(tf.random.normal((rows, inner)), number_format)
    right = tf.cast(tf.random.normal((inner, columns)), number_format)
    return lambda: tf.matmul(left, right)


def in_pytorch(number_format: str, shape: Shape) -> Callable[[], Any]:
    """Returns PyTorch's product of random matrices of a shape."""
    import torch

    rows, inner, columns = shape
    left = torch.randn(rows, inner).to(getattr(torch, number_format))
    right = torch.randn(inner, columns).to(getattr(torch, number_format))
    return lambda: left @ right


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("library", choices=("tensorflow", "pytorch"))
    parser.add_argument("--precision", required=True, choices=("float32", "bfloat16"))
    options = parser.parse_args()
    product = {"tensorflow": in_tensorflow, "pytorch": in_pytorch}[options.library]
    of_shape = partial(product, options.precision)
    answer_each_line(lambda: {"gflops": round(sustained(of_shape), 1)})
