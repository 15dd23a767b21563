"""Stops a training that diverges."""

import math
from typing import Any

import keras
import numpy as np

from classifier.errors import ClassifierError

# An untrained network's cross-entropy is about ln(classes): 4.6 for 100. Trainings can recover from
# millions when the learning rate falls, but not from this.
MAX_LOSS = 1e12


class DivergedError(ClassifierError):
    """A loss or a weight is not finite, or a loss is too large."""


class StopAtDivergence(keras.callbacks.Callback):
    """Raises `DivergedError` for a loss above `MAX_LOSS` and for values that are not finite.

    Keras' `TerminateOnNaN` only checks the training loss, and raises no error. This callback must
    be the first one, so that no other saves a diverged model.

    Args:
        learning_rate: the highest of the schedule, for the message.
    """

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stores the epoch for the message."""
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks the running mean of the loss."""
        self._check("loss", (logs or {}).get("loss", 0.0))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks the losses and the weights."""
        for name in ("loss", "val_loss"):
            self._check(name, (logs or {}).get(name, 0.0))
        for weight in self.model.weights:
            if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
                self._check(weight.path, math.nan)

    def _check(self, name: str, value: float) -> None:
        if not value <= MAX_LOSS:  # also NaN
            raise DivergedError(
                f"diverged in epoch {self.epoch}: lower learning_rate, which is "
                f"{self.learning_rate:g} ({name} is {value:.2g})"
            )
