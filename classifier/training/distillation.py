"""Knowledge distillation: the targets are a teacher's predictions for augmented views.

Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015; for dense
students of convolutional teachers Urban et al., "Do Deep Convolutional Nets Really Need to be Deep
and Convolutional?", 2017, who find that predictions for augmented images are essential.
"""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from numpy.lib.format import open_memmap

from classifier.data.array_cache import CACHE_ERRORS, cache_folder, save_array
from classifier.errors import InputError
from classifier.files import write_atomically
from classifier.hub.sources import find
from classifier.model_folder.folder import CONFIG, WEIGHTS
from classifier.settings import Settings
from classifier.training.augmentation import Augmentation
from classifier.training.calibration import LAST_LAYER
from classifier.training.distribution import undistributed
from classifier.training.training_data import Images, TrainingData

BATCH_SIZE = 1000
MAX_STORED_ANSWERS = 100  # views; beyond this many, the oldest are removed


def epoch_images(
    data: TrainingData, settings: Settings
) -> tuple[Callable[[int], Images], Augmentation]:
    """Returns a function that returns the images of an epoch, and the augmentation of its batches.

    Without a teacher, every epoch has the original training images, and batches are augmented.
    With a teacher, the images of an epoch are already augmented, as the teacher saw them; batches
    are only flipped and mixed.

    Raises:
        InputError: the teacher cannot be loaded, or has other classes or another image size.
    """
    if not settings.teacher:
        return lambda epoch: data.training, Augmentation(settings)
    folder = find(settings.teacher)
    if tuple(folder.labels.classes) != tuple(data.split.classes):
        raise InputError(f"the teacher {settings.teacher!r} was trained on other classes")
    if folder.image_size != settings.image_size:
        raise InputError(
            f"the teacher {settings.teacher!r} takes images of {folder.image_size} pixels, not "
            f"{settings.image_size}: set image_size={folder.image_size}, or choose another teacher"
        )
    with undistributed():  # each process has its own teacher
        teacher = folder.load_model()
    policy = keras.config.dtype_policy()
    for layer in teacher.layers:
        if layer.name != LAST_LAYER:  # in the number format of the training
            layer.dtype_policy = policy
    identity = hashlib.sha256(policy.name.encode())
    for file in (CONFIG, WEIGHTS):
        identity.update((folder.path / file).read_bytes())

    def ask(images: np.ndarray) -> np.ndarray:
        return teacher.predict(images, batch_size=BATCH_SIZE, verbose=0)

    views = DistilledViews(
        lambda images: stored_answers(identity.digest(), images, ask), data.training, settings
    )
    return views, Augmentation(settings, geometry=False)


class DistilledViews:
    """Augmented views of the training images with the teacher's predictions, one view per epoch.

    A view is computed when an epoch first needs it, and kept in memory as uint8: after
    `distillation_views` epochs, distillation has no further cost. Each view depends only on the
    seed and its number, so a resumed training has the same views.

    Args:
        teacher: takes images, uint8, (N, S, S, 3), and returns probabilities, (N, C).
        training: the images and their one-hot labels.
        settings: the augmentation, the number of views and the weight of the teacher.
    """

    def __init__(
        self, teacher: Callable[[np.ndarray], np.ndarray], training: Images, settings: Settings
    ) -> None:
        self.teacher = teacher
        self.training = training
        self.settings = settings
        self._views: dict[int, Images] = {}

    def __call__(self, epoch: int) -> Images:
        """Returns the view of an epoch, counted from 0."""
        number = epoch % self.settings.distillation_views
        if number not in self._views:
            with undistributed():
                self._views[number] = self._make(number)
        return self._views[number]

    def _make(self, number: int) -> Images:
        seed = self.settings.seed + 1000 * (number + 1)
        augmentation = Augmentation(self.settings.replace(seed=seed), mixing=False)
        images = np.empty_like(self.training.images)
        for start in range(0, len(images), BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            changed, _ = augmentation(self.training.images[batch], self.training.targets[batch])
            images[batch] = np.rint(keras.ops.convert_to_numpy(changed)).astype("uint8")
        answers = soften(self.teacher(images), self.settings.distillation_temperature)
        share = self.settings.distillation_weight
        targets = share * answers + (1 - share) * self.training.targets
        return Images(images, targets.astype("float32"))


def stored_answers(
    teacher: bytes, images: np.ndarray, ask: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Returns a teacher's predictions for images, from the cache on disk if possible.

    A resumed training, or another one with the same views, does not compute them again. If the
    cache cannot be read or written, they are computed.

    Args:
        teacher: identifies the weights and the number format of the computation.
        images: uint8, (N, S, S, 3).
        ask: returns probabilities, (N, C).

    Returns:
        float32, (N, C), rounded to half precision.
    """
    key = hashlib.sha256(teacher)
    key.update(np.ascontiguousarray(images).data)
    file: Path | None = None
    with contextlib.suppress(*CACHE_ERRORS):
        file = cache_folder() / "answers" / f"{key.hexdigest()[:32]}.npy"
        stored = open_memmap(file, mode="r")
        if stored.dtype == np.float16 and stored.ndim == 2 and len(stored) == len(images):
            return stored.astype("float32")
    answers = ask(images).astype("float16")
    with contextlib.suppress(*CACHE_ERRORS):
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, lambda path: save_array(path, answers))
            files = sorted(file.parent.glob("*.npy"), key=lambda path: -path.stat().st_mtime)
            for old in files[MAX_STORED_ANSWERS:]:
                old.unlink(missing_ok=True)
    return answers.astype("float32")


def soften(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns the softmax of the logits over a temperature, from the probabilities at 1.

    Args:
        probabilities: (N, C), rows that sum to 1.
        temperature: above 1 flattens the rows, below 1 sharpens them.
    """
    powers = np.maximum(probabilities, 1e-12) ** (1.0 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)
