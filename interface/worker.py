"""Keras in a process of its own: it is imported while the page starts, and computes beside it."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.errors import ClassifierError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from classifier.prediction.classifier import Classifier

ANSWERED_TOGETHER = 64  # images: more would keep the next question waiting


@dataclass(eq=False)
class _Job:
    """Something for the other process to do."""

    call: Callable[..., Any]
    key: str
    folder: Path | None = None  # of a model to load
    images: np.ndarray | None = None  # of a question
    asked_again: bool = False  # a question under which the process was killed
    result: Future[Any] = field(default_factory=Future)


class Worker:
    """Holds the loaded models in one other process, which is started again should it ever end.

    Only names of folders and arrays of pixels go there and only probabilities come back, so that
    neither Keras nor a model that breaks it can stop or stall the page. Questions that wait for the
    same model are answered together, and take turns with what else there is to do: the first model
    answers while the others are still being loaded.
    """

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}
        self._lock = threading.RLock()
        self._waiting: list[_Job] = []
        self._busy = self._asked_last = self._stopped = False
        self._pool = self._start()

    def load(self, key: str, folder: Path) -> Future[None]:
        """Begins to load a model folder under a key; the result raises what loading raises."""
        with self._lock:
            self._folders[key] = folder
            loading = self._add(_Job(_load, key, folder=folder))
            self._add(_Job(_prepare, key))
        return loading

    def forget(self, key: str) -> None:
        """Drops a model, once the calls before this one are answered."""
        with self._lock:
            self._folders.pop(key, None)
            self._add(_Job(_forget, key))

    def ask(self, key: str, images: np.ndarray) -> Future[np.ndarray]:
        """Begins to compute the probabilities, float32, (N, C), of images, uint8, (N, 32, 32, 3).

        A process that was killed is replaced, and what it was asked is asked once more. The result
        raises `ClassifierError` if the model could not be loaded or cannot answer, and
        `BrokenProcessPool` if the process was killed under the same question twice.
        """
        return self._add(_Job(_answer, key, images=images))

    def stop(self) -> None:
        """Ends the process, whatever it is at."""
        with self._lock:
            self._stopped = True
            for job in self._waiting:
                job.result.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.kill()

    def _add(self, job: _Job) -> Future[Any]:
        with self._lock:
            self._waiting.append(job)
            self._go_on()
        return job.result

    def _go_on(self) -> None:
        """Gives the process the next thing to do, if it has nothing to do."""
        if self._busy or self._stopped:
            return
        jobs: list[_Job] = []
        while self._waiting and not jobs:
            chosen = self._choose()
            self._waiting = [job for job in self._waiting if job not in chosen]
            jobs = [
                job
                for job in chosen
                if job.result.running() or job.result.set_running_or_notify_cancel()
            ]
        if not jobs:
            return
        try:
            doing = self._submit(jobs)
        except BrokenProcessPool:  # it was killed while it had nothing to do
            self._waiting[:0] = jobs
            self._begin_again()  # the models are loaded first
            self._go_on()
            return
        self._busy = True
        doing.add_done_callback(partial(self._finish, jobs))

    def _choose(self) -> list[_Job]:
        """Returns the next job, or the questions that are answered together."""
        questions: list[_Job] = []
        blocked = set()  # keys of models that are loaded or forgotten first
        for job in self._waiting:
            if job.images is None:
                blocked |= {job.key} if job.call in (_load, _forget) else set()
            elif job.key not in blocked:
                questions.append(job)
        others = [job for job in self._waiting if job.images is None]
        asked = {job.key for job in questions}
        other = next(
            (job for job in others if job.call is not _forget or job.key not in asked), None
        )
        self._asked_last = bool(questions) and not (other and self._asked_last)
        if not self._asked_last:
            return [other] if other else []
        together: list[_Job] = []
        count = 0
        for job in questions:
            if job.key == questions[0].key and job.images is not None:
                count += len(job.images)
                if together and count > ANSWERED_TOGETHER:
                    break
                together.append(job)
        return together

    def _submit(self, jobs: list[_Job]) -> Future[Any]:
        job = jobs[0]
        if job.images is not None:
            arrays = [each.images for each in jobs if each.images is not None]
            return self._pool.submit(_answer, job.key, arrays)
        return self._pool.submit(job.call, job.key, *([job.folder] if job.folder else []))

    def _finish(self, jobs: list[_Job], done: Future[Any]) -> None:
        """Passes on what came back, after the process has something else to do."""
        error = done.exception() if not done.cancelled() else BrokenProcessPool("it was stopped")
        with self._lock:
            self._busy = False
            if isinstance(error, BrokenProcessPool) and not self._stopped:
                again = [job for job in jobs if job.images is not None and not job.asked_again]
                for job in again:
                    job.asked_again = True
                self._waiting[:0] = again
                self._begin_again()
                jobs = [job for job in jobs if job not in again]
            self._go_on()
        for index, job in enumerate(jobs):
            if error is not None:
                job.result.set_exception(error)
            else:
                answer = done.result()
                job.result.set_result(answer if job.images is None else answer[index])

    def _begin_again(self) -> None:
        self._pool = self._start()
        known = {job.key for job in self._waiting if job.call is _load}
        self._waiting[:0] = [
            _Job(_load, key, folder=folder)
            for key, folder in self._folders.items()
            if key not in known
        ]

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

    from classifier.prediction.classifier import Classifier

    try:
        classifier = Classifier.load(folder)
        # Whatever is compiled for the first picture is compiled now.
        size = classifier.image_size
        classifier.probabilities(np.zeros((1, size, size, 3), np.uint8))
    except Exception as error:
        # Not every library's exception survives the way to the other process: its text does.
        _failures[key] = " ".join(str(error).split()) or type(error).__name__
        raise ClassifierError(_failures[key]) from None
    _classifiers[key] = classifier


def _prepare(key: str) -> None:
    """Has whatever is compiled for several pictures compiled before they come."""
    import numpy as np

    if key in _classifiers:
        with contextlib.suppress(Exception):  # a question will say what is wrong
            size = _classifiers[key].image_size
            _classifiers[key].probabilities(np.zeros((2, size, size, 3), np.uint8))


def _answer(key: str, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Returns the probabilities of the images of each question, all of them computed at once."""
    import numpy as np

    if key not in _classifiers:
        raise ClassifierError(f"the model cannot answer: {_failures.get(key, 'it is not loaded')}")
    try:
        answers = _classifiers[key].probabilities(np.concatenate(arrays))
    except Exception as error:
        raise ClassifierError(f"the model cannot answer: {type(error).__name__}") from None
    return np.split(answers, np.cumsum([len(images) for images in arrays])[:-1])


def _forget(key: str) -> None:
    _classifiers.pop(key, None)
    _failures.pop(key, None)
