"""Loads models and runs their predictions in background threads."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from classifier.errors import ClassifierError

if TYPE_CHECKING:
    import numpy as np

MAX_BATCH = 32  # images; larger batches would delay the next request
SECONDS_TO_END = 0.3  # for the running prediction; the app has five seconds in all


@dataclass(eq=False)
class _Request:
    """Images that wait for a model, which may still be loading."""

    model: Future[Any]
    images: np.ndarray
    result: Future[np.ndarray] = field(default_factory=Future)


class Runtime:
    """Loads models in one thread and predicts in another, outside of the GIL.

    Requests that wait for the same model are batched, without waiting for further ones. A loaded
    model can be used while others are still being loaded.
    """

    def __init__(self) -> None:
        self._models: dict[str, Future[Any]] = {}
        self._to_load: SimpleQueue[tuple[Future[Any], Path]] = SimpleQueue()
        self._requests: list[_Request] = []
        self._changed = threading.Condition()
        self._stopped = False
        # A daemon thread: a prediction cannot keep the process from ending.
        self._predicting = threading.Thread(target=self._predict_all, name="predict", daemon=True)
        self._predicting.start()

    def start(self) -> None:
        """Starts loading; earlier, it would compete with the start of the page for the GIL."""
        threading.Thread(target=self._load_all, name="load", daemon=True).start()

    def load(self, key: str, folder: Path) -> Future[Any]:
        """Loads a model folder under a key; the result raises what loading raises."""
        loading: Future[Any] = Future()
        with self._changed:
            self._models[key] = loading
        self._to_load.put((loading, folder))
        return loading

    def forget(self, key: str) -> None:
        """Drops a model; it still answers the requests that wait for it."""
        with self._changed:
            self._models.pop(key, None)

    def predict(self, key: str, images: np.ndarray) -> Future[np.ndarray]:
        """Requests the probabilities, float32, (N, C), of images, uint8, (N, S, S, 3).

        The request waits for a model that is being loaded. The result raises `ClassifierError` if
        loading or prediction fails.
        """
        with self._changed:
            model = self._models.get(key)
            if model is None or self._stopped:
                raise ClassifierError(f"the model {key} is not loaded")
            request = _Request(model, images)
            self._requests.append(request)
            self._changed.notify()
        return request.result

    def stop(self) -> None:
        """Cancels all waiting requests, and ends the predictions."""
        with self._changed:
            self._stopped = True
            for request in self._requests:
                request.result.cancel()
            self._changed.notify()
        self._predicting.join(SECONDS_TO_END)

    def _load_all(self) -> None:
        from classifier.model_folder.folder import ModelFolder
        from classifier.prediction import runtime

        while True:
            loading, folder = self._to_load.get()
            try:
                loading.set_result(runtime.load(ModelFolder(folder)))
            except Exception as error:
                loading.set_exception(error)
            del loading  # the variable would keep a forgotten model in memory
            with self._changed:
                self._changed.notify()

    def _predict_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._next() is not None)
                if self._stopped:
                    return
                batch = self._take_batch()
            if batch:
                _predict(batch)
            del batch  # it would keep the model in memory

    def _next(self) -> _Request | None:
        return next((request for request in self._requests if request.model.done()), None)

    def _take_batch(self) -> list[_Request]:
        """Removes the next request, and others for the same model, from the list."""
        first = self._next()
        batch: list[_Request] = []
        count = 0
        for request in self._requests:
            if first is not None and request.model is first.model:
                count += len(request.images)
                if batch and count > MAX_BATCH:
                    break
                batch.append(request)
        self._requests = [request for request in self._requests if request not in batch]
        return [request for request in batch if request.result.set_running_or_notify_cancel()]


def _predict(batch: list[_Request]) -> None:
    """Computes the probabilities for all requests of a batch."""
    import numpy as np

    try:
        model = batch[0].model.result()
        probabilities = model.probabilities(np.concatenate([request.images for request in batch]))
    except Exception as error:
        # Visitors do not get the messages of libraries.
        ours = isinstance(error, ClassifierError)
        text = " ".join(str(error).split()) if ours else type(error).__name__
        for request in batch:
            request.result.set_exception(ClassifierError(f"the model cannot answer: {text}"))
        return
    ends = np.cumsum([len(request.images) for request in batch])
    for request, part in zip(batch, np.split(probabilities, ends[:-1]), strict=True):
        request.result.set_result(part)
