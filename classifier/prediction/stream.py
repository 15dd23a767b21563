"""Classifies a stream of files: decoded in parallel, predicted in batches, in order."""

from __future__ import annotations

import contextlib
import os
import queue
import stat
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from classifier.data.images import OWN_DATA, ImageError, open_image, to_model_input
from classifier.model_folder.folder import TOP
from classifier.prediction.classifier import Classifier, Prediction, rank
from classifier.prediction.paths import InputFile

BATCH_BYTES = 256 * 32 * 32 * 3  # bytes of pixels per batch: 256 images of 32×32
MIN_BATCH = 8  # images
BATCH_WAIT_SECONDS = 0.05  # how long an incomplete batch waits for further files

Decoding = tuple[str, "Future[np.ndarray | str]"]  # the path, and the pixels or an error message


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
    classifier: Classifier, files: Iterable[InputFile], *, top: int = TOP
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
    with contextlib.closing(_decoded(files, size, limit)) as batches:
        for batch in batches:
            decoded = [(path, future.result()) for path, future in batch]
            images = [pixels for _, pixels in decoded if not isinstance(pixels, str)]
            rows = iter(classifier.probabilities(np.stack(images)) if images else ())
            yield [
                Answer(path, error=pixels)
                if isinstance(pixels, str)
                else Answer(path, rank(next(rows), classifier.labels, pixels, top))
                for path, pixels in decoded
            ]


def _decoded(files: Iterable[InputFile], size: int, limit: int) -> Generator[list[Decoding]]:
    """Yields batches of files that are decoded ahead of the model, at most two batches ahead.

    Pillow decodes outside of the GIL.
    """
    # Ends with None, or with the error of `files`.
    waiting: queue.Queue[Decoding | BaseException | None] = queue.Queue(2 * limit)
    pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")

    def feed() -> None:
        end = None
        try:
            for file in files:
                waiting.put((file.path, pool.submit(_decode, file, size)))
        except BaseException as error:  # also because the pool has been shut down
            end = error
        waiting.put(end)

    # A daemon thread: at the end of the program it may still wait for standard input.
    threading.Thread(target=feed, name="find-files", daemon=True).start()
    try:
        while True:
            batch: list[Decoding] = []
            until = None
            while len(batch) < limit:
                try:
                    item = waiting.get(timeout=until and max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if not isinstance(item, tuple):
                    if batch:
                        yield batch
                    if item is not None:
                        raise item
                    return
                batch.append(item)
                until = until or time.monotonic() + BATCH_WAIT_SECONDS
            yield batch
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(queue.Empty):
            while True:  # empties the queue so that the thread can continue and end
                waiting.get_nowait()


def _decode(file: InputFile, size: int) -> np.ndarray | str:
    """Returns the pixels, uint8, (size, size, 3), or an error message."""
    if file.error is not None:
        return file.error
    try:
        with _open(file.path) as content:
            return to_model_input(open_image(content, OWN_DATA), size)
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
