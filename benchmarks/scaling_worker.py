"""One worker's measurement on one core, for `benchmarks.scaling`."""

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from typing import Any

WARM_UP = 4  # warm-up steps: the first one compiles


def main() -> None:
    """Measures what the command line names and prints it as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=MEASUREMENTS)
    parser.add_argument("--core", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})  # before JAX counts the cores
    print(json.dumps(MEASUREMENTS[options.what](options.batch_size, options.steps)))


def step(batch_size: int, steps: int) -> dict[str, float]:
    """Returns the median seconds of a training step of all workers, or of a single one."""
    import keras

    from benchmarks.training import SETTINGS
    from benchmarks.training_keras import build, random_images
    from classifier.training.augmentation import Augmentation
    from classifier.training.distribution import read_process_group, sharded_model
    from classifier.training.fit import Batches, build_optimizer

    settings = SETTINGS.replace(batch_size=batch_size)
    team = read_process_group().join(batch_size)
    keras.utils.set_random_seed(0)
    trainee = sharded_model()(build(settings), Augmentation(settings))
    trainee.compile(
        optimizer=build_optimizer(settings, WARM_UP + steps),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing),
        metrics=["accuracy"],
    )
    times: list[float] = []

    class Stopwatch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            """Waits for the step to end: JAX dispatches steps asynchronously."""
            float(logs["loss"] if logs else 0.0)
            times.append(time.perf_counter())

    data = random_images((WARM_UP + steps) * batch_size)
    batches = Batches(data, batch_size)
    trainee.fit(batches, shuffle=False, verbose=0, callbacks=[Stopwatch()])
    team.leave()
    return {"seconds": median_of_differences(times[WARM_UP - 1 :])}


def read_input(batch_size: int, steps: int) -> dict[str, float]:
    """Returns the median seconds to gather a batch from memory."""
    from benchmarks.training_keras import random_images
    from classifier.training.fit import Batches

    data = random_images((WARM_UP + steps) * batch_size)
    batches = Batches(data, batch_size)
    times = []
    for number in range(len(batches)):
        batches[number]
        times.append(time.perf_counter())
    return {"seconds": median_of_differences(times[WARM_UP - 1 :])}


def all_reduce(batch_size: int, steps: int) -> dict[str, float]:
    """Returns the median seconds of an all-reduce of arrays with the gradients' shapes."""
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding
    from jax.sharding import PartitionSpec as P

    from benchmarks.training import SETTINGS
    from benchmarks.training_keras import build
    from classifier.training.distribution import read_process_group, undistributed

    team = read_process_group().join(batch_size)
    with undistributed():
        shapes = [tuple(variable.shape) for variable in build(SETTINGS).trainable_variables]
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("worker",)), P("worker"))
    gradients = [
        jax.make_array_from_process_local_data(sharding, np.ones((1, *shape), "float32"))
        for shape in shapes
    ]
    whole = NamedSharding(sharding.mesh, P())
    add = jax.jit(lambda arrays: [array.sum(axis=0) for array in arrays], out_shardings=whole)
    times = []
    for _ in range(WARM_UP + steps):
        jax.block_until_ready(add(gradients))
        times.append(time.perf_counter())
    team.leave()
    count = sum(int(np.prod(shape)) for shape in shapes)
    return {"all_reduce": median_of_differences(times[WARM_UP - 1 :]), "bytes": 4.0 * count}


def median_of_differences(times: list[float]) -> float:
    """Returns the median of the seconds between each time and the next."""
    pairs = itertools.pairwise(times)
    return statistics.median(later - earlier for earlier, later in pairs)


MEASUREMENTS = {"step": step, "input": read_input, "all-reduce": all_reduce}

if __name__ == "__main__":
    sys.exit(main())
