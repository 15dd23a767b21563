"""What a training works on: the two parts of the train split, and the images of each epoch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from classifier.augmentation import Augmentation
from classifier.data import Split, channel_statistics, load_split, one_hot, stratified_split
from classifier.distillation import TaughtViews
from classifier.errors import InputError
from classifier.settings import Settings
from classifier.training import Images

BATCH_SIZE = 500  # images at a time where nothing is trained


@dataclass(frozen=True)
class TrainingData:
    """The train split in two parts, and the normalisation.

    Attributes:
        split: the whole train split, for its classes and its identity.
        test: read by the evaluation alone. It is opened before the training, so that a data set
            without one is refused at once and not after hours.
        training: what the network learns from.
        validation: what settings, learning rate and temperature are chosen on.
        mean, deviation: float32, (3,): of each channel of the training part, 0–255.
    """

    split: Split
    test: Split
    training: Images
    validation: Images
    mean: np.ndarray
    deviation: np.ndarray


def load_training_data(dataset: str, label_column: str | None, settings: Settings) -> TrainingData:
    """Loads a data set and divides its train split; raises what `load_split` raises."""
    split = load_split(dataset, "train", label_column=label_column)
    test = load_split(dataset, "test", label_column=label_column)
    chosen, held_out = stratified_split(
        split.labels, fraction=settings.validation_fraction, seed=settings.seed
    )
    targets = one_hot(split.labels, len(split.classes))
    training = Images(split.images[chosen], targets[chosen])
    mean, deviation = channel_statistics(training.images)
    validation = Images(split.images[held_out], targets[held_out])
    return TrainingData(split, test, training, validation, mean, deviation)


def epoch_images(
    data: TrainingData, settings: Settings
) -> tuple[Callable[[int], Images], Augmentation]:
    """Returns what gives each epoch its images, and the augmentation of its batches.

    Without a teacher every epoch has the training images as they are and augments each batch;
    with one, epochs have views that were augmented when the teacher saw them, still to be
    flipped and mixed.

    Raises:
        InputError: the teacher cannot be had, or knows other classes.
    """
    if not settings.teacher:
        return lambda epoch: data.training, Augmentation(settings)
    from classifier.sources import find

    folder = find(settings.teacher)
    if tuple(folder.labels.classes) != tuple(data.split.classes):
        raise InputError(f"the teacher {settings.teacher!r} was trained on other classes")
    teacher = folder.load_model()
    views = TaughtViews(
        lambda images: teacher.predict(images, batch_size=BATCH_SIZE, verbose=0),
        data.training,
        settings,
    )
    return views, Augmentation(settings, geometry=False)
