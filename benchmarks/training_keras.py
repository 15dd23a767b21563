"""Images per second of the project's own training step, for `benchmarks.training`."""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks.training import CLASSES, WARM_UP
from classifier.architectures import build_network
from classifier.settings import Settings
from classifier.training import precision
from classifier.training.augmentation import Augmentation
from classifier.training.fast_convolution import accelerate
from classifier.training.fit import Batches, TrainingModel, build_optimizer
from classifier.training.fused_adamw_adapter import accelerate_optimizer
from classifier.training.training_data import ImagesAndTargets


class Stopwatch(keras.callbacks.Callback):
    """Measures the time of an epoch without the warm-up steps."""

    seconds = 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts after the last warm-up step, and records the time after each later step."""
        now = time.perf_counter()
        if batch < WARM_UP:
            self._start = now
        self.seconds = now - self._start


def trainer(settings: Settings, number_format: str, images: int) -> Callable[[], float]:
    """Returns a function that trains on random images, as `train.py` does between two validations.

    Args:
        settings: of the network, the optimiser, the augmentation and the batch.
        number_format: "float32" or "bfloat16".
        images: the number that is timed, in whole batches; the function returns images per second.
    """
    steps = images // settings.batch_size
    precision.prepare(settings.replace(precision=number_format))
    network = accelerate(build(settings))
    trainee = TrainingModel(network, Augmentation(settings))
    trainee.compile(
        optimizer=accelerate_optimizer(build_optimizer(settings, WARM_UP + steps)),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing),
        metrics=["accuracy"],
        jit_compile=keras.backend.backend() == "jax",
    )
    data = random_images((WARM_UP + steps) * settings.batch_size)
    batches = Batches(data, settings.batch_size)

    def train() -> float:
        stopwatch = Stopwatch()
        trainee.fit(batches, shuffle=False, verbose=0, callbacks=[stopwatch])
        return round(steps * settings.batch_size / stopwatch.seconds, 1)

    return train


def build(settings: Settings) -> keras.Model:
    """Returns the network with the normalisation that `random_images` call for."""
    mean, deviation = np.full(3, 127.5, "float32"), np.full(3, 73.9, "float32")
    return build_network(settings, classes=CLASSES, mean=mean, deviation=deviation)


def random_images(count: int) -> ImagesAndTargets:
    """Returns noise with random labels: the content does not affect the throughput."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return ImagesAndTargets(
        images, np.eye(CLASSES, dtype="float32")[random.integers(0, CLASSES, count)]
    )
