"""GFLOP/s of a plain matrix product on all cores: the most that dense layers could reach.

For `benchmarks.training`: the best of several shapes in one library and one number format, for each
line of standard input.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
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


def sustained(product: Callable[[tuple[int, int, int]], Callable[[], Any]]) -> float:
    """Returns the GFLOP/s of the best shape, each by the median of its repetitions.

    The median, as for the trainings beside it: a single repetition may meet a moment at which the
    processor runs faster than it does for long.

    Args:
        product: returns for a shape a function that multiplies once and waits for the result.
    """
    best = 0.0
    for shape in SHAPES:
        multiply = product(shape)
        multiply()
        rows, inner, columns = shape
        seconds: list[float] = []
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end or len(seconds) < REPETITIONS:
            start = time.perf_counter()
            multiply()
            seconds.append(time.perf_counter() - start)
        best = max(best, 2 * rows * inner * columns / statistics.median(seconds) / 1e9)
    return best


def in_tensorflow(number_format: str) -> Callable[[tuple[int, int, int]], Callable[[], Any]]:
    """Returns for a shape TensorFlow's product."""
    import tensorflow as tf

    def product(shape: tuple[int, int, int]) -> Callable[[], Any]:
        rows, inner, columns = shape
        left = tf.cast(tf.random.normal((rows, inner)), number_format)
        right = tf.cast(tf.random.normal((inner, columns)), number_format)
        return lambda: tf.matmul(left, right)

    return product


def in_pytorch(number_format: str) -> Callable[[tuple[int, int, int]], Callable[[], Any]]:
    """Returns for a shape PyTorch's product."""
    import torch

    def product(shape: tuple[int, int, int]) -> Callable[[], Any]:
        rows, inner, columns = shape
        left = torch.randn(rows, inner).to(getattr(torch, number_format))
        right = torch.randn(inner, columns).to(getattr(torch, number_format))
        return lambda: left @ right

    return product


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("library", choices=("tensorflow", "pytorch"))
    parser.add_argument("--precision", required=True, choices=("float32", "bfloat16"))
    options = parser.parse_args()
    products = {"tensorflow": in_tensorflow, "pytorch": in_pytorch}[options.library]
    product = products(options.precision)
    answer_each_line(lambda: {"gflops": round(sustained(product), 1)})
