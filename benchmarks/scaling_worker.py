"""One worker on one core, for `benchmarks.scaling`: CORE BATCH_SIZE STEPS."""

import itertools
import os
import statistics
import sys
import time
from typing import Any

WARM_UP = 4  # warm-up steps: the first one compiles


def main(core: int, batch_size: int, steps: int) -> None:
    """Prints the median seconds of a training step of all workers, or of a single one."""
    os.sched_setaffinity(0, {core})  # before JAX counts the cores
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

    batches = Batches(random_images((WARM_UP + steps) * batch_size), batch_size)
    trainee.fit(batches, shuffle=False, verbose=0, callbacks=[Stopwatch()])
    team.leave()
    pairs = itertools.pairwise(times[WARM_UP - 1 :])
    print(statistics.median(later - earlier for earlier, later in pairs))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
