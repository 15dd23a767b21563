"""Knowledge distillation: the targets are a teacher's predictions for augmented views.

Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015; for dense
students of convolutional teachers Urban et al., "Do Deep Convolutional Nets Really Need to be Deep
and Convolutional?", 2017, who find that predictions for augmented images are essential.
"""

import contextlib
import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from numpy.lib.format import open_memmap

from classifier.architectures import LAST_LAYER
from classifier.architectures.views import NETWORKS, networks_of
from classifier.data.array_cache import CACHE_ERRORS, cache_folder, keep_newest, save_array
from classifier.data.class_names import match_classes
from classifier.data.labelled_images import LabelledImages
from classifier.errors import InputError
from classifier.files import write_atomically
from classifier.hub.sources import locate
from classifier.model_folder.folder import CONFIG, WEIGHTS
from classifier.settings import AUGMENTATIONS, Settings
from classifier.training.augmentation import Geometric, Photometric
from classifier.training.distribution import undistributed
from classifier.training.fit import Data, Images
from classifier.training.training_data import TrainingData

BATCH_SIZE = 1000
MAX_STORED_ANSWERS = 100  # views; beyond this many, the oldest are removed
DRAWN = ("seed", "validation_fraction")  # settings that decide which are the validation images
PER_BATCH = ("flip", "mixup", "cutmix")  # augmentations of each batch, after the teacher's answer


def distill(
    data: TrainingData, settings: Settings, teacher: str = ""
) -> tuple[Data, Settings, str]:
    """Returns the images to train on, the settings of their batches, and the teacher's identity.

    Without a teacher they are data and settings as they are; with one the settings lack the
    augmentations that the images have already.

    Raises:
        InputError: the teacher cannot be used, or is not that of the resumed run (`teacher`).
    """
    if not settings.teacher:
        return data, settings, ""
    predictions = Teacher(settings, data.split, teacher)
    off = dict(Settings())
    done = {name: off[name] for name in AUGMENTATIONS if name not in PER_BATCH}
    distilled = DistilledData(data, predictions, settings)
    return distilled, settings.replace(**done), predictions.identity


class Teacher:
    """A trained model's predictions, from the cache on disk if possible.

    They are computed in the number format of the training.

    Args:
        settings: name it.
        split: the images of the training and their classes.
        identity: of the teacher with which a resumed run was started; this one is loaded when an
            answer is not cached.

    Raises:
        InputError: the teacher cannot be loaded, has other classes, or is another one than before.
    """

    def __init__(self, settings: Settings, split: LabelledImages, identity: str = "") -> None:
        self.settings, self.split, self.identity = settings, split, identity
        self._model = None if identity else self._load()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns probabilities, float32, (N, C), for images, uint8, (N, S, S, 3)."""
        key = f"{self.identity} {keras.config.dtype_policy().name}".encode()
        return stored_answers(key, images, self._predict)

    def _predict(self, images: np.ndarray) -> np.ndarray:
        self._model = self._model or self._load()
        return self._model.predict(images, batch_size=BATCH_SIZE, verbose=0)

    def networks(self) -> list[keras.Model]:
        """Returns the networks of the teacher, each for one view."""
        return networks_of(self._model or self._load())

    def _load(self) -> keras.Model:
        name = self.settings.teacher
        self.folder = folder = locate(name).folder
        known = match_classes(self.split.classes, folder.labels.classes)
        if known != list(range(len(folder.labels.classes))):
            raise InputError(f"the teacher {name!r} was trained on other classes")
        files = (folder.path / CONFIG, folder.path / WEIGHTS)
        identity = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        if self.identity not in ("", identity):
            raise InputError(f"the teacher {name!r} is another one than when the run began")
        self.identity = identity
        with undistributed():  # each process has its own teacher
            model = folder.load_model()
        if self.settings.average_teacher:
            networks_of(model)  # are there any?
            recorded, data = (folder.training.get(key, {}) for key in ("settings", "dataset"))
            same = all(recorded.get(key) == getattr(self.settings, key) for key in DRAWN)
            if not same or data.get("fingerprint") != self.split.fingerprint:
                raise InputError(
                    f"average_teacher: {name!r} may have learnt the validation images: it must be "
                    f"trained on the same data with the same {' and '.join(DRAWN)}"
                )
        for layer in model.layers:
            if not layer.name.endswith((LAST_LAYER, NETWORKS)):  # in that of the training
                layer.dtype_policy = keras.config.dtype_policy()
        return model


class DistilledData:
    """Augmented views of the training images with the teacher's predictions, one view per epoch.

    A view is computed when an epoch first needs it, and kept in memory as uint8: after
    `distillation_views` epochs, distillation has no further cost. Each view depends only on the
    seed and its number, so a resumed training has the same views.

    Args:
        data: the images and their one-hot labels.
        teacher: takes images, uint8, (N, S, S, 3), and returns probabilities, (N, C).
        settings: the augmentation, the number of views and the weight of the teacher.

    Attributes:
        validation: the validation images, without the teacher.
    """

    def __init__(
        self, data: Data, teacher: Callable[[np.ndarray], np.ndarray], settings: Settings
    ) -> None:
        self.data, self.teacher, self.settings = data, teacher, settings
        self.validation = data.validation
        self._views: dict[int, Images] = {}

    def epoch(self, number: int) -> Images:
        """Returns the view of an epoch, counted from 0."""
        view = number % self.settings.distillation_views
        if view not in self._views:
            with undistributed():
                self._views[view] = self._make(view)
        return self._views[view]

    def _make(self, view: int) -> Images:
        training, labels = self.data.epoch(view)
        seeds = itertools.islice(self.settings.seeds("views"), 2 * view, None)
        move = Geometric(self.settings.replace(flip=0.0), next(seeds))
        recolour = Photometric(self.settings, next(seeds))
        images = np.empty_like(training)
        for start in range(0, len(images), BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            changed = recolour(move(keras.ops.cast(training[batch], "float32")))
            images[batch] = np.rint(keras.ops.convert_to_numpy(changed)).astype("uint8")
        answers = soften(self.teacher(images), self.settings.distillation_temperature)
        share = self.settings.distillation_weight
        weights = labels.sum(axis=1, keepdims=True)  # of the classes
        targets = share * weights * answers + (1 - share) * labels
        return images, targets.astype("float32")


def stored_answers(
    teacher: bytes, images: np.ndarray, ask: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Returns a teacher's predictions for images, from the cache on disk if possible.

    A resumed training, or another one with the same views, does not compute them again. If the
    cache cannot be read or written, they are computed.

    Args:
        teacher: identifies the weights and the number format of the computation.
        images: uint8, (N, S, S, 3).
        ask: returns probabilities, (N, C); they are rounded to half precision.
    """
    key = hashlib.sha256(teacher)
    key.update(np.ascontiguousarray(images).data)
    file: Path | None = None
    with contextlib.suppress(*CACHE_ERRORS):
        file = cache_folder() / "answers" / f"{key.hexdigest()[:32]}.npy"
        return open_memmap(file, mode="r").astype("float32")
    answers = ask(images).astype("float16")
    with contextlib.suppress(*CACHE_ERRORS):
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, lambda path: save_array(path, answers))
            keep_newest(file.parent.glob("*.npy"), MAX_STORED_ANSWERS)
    return answers.astype("float32")


def soften(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns the softmax of the logits over a temperature, from the probabilities at 1.

    Args:
        probabilities: (N, C), rows that sum to 1.
        temperature: above 1 flattens the rows, below 1 sharpens them.
    """
    powers = np.maximum(probabilities, 1e-12) ** (1.0 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)
