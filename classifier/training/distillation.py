"""The images of each epoch, and targets from a trained teacher on augmented views of them.

Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015; for dense
students of convolutional teachers Urban et al., "Do Deep Convolutional Nets Really Need to be Deep
and Convolutional?", 2017, who find that answers on augmented images are what makes it work.
"""

from collections.abc import Callable

import keras
import numpy as np

from classifier.errors import InputError
from classifier.hub.sources import find
from classifier.settings import Settings
from classifier.training.augmentation import Augmentation
from classifier.training.calibration import LAST_LAYER
from classifier.training.distribution import undistributed
from classifier.training.training_data import Images, TrainingData

BATCH_SIZE = 1000


def epoch_images(
    data: TrainingData, settings: Settings
) -> tuple[Callable[[int], Images], Augmentation]:
    """Returns what gives each epoch its images, and the augmentation of its batches.

    Without a teacher every epoch has the training images as they are and augments each batch;
    with one, epochs have views that were augmented when the teacher saw them, still to be
    flipped and mixed.

    Raises:
        InputError: the teacher cannot be had, or knows other classes or images of another size.
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
    with undistributed():  # each process asks its own
        teacher = folder.load_model()
    for layer in teacher.layers:
        if layer.name != LAST_LAYER:  # in the number format of the training, which may be faster
            layer.dtype_policy = keras.config.dtype_policy()
    views = DistilledViews(
        lambda images: teacher.predict(images, batch_size=BATCH_SIZE, verbose=0),
        data.training,
        settings,
    )
    return views, Augmentation(settings, geometry=False)


class DistilledViews:
    """Augmented views of the training images with the teacher's answers, one view an epoch.

    A view is made and labelled when an epoch first asks for it, and kept in memory as uint8: after
    `distillation_views` epochs the training costs what a plain one does. Each view depends on the
    seed and its number alone, so a resumed training sees the same ones.

    Args:
        teacher: takes images, uint8, (N, S, S, 3), and returns probabilities, (N, C).
        training: the images and their one-hot labels.
        settings: the augmentation, the number of views and the teacher's share.
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


def soften(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns the softmax of the logits over a temperature, from the probabilities at 1.

    Args:
        probabilities: (N, C), rows that sum to 1.
        temperature: above 1 flattens the rows, below 1 sharpens them.
    """
    powers = np.maximum(probabilities, 1e-12) ** (1.0 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)
