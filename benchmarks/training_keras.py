"""Images per second of the project's own training step, for `benchmarks.training`."""

import argparse
import json
import os
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from benchmarks.training import CLASSES, SETTINGS, WARM_UP
from classifier.architectures import build_network
from classifier.settings import Settings
from classifier.training import fusion, precision
from classifier.training.augmentation import Augmentation
from classifier.training.fit import Batches, TrainingModel
from classifier.training.memory import MallocTuning
from classifier.training.optimizers import build_optimizer
from classifier.training.training_data import Images


class Stopwatch(keras.callbacks.Callback):
    """Takes the time of an epoch, without its first steps."""

    seconds = 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts after the last step of the warm-up, and looks at the clock after each other."""
        now = time.perf_counter()
        if batch < WARM_UP:
            self._start = now
        self.seconds = now - self._start


def images_per_second(settings: Settings, number_format: str, images: int, *, fuse: bool) -> float:
    """Trains on random images, as `classifier.training.fit.fit` does between two validations.

    Args:
        settings: of the network, the optimiser, the augmentation and the batch.
        number_format: "float32" or "bfloat16".
        images: how many are timed, in whole batches.
        fuse: whether operations on elements are fused, as in a training that is long enough.
    """
    steps = images // settings.batch_size
    precision.set_policy(number_format)
    fuse = fuse and fusion.is_possible()
    trainee = TrainingModel(build(settings), Augmentation(settings), fuse=fuse)
    trainee.compile(
        optimizer=build_optimizer(settings, WARM_UP + steps),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing),
        metrics=["accuracy"],
        jit_compile=keras.backend.backend() == "jax",
    )
    data = random_images((WARM_UP + steps) * settings.batch_size)
    batches = Batches(lambda epoch: data, batch_size=settings.batch_size, seed=0)
    stopwatch = Stopwatch()
    trainee.fit(batches, shuffle=False, verbose=0, callbacks=[MallocTuning(), stopwatch])
    return steps * settings.batch_size / stopwatch.seconds


def build(settings: Settings) -> keras.Model:
    """Returns the network with the normalisation that `random_images` call for."""
    mean, deviation = np.full(3, 127.5, "float32"), np.full(3, 73.9, "float32")
    return build_network(settings, classes=CLASSES, mean=mean, deviation=deviation)


def random_images(count: int) -> Images:
    """Returns noise with random labels: what is in a picture changes no time."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Images(images, np.eye(CLASSES, dtype="float32")[random.integers(0, CLASSES, count)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--precision", required=True)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--no-fuse", action="store_true")
    options = parser.parse_args()
    chosen = SETTINGS.replace(batch_size=options.batch_size)
    speed = images_per_second(chosen, options.precision, options.images, fuse=not options.no_fuse)
    print(json.dumps({"images_per_second": round(speed, 1)}))
