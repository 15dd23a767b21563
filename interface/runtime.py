"""The loaded models: they are loaded beside the page, and answer questions in their order."""

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

ANSWERED_TOGETHER = 32  # images: more would keep the next question waiting
SECONDS_TO_END = 0.3  # for the answer that is under way: the app has five in all


@dataclass(eq=False)
class _Question:
    """Images that wait for the answer of a model, which may still be loading."""

    model: Future[Any]
    images: np.ndarray
    result: Future[np.ndarray] = field(default_factory=Future)


class Runtime:
    """Loads models in one thread and answers in another, outside of Python's lock.

    Questions that wait for the same model are answered together, without waiting for more of them.
    The first model answers while the others are still being loaded.
    """

    def __init__(self) -> None:
        self._models: dict[str, Future[Any]] = {}
        self._to_load: SimpleQueue[tuple[Future[Any], Path]] = SimpleQueue()
        self._questions: list[_Question] = []
        self._changed = threading.Condition()
        self._stopped = False
        # It ends with the process: nothing that a model does keeps the app from ending.
        self._answering = threading.Thread(target=self._answer_all, name="answer", daemon=True)
        self._answering.start()

    def start(self) -> None:
        """Begins to load: while the page starts, it would take Python's lock from it."""
        threading.Thread(target=self._load_all, name="load", daemon=True).start()

    def load(self, key: str, folder: Path) -> Future[Any]:
        """Has a model folder loaded under a key; the result raises what loading raises."""
        loading: Future[Any] = Future()
        with self._changed:
            self._models[key] = loading
        self._to_load.put((loading, folder))
        return loading

    def forget(self, key: str) -> None:
        """Drops a model, which still answers what it was asked before."""
        with self._changed:
            self._models.pop(key, None)

    def ask(self, key: str, images: np.ndarray) -> Future[np.ndarray]:
        """Begins to compute the probabilities, float32, (N, C), of images, uint8, (N, S, S, 3).

        A model that is being loaded is waited for. The result raises `ClassifierError` if the model
        could not be loaded or cannot answer.
        """
        with self._changed:
            model = self._models.get(key)
            if model is None or self._stopped:
                raise ClassifierError(f"the model {key} is not loaded")
            question = _Question(model, images)
            self._questions.append(question)
            self._changed.notify()
        return question.result

    def stop(self) -> None:
        """Answers nothing more; whoever waits is told so."""
        with self._changed:
            self._stopped = True
            for question in self._questions:
                question.result.cancel()
            self._changed.notify()
        self._answering.join(SECONDS_TO_END)

    def _load_all(self) -> None:
        from classifier.model_folder.folder import ModelFolder
        from classifier.prediction import runtime

        while True:
            loading, folder = self._to_load.get()
            try:
                loading.set_result(runtime.load(ModelFolder(folder)))
            except Exception as error:
                loading.set_exception(error)
            del loading  # or a model that is forgotten would be kept until the next one
            with self._changed:
                self._changed.notify()

    def _answer_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._next() is not None)
                if self._stopped:
                    return
                together = self._take()
            if together:
                _answer(together)
            del together  # with the model that answered

    def _next(self) -> _Question | None:
        return next((item for item in self._questions if item.model.done()), None)

    def _take(self) -> list[_Question]:
        """Takes the next question, and those that are answered together with it, off the list."""
        first = self._next()
        together: list[_Question] = []
        count = 0
        for question in self._questions:
            if first is not None and question.model is first.model:
                count += len(question.images)
                if together and count > ANSWERED_TOGETHER:
                    break
                together.append(question)
        self._questions = [item for item in self._questions if item not in together]
        return [item for item in together if item.result.set_running_or_notify_cancel()]


def _answer(together: list[_Question]) -> None:
    """Computes the answers to questions for the same model all at once."""
    import numpy as np

    try:
        model = together[0].model.result()
        answers = model.probabilities(np.concatenate([item.images for item in together]))
    except Exception as error:
        # What a library says of its own failure is nothing for a visitor.
        ours = isinstance(error, ClassifierError)
        text = " ".join(str(error).split()) if ours else type(error).__name__
        for item in together:
            item.result.set_exception(ClassifierError(f"the model cannot answer: {text}"))
        return
    ends = np.cumsum([len(item.images) for item in together])
    for item, answer in zip(together, np.split(answers, ends[:-1]), strict=True):
        item.result.set_result(answer)
