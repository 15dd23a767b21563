"""Decodes pictures in separate processes: one that hangs only affects its own request."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import signal
from pathlib import Path

import numpy as np
from pebble import ProcessPool

from classifier.data.images import ImageError, open_image, to_model_input, too_costly
from interface.uploads import Upload

PROCESSES = 2  # for two cores
SECONDS = 12.0  # several times the duration for the largest accepted picture
MEMORY = 430 * 2**20  # for decoding: 50 megapixels need 400 MB with transparency


class Decoder:
    """Decodes pictures with limits on time and memory; a stuck process is killed and replaced."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds, self._stopped = seconds, False
        self._renew()

    def start(self) -> None:  # otherwise the first picture starts the processes
        self._pool.schedule(int)

    async def decode(self, upload: Upload, sizes: set[int]) -> dict[int, np.ndarray]:
        """Returns the model input of each size S: uint8, (S, S, 3); raises `ImageError`."""
        if not (self._pool.active or self._stopped):  # it ends if a process dies while it waits
            self._renew()
        task = self._pool.schedule(_decode, (upload.content, sizes), timeout=self._seconds)
        try:
            answer = await asyncio.wrap_future(task)
        except TimeoutError:
            raise too_costly() from None
        if isinstance(answer, ImageError):
            raise answer
        return answer

    def _renew(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPool(PROCESSES, initializer=_prepare, context=spawn)

    def stop(self) -> None:
        self._stopped = True
        self._pool.stop()
        self._pool.join()


def _decode(content: bytes, sizes: set[int]) -> dict[int, np.ndarray] | ImageError:
    try:
        picture = open_image(content)
        return {size: to_model_input(picture, size) for size in sizes}
    except (ImageError, MemoryError) as error:  # raised, it would keep the picture in memory
        return ImageError(getattr(error, "reason", "too_large"), str(error))


def _prepare() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends it at once, also while Pillow decodes
    if (statm := Path("/proc/self/statm")).exists():  # elsewhere there is no such limit
        limit = MEMORY + int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
