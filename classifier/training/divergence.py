"""Ends a training at the first sign that its numbers grow without end."""

import math
from typing import Any

import keras
import numpy as np

from classifier.errors import ClassifierError

# An untrained network's cross-entropy is about ln(classes): 4.6 for 100. A falling learning rate
# may bring a training back from millions; from here the next steps overflow or lead nowhere.
MAX_LOSS = 1e12


class DivergedError(ClassifierError):
    """A loss or a weight is no finite number any more, or on its way there."""


class StopAtDivergence(keras.callbacks.Callback):
    """Raises `DivergedError` at the first loss above `MAX_LOSS` or not finite, weights likewise.

    Keras' own `TerminateOnNaN` looks at the training loss alone and names no epoch. This callback
    must be the first of the list: no other may save or judge what has diverged.

    Args:
        learning_rate: the highest of the schedule, for the message.
    """

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the epoch."""
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the loss, which is the epoch's mean so far: once not finite, it stays so."""
        self._check("loss", (logs or {}).get("loss", 0.0))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at what validation gave, and at the weights."""
        for name in ("loss", "val_loss"):
            self._check(name, (logs or {}).get(name, 0.0))
        for weight in self.model.weights:
            if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
                self._check(weight.path, math.nan)

    def _check(self, name: str, value: float) -> None:
        if not value <= MAX_LOSS:  # nan neither
            raise DivergedError(
                f"diverged in epoch {self.epoch}: lower learning_rate, which is "
                f"{self.learning_rate:g} ({name} is {value:.2g})"
            )
