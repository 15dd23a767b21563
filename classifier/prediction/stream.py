"""Classifies any number of files: decoded in parallel, answered in batches, in their order."""

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

BATCH_BYTES = 256 * 32 * 32 * 3  # of pixels that are answered together: 256 images of 32×32
SMALLEST_BATCH = 8  # images
SECONDS_TO_FILL = 0.05  # how long a batch that has begun waits for more files to be named


@dataclass(frozen=True)
class Answer:
    """What became of one file: a prediction or an error.

    Attributes:
        path: the file, as `find_files` gives it.
        prediction: what the model says of it, None if it could not be read.
        error: why not, None if it could.
    """

    path: str
    prediction: Prediction | None = None
    error: str | None = None


def classify_files(
    classifier: Classifier, files: Iterable[Found], *, top: int = TOP
) -> Iterator[list[Answer]]:
    """Answers files in their order, as many at a time as make a batch.

    Decoding and finding go on while the model answers, at most two batches ahead of it. When files
    come slowly, as from a pipe, those that have come are answered without waiting for more.

    Args:
        classifier: the model.
        files: what to classify; iterated over in another thread.
        top: how many classes to name.

    Yields:
        The answers of each batch. An error of one file is its answer.

    Raises:
        Exception: whatever `files` raises, after the answers to those before.
    """
    size = classifier.image_size
    most = max(SMALLEST_BATCH, BATCH_BYTES // (size * size * 3))
    with _Decoders(files, size, ahead=2 * most) as decoded:
        while batch := decoded.take(most):
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
        self._begun: queue.SimpleQueue[tuple[str, Future[np.ndarray | str]] | None]
        self._begun = queue.SimpleQueue()
        self._room = threading.Semaphore(ahead)
        self._ended = self._stopped = False
        self._failure: BaseException | None = None

    def __enter__(self) -> _Decoders:
        # A daemon: it may wait for a path on standard input when the program ends.
        threading.Thread(target=self._feed, name="find-files", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._room.release()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def take(self, most: int) -> list[tuple[str, Future[np.ndarray | str]]]:
        """Returns the next files, at least one; none at the end. Raises what finding raised."""
        taken: list[tuple[str, Future[np.ndarray | str]]] = []
        until = None
        while len(taken) < most and not self._ended:
            try:
                item = self._begun.get(timeout=until and max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if item is None:
                self._ended = True
                break
            taken.append(item)
            until = until or time.monotonic() + SECONDS_TO_FILL
        for _ in taken:
            self._room.release()
        if self._failure is not None and not taken:
            raise self._failure
        return taken

    def _feed(self) -> None:
        try:
            for found in self._files:
                self._room.acquire()
                if self._stopped:
                    return
                self._begun.put((found.path, self._pool.submit(_decode, found, self._size)))
        except BaseException as error:
            self._failure = error
        finally:
            self._begun.put(None)


def _decode(found: Found, size: int) -> np.ndarray | str:
    """Returns the pixels, uint8, (size, size, 3), or why there are none."""
    if found.error is not None:
        return found.error
    try:
        with _open(found.path) as file:
            return to_model_input(open_image(file), size)
    except ImageError as error:
        return str(error)
    except Exception as error:  # one file must not end the run, whatever it makes a library do
        return f"cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}"


def _open(path: str) -> BinaryIO:
    """Opens a regular file; never waits for the other end of a pipe, nor touches a device."""
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise ImageError("unreadable", "is no regular file: choose a picture")
    # Should a pipe have taken the file's place meanwhile, it is opened and read without waiting.
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NONBLOCKING))


_NONBLOCKING = getattr(os, "O_NONBLOCK", 0)  # not on Windows
