"""Classifies a stream of files: decoded in parallel, predicted in batches, in order."""

from __future__ import annotations

import os
import queue
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from classifier.data.images import ImageError, open_image, to_model_input
from classifier.prediction.classifier import TOP, Classifier, Prediction, rank
from classifier.prediction.paths import Found

BATCH_BYTES = 256 * 32 * 32 * 3  # bytes of pixels per batch: 256 images of 32×32
MIN_BATCH = 8  # images
BATCH_WAIT_SECONDS = 0.05  # how long an incomplete batch waits for further files


@dataclass(frozen=True)
class Answer:
    """The result for one file: a prediction or an error.

    Attributes:
        path: the file, from `find_files`.
        prediction: None if the file cannot be read.
        error: why it cannot be read, None if it can.
    """

    path: str
    prediction: Prediction | None = None
    error: str | None = None


def classify_files(
    classifier: Classifier, files: Iterable[Found], *, top: int = TOP
) -> Iterator[list[Answer]]:
    """Classifies files in order, in batches.

    Files are found and decoded in the background, at most two batches ahead of the model. If files
    arrive slowly, as from a pipe, incomplete batches are classified.

    Args:
        classifier: the model.
        files: the files; iterated over in another thread.
        top: the number of classes to return.

    Yields:
        The answers of each batch; an unreadable file has an error in its answer.

    Raises:
        Exception: whatever `files` raises, after the answers for the files before.
    """
    size = classifier.image_size
    limit = max(MIN_BATCH, BATCH_BYTES // (size * size * 3))
    with _Decoders(files, size, ahead=2 * limit) as decoded:
        while batch := decoded.take(limit):
            pixels = [(path, future.result()) for path, future in batch]
            yield _answers(classifier, pixels, top)


def _answers(
    classifier: Classifier, decoded: list[tuple[str, np.ndarray | str]], top: int
) -> list[Answer]:
    images = [pixels for _, pixels in decoded if not isinstance(pixels, str)]
    answers = iter(classifier.probabilities(np.stack(images)) if images else ())
    return [
        Answer(path, error=pixels)
        if isinstance(pixels, str)
        else Answer(path, rank(next(answers), classifier.labels, pixels, top))
        for path, pixels in decoded
    ]


class _Decoders:
    """Threads that find and decode files ahead of the model; Pillow decodes outside of the GIL."""

    def __init__(self, files: Iterable[Found], size: int, *, ahead: int) -> None:
        self._files, self._size = files, size
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")
        self._decoding: queue.SimpleQueue[tuple[str, Future[np.ndarray | str]] | None]
        self._decoding = queue.SimpleQueue()
        self._slots = threading.Semaphore(ahead)
        self._ended = self._stopped = False
        self._failure: BaseException | None = None

    def __enter__(self) -> _Decoders:
        # A daemon thread: at the end of the program it may still wait for standard input.
        threading.Thread(target=self._feed, name="find-files", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._slots.release()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def take(self, limit: int) -> list[tuple[str, Future[np.ndarray | str]]]:
        """Returns the next files; none at the end. Raises the error of the file iterator."""
        taken: list[tuple[str, Future[np.ndarray | str]]] = []
        until = None
        while len(taken) < limit and not self._ended:
            try:
                item = self._decoding.get(timeout=until and max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if item is None:
                self._ended = True
                break
            taken.append(item)
            until = until or time.monotonic() + BATCH_WAIT_SECONDS
        for _ in taken:
            self._slots.release()
        if self._failure is not None and not taken:
            raise self._failure
        return taken

    def _feed(self) -> None:
        try:
            for found in self._files:
                self._slots.acquire()
                if self._stopped:
                    return
                self._decoding.put((found.path, self._pool.submit(_decode, found, self._size)))
        except BaseException as error:
            self._failure = error
        finally:
            self._decoding.put(None)


def _decode(found: Found, size: int) -> np.ndarray | str:
    """Returns the pixels, uint8, (size, size, 3), or an error message."""
    if found.error is not None:
        return found.error
    try:
        with _open(found.path) as file:
            return to_model_input(open_image(file), size)
    except ImageError as error:
        return str(error)
    except Exception as error:  # one file must not stop the run, whatever a library raises
        return f"cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}"


def _open(path: str) -> BinaryIO:
    """Opens a regular file; never blocks on a pipe, never opens a device."""
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise ImageError("unreadable", "is not a regular file: choose an image")
    # Non-blocking, in case that a pipe has replaced the file in the meantime.
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NONBLOCKING))


_NONBLOCKING = getattr(os, "O_NONBLOCK", 0)  # not on Windows
