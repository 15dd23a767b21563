"""Classifies a stream of files: decoded in parallel, predicted in batches, in order."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from classifier.data.images import OWN_DATA, ImageError, open_image, to_model_input
from classifier.model_folder.folder import TOP
from classifier.prediction.classifier import Classifier, Prediction, rank
from classifier.prediction.paths import InputFile

BATCH_BYTES = 64 * 32 * 32 * 3  # bytes of pixels per batch: 64 images of 32×32
MIN_BATCH = 8  # images

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
    """Yields the answers for files in order, in batches, each with the `top` classes.

    A batch is decoded in the background while the model predicts the one before. An unreadable file
    has an error in its answer.
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
    """Yields batches of files, of which one more is being decoded; Pillow works outside the GIL."""
    found = iter(files)
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode") as pool:
        waiting: deque[list[Decoding]] = deque()
        while batch := list(islice(found, limit)):
            waiting.append([(file.path, pool.submit(_decode, file, size)) for file in batch])
            if len(waiting) > 1:
                yield waiting.popleft()
        yield from waiting


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
    # Non-blocking, in case that a pipe has replaced the file in the meantime; not on Windows.
    flag = getattr(os, "O_NONBLOCK", 0)
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | flag))
