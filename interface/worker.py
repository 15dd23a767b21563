"""Keras in a process of its own: it is imported while the page starts, and computes beside it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.errors import ClassifierError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from classifier.prediction import Classifier


class Worker:
    """Holds the loaded models in one other process, which is started again should it ever end.

    Only names of folders and arrays of pixels go there and only probabilities come back, so that
    neither Keras nor a model that breaks it can stop or stall the page. Calls are answered in
    their order.
    """

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}
        self._lock = threading.Lock()
        self._pool = self._start()

    def load(self, key: str, folder: Path) -> Future[None]:
        """Begins to load a model folder under a key; the result raises what loading raises."""
        with self._lock:
            self._folders[key] = folder
        return self._submit(_load, key, folder)

    def forget(self, key: str) -> None:
        """Drops a model, once the calls before this one are answered."""
        with self._lock:
            self._folders.pop(key, None)
        self._submit(_forget, key)

    def ask(self, key: str, images: np.ndarray) -> Future[np.ndarray]:
        """Begins to compute the probabilities, float32, (N, C), of images, uint8, (N, 32, 32, 3).

        The result raises `ClassifierError` if the model could not be loaded or cannot answer, and
        `BrokenProcessPool` if the process was killed: the next call starts another.
        """
        return self._submit(_answer, key, images)

    def stop(self) -> None:
        """Ends the process, whatever it is at."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.kill()

    def _submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        with self._lock:
            try:
                return self._pool.submit(call, *arguments)
            except BrokenProcessPool:
                self._pool = self._start()
                for key, folder in self._folders.items():
                    self._pool.submit(_load, key, folder)
                return self._pool.submit(call, *arguments)

    @staticmethod
    def _start() -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=_begin
        )
        pool.submit(_import_keras)
        return pool


# What follows runs in the worker's process.

_classifiers: dict[str, Classifier] = {}
_failures: dict[str, str] = {}


def _begin() -> None:
    """Leaves Ctrl-C to the app, and ends with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def _import_keras() -> None:
    # TensorFlow talks of its processor before it listens to any setting of how much to say. Should
    # the import fail, the exception says so.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # A model is compiled for one picture and for several, which TensorFlow takes for a mistake.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    spoken = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        import keras  # noqa: F401
    finally:
        os.dup2(spoken, 2)


def _load(key: str, folder: Path) -> None:
    import numpy as np

    from classifier.prediction import Classifier

    try:
        classifier = Classifier.load(folder)
        # Whatever is compiled for the first images is compiled now: for one, and for several.
        for count in (1, 2):
            classifier.probabilities(np.zeros((count, 32, 32, 3), np.uint8))
    except Exception as error:
        # Not every library's exception survives the way to the other process: its text does.
        _failures[key] = " ".join(str(error).split()) or type(error).__name__
        raise ClassifierError(_failures[key]) from None
    _classifiers[key] = classifier


def _answer(key: str, images: np.ndarray) -> np.ndarray:
    if key not in _classifiers:
        raise ClassifierError(f"the model cannot answer: {_failures.get(key, 'it is not loaded')}")
    try:
        return _classifiers[key].probabilities(images)
    except Exception as error:
        raise ClassifierError(f"the model cannot answer: {type(error).__name__}") from None


def _forget(key: str) -> None:
    _classifiers.pop(key, None)
    _failures.pop(key, None)
