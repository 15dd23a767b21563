"""The served models, and their predictions for pictures."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from classifier.errors import ClassifierError, InputError
from classifier.hub.pulling import ResolvedModel
from classifier.model_folder.folder import TOP, ClassNames
from classifier.prediction.classifier import Prediction, rank
from interface.decoder import Decoder
from interface.drawing import FigureCache
from interface.runtime import Runtime
from interface.uploads import Upload

if TYPE_CHECKING:
    import numpy as np

HEALTHY_SECONDS = 3.0  # after a prediction, the app counts as healthy for so long
PROBE_SECONDS = 5.0  # timeout of the health check's prediction


class UnknownModelError(InputError):
    """A request names a model that is not served; `served` are the names of those that are."""

    def __init__(self, name: str, served: Sequence[str]) -> None:
        super().__init__(f"no model named {name[:80]!r} is served: choose {' or '.join(served)}")
        self.name, self.served = name[:80], tuple(served)


@dataclass(frozen=True)
class Served(ResolvedModel):
    """A model that the app serves, with its records.

    Attributes:
        branch: the branch, tag or commit that was asked for, of a model on the Hub.
    """

    branch: str = "main"

    @property
    def key(self) -> str:
        """Its key in the runtime; different for each revision."""
        return f"{self.name}@{self.revision or self.folder.path}"

    @cached_property
    def labels(self) -> ClassNames:
        """Its classes."""
        return self.folder.labels

    @cached_property
    def image_size(self) -> int:
        """The side of its input images in pixels."""
        return self.folder.image_size

    @property
    def test_image(self) -> np.ndarray:
        """A grey image, uint8, (1, S, S, 3)."""
        import numpy as np

        return np.full((1, self.image_size, self.image_size, 3), 127, np.uint8)

    @cached_property
    def evaluation(self) -> dict[str, Any] | None:
        """The content of its `evaluation.json`, None if it was not evaluated."""
        return self.folder.evaluation

    @property
    def top1(self) -> float | None:
        """Its published accuracy, None if it was not evaluated."""
        return (self.evaluation or {}).get("top1")

    @cached_property
    def training(self) -> dict[str, Any]:
        """The content of its `training.json`."""
        return self.folder.training

    @cached_property
    def predictions(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Its probabilities (N, C) for the test split, and the labels (N,)."""
        return self.folder.predictions()


class Models:
    """The served models; they can be replaced by new revisions while requests are running.

    Attributes:
        runtime: loads the models and predicts.
        decoder: decodes pictures.
        figures: draws the models' figures.
        notice: a notice for visitors if these are not the requested models, otherwise None.
    """

    def __init__(
        self,
        served: Sequence[Served],
        notice: str | None = None,
        figures: FigureCache | None = None,
    ) -> None:
        """Creates the collection, the default first; `runtime.start` starts loading the models."""
        self.runtime, self.decoder, self.notice = Runtime(), Decoder(), notice
        self.figures = figures or FigureCache()
        self._last_answer = -math.inf
        self._served = {item.name: item for item in served}
        self._lock = threading.Lock()
        for item in served:
            self.runtime.load(item.key, item.folder.path)

    def replace(self, served: Served) -> None:
        """Replaces a model by a new revision, unless that fails to classify a test image."""
        try:
            self.runtime.load(served.key, served.folder.path).result()
            answer = self.runtime.predict(served.key, served.test_image).result()
            if not answer.min() >= 0:  # not a number; damaged records raise errors, too
                raise ClassifierError(f"{served.name} does not answer with probabilities")
            _ = served.evaluation, served.training, served.predictions
        except Exception:
            self.runtime.forget(served.key)
            raise
        with self._lock:
            old = self._served.get(served.name)
            self._served[served.name] = served
            if old is not None and old.key != served.key:
                self.runtime.forget(old.key)

    @property
    def names(self) -> list[str]:
        """The names of the served models; the first is the default."""
        return list(self._served)

    @property
    def image_sizes(self) -> set[int]:
        """The sides of the models' input images in pixels."""
        return {served.image_size for served in self}

    def __iter__(self) -> Iterator[Served]:
        return iter(list(self._served.values()))

    def get(self, name: str | None = None) -> Served:
        """Returns a served model, the first if none is named; raises `UnknownModelError`."""
        if not name:
            return next(iter(self._served.values()))
        if not isinstance(name, str) or name not in self._served:
            raise UnknownModelError(str(name), self.names)
        return self._served[name]

    async def probabilities(
        self, images: np.ndarray, name: str | None = None, key: str | None = None
    ) -> np.ndarray:
        """Returns the probabilities, (N, C), for images, uint8, (N, S, S, 3).

        Args:
            images: in the size of the model.
            name: of the model; by default the first.
            key: of the required revision; by default any.

        Raises:
            UnknownModelError: the model is not served, or not in this revision.
        """
        answers = await asyncio.wrap_future(self._predict(images, name, key))
        self._last_answer = time.monotonic()
        return answers

    async def predict_all(
        self, images: Mapping[int, np.ndarray]
    ) -> list[tuple[Served, np.ndarray]]:
        """Returns all models with probabilities, (N, C), for images of their size, (N, S, S, 3)."""
        served = list(self)
        answers = await asyncio.gather(
            *(self.probabilities(images[item.image_size], item.name, item.key) for item in served)
        )
        return list(zip(served, answers, strict=True))

    async def can_answer(self) -> bool:
        """Returns whether any model answers, from its last prediction or from a new one."""
        if time.monotonic() - self._last_answer < HEALTHY_SECONDS:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROBE_SECONDS):
                for served in self:
                    with contextlib.suppress(ClassifierError):
                        await self.probabilities(served.test_image, served.name)
                        return True
        return False

    def stop(self) -> None:
        """Stops decoding, drawing and predictions."""
        self.decoder.stop()
        self.figures.stop()
        self.runtime.stop()

    async def classify(
        self, picture: Upload, name: str | None = None, top: int = TOP
    ) -> Prediction:
        """Classifies a picture; raises `ImageError` or `UnknownModelError`."""
        served = self.get(name)
        decoded = await self.decoder.decode(picture, {served.image_size})
        pixels = decoded[served.image_size]
        answer = await self.probabilities(pixels[None], name, served.key)
        return rank(answer[0], served.labels, pixels, top)

    def _predict(self, images: np.ndarray, name: str | None, key: str | None) -> Future[np.ndarray]:
        with self._lock:  # the model must not be replaced between `get` and `predict`
            served = self.get(name)
            if key not in (None, served.key):
                raise UnknownModelError(str(key), self.names)
            return self.runtime.predict(served.key, images)
