"""The `Classifier`: a loaded model that classifies images."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from classifier.data.images import open_image, to_model_input
from classifier.errors import InputError
from classifier.model_folder.folder import TOP, ClassNames, ModelFolder

if TYPE_CHECKING:
    import keras

BATCH = 256  # images
Predict = Callable[[np.ndarray], np.ndarray]  # float32, (B, S, S, 3), to float32, (B, C)


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        labels: the names of the most probable classes, most probable first.
        probabilities: their probabilities.
        superclasses: all superclasses, most probable first; empty if the data set has none.
        superclass_probabilities: their probabilities, each the sum over its classes.
        model_input: uint8, (S, S, 3), the input of the model.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    superclasses: tuple[str, ...]
    superclass_probabilities: tuple[float, ...]
    model_input: np.ndarray = field(repr=False, compare=False)

    @property
    def confidences(self) -> dict[str, float]:
        """Probabilities by class name, most probable first: the value of a `gr.Label`."""
        return dict(zip(self.labels, self.probabilities, strict=True))

    @property
    def superclass(self) -> str | None:
        """The most probable superclass, None if the data set has none."""
        return self.superclasses[0] if self.superclasses else None


class Classifier:
    """A model that classifies images.

    Args:
        predict: takes images, float32, (B, S, S, 3), and returns probabilities, (B, C).
        folder: its model folder.
        batch_size: images per call of `predict`, at most.

    Attributes:
        image_size: S, the side of its input images in pixels.

    Example:
        >>> import gradio
        >>> classifier = Classifier.load("pretrained/mlp-baseline")
        >>> answer = classifier.classify(gradio.get_image("lion.jpg"))
        >>> len(answer.labels)
        5
    """

    def __init__(self, predict: Predict, folder: ModelFolder, batch_size: int = BATCH) -> None:
        self.folder, self.labels, self.image_size = folder, folder.labels, folder.image_size
        self.batch_size, self._predict = batch_size, predict

    @classmethod
    def load(cls, folder: str | Path | ModelFolder) -> Classifier:
        """Checks a model folder and loads its model on the configured Keras backend.

        Raises:
            InputError: it is not a model folder, or its model is not allowed.
        """
        if not isinstance(folder, ModelFolder):
            folder = ModelFolder(Path(folder))
        return cls(keras_predict(folder.load_model()), folder)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns the probability of each class for each image: float32, (N, C), rows of sum 1.

        Raises:
            InputError: the images are not (N, S, S, 3); uint8 or float, RGB, 0–255. (Keras would
                answer other sizes, too, where a network pools over all positions.)
        """
        size = self.image_size
        if images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise InputError(f"images must be (N, {size}, {size}, 3). Received: {images.shape}")
        answers = [np.empty((0, len(self.labels.classes)), np.float32)]
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            # The same dtype for all callers: Keras compiles the model only once.
            answers.append(self._predict(np.asarray(batch, np.float32)))
        return np.concatenate(answers)

    def classify(
        self, image: Image.Image | str | Path | bytes | BinaryIO, top: int = TOP
    ) -> Prediction:
        """Classifies one image.

        Args:
            image: a Pillow image, a path, the bytes of a file, or a file opened for reading.
            top: the number of classes to return.

        Raises:
            ImageError: the image cannot be used.
        """
        decoded = image if isinstance(image, Image.Image) else open_image(image)
        pixels = to_model_input(decoded, self.image_size)
        return rank(self.probabilities(pixels[None])[0], self.labels, pixels, top)


def keras_predict(model: keras.Model) -> Predict:
    """Returns the function that a `Classifier` of a Keras model calls."""
    lock = threading.Lock()  # not every backend is thread-safe

    def predict(images: np.ndarray) -> np.ndarray:
        with lock:
            return np.asarray(model.predict_on_batch(images), np.float32)

    return predict


def rank(
    probabilities: np.ndarray, labels: ClassNames, model_input: np.ndarray, top: int = TOP
) -> Prediction:
    """Returns the `top` most probable classes and the probabilities of the superclasses.

    Args:
        probabilities: float, (C,).
        labels: the names of the C classes.
        model_input: uint8, (S, S, 3).
        top: the number of classes.
    """
    best = np.argsort(-probabilities, kind="stable")[:top]
    names = labels.superclasses or ()
    sums: np.ndarray = np.empty(0)
    if labels.superclass_of is not None:
        sums = np.bincount(labels.superclass_of, probabilities, len(names))
    groups = np.argsort(-sums, kind="stable")
    return Prediction(
        labels=tuple(labels.classes[index] for index in best),
        probabilities=tuple(float(probabilities[index]) for index in best),
        superclasses=tuple(names[index] for index in groups),
        superclass_probabilities=tuple(float(sums[index]) for index in groups),
        model_input=model_input,
    )
