"""Keeps freed memory in the process between training steps, with glibc."""

import ctypes
import platform
from typing import Any

import keras

# The parameters of mallopt(3), from glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT = 1 << 30  # bytes


class MallocTuning(keras.callbacks.Callback):
    """Stops glibc from returning the buffers of each step to the operating system.

    TensorFlow's generator data set, which feeds `fit`, lowers glibc's threshold to 128 kB when it
    starts; every step then causes page faults on tens of megabytes. Therefore the threshold is set
    after the first step. Without glibc this does nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._done = platform.libc_ver()[0] != "glibc"

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the thresholds, once."""
        if self._done:
            return
        self._done = True
        library = ctypes.CDLL(None)
        for parameter in (M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD):
            library.mallopt(parameter, KEPT if parameter != M_TOP_PAD else KEPT // 8)
