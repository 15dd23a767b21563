"""Keeps freed memory in the process between training steps, where the C library is glibc."""

import ctypes
import platform
from typing import Any

import keras

# The parameters of mallopt(3), from glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT = 1 << 30  # bytes


class MallocTuning(keras.callbacks.Callback):
    """Stops glibc from returning each step's buffers to the system, which hands them out anew.

    TensorFlow's generator data set, which feeds `fit`, lowers glibc's threshold to 128 kB as soon
    as it starts; every step then pays for page faults on tens of megabytes. So this is set after
    the first step and not before the training. Elsewhere than on glibc it does nothing.
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
