"""The data of a training: training and validation images, and the test split."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from classifier.data.class_names import first_few
from classifier.data.labelled_images import LabelledImages
from classifier.data.loading import channel_statistics, find_duplicates, load_split
from classifier.data.source import DataSource
from classifier.data.split import stratified_split
from classifier.model_folder.folder import ClassNames
from classifier.settings import Settings


class ImagesAndTargets(NamedTuple):
    """Images, uint8, (N, S, S, 3), RGB 0–255, and their target distributions, float32, (N, C)."""

    images: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class TrainingData:
    """The train split, divided into training and validation images, and the test split.

    Attributes:
        split: the whole train split.
        test: for the evaluation only. It is loaded before the training, so that a data set without
            a test split is refused at once.
        training: the training images; the targets are weighted if the settings ask for it.
        validation: for the choice of settings, learning rate and temperature.
        mean, deviation: float32, (3,): of each channel of the training images, 0–255.
        remarks: messages about the data for the user, one line each.
    """

    split: LabelledImages
    test: LabelledImages
    training: ImagesAndTargets
    validation: ImagesAndTargets
    mean: np.ndarray
    deviation: np.ndarray
    remarks: tuple[str, ...] = ()

    def epoch(self, number: int) -> ImagesAndTargets:
        """Returns the training images, which are the same in every epoch."""
        return self.training


def load_training_data(source: DataSource, settings: Settings) -> TrainingData:
    """Loads a data set and divides its train split; raises what `load_split` raises."""
    split, test = (load_split(source, name, size=settings.image_size) for name in ("train", "test"))
    class_names(split).check(split.dataset)
    share, seed = settings.validation_fraction, settings.seed
    chosen, held_out = stratified_split(
        split.labels, fraction=share, seed=seed, classes=split.classes
    )
    targets = np.eye(len(split.classes), dtype=np.float32)[split.labels]
    weights = class_weights(split.labels[chosen], len(split.classes), settings)
    training = ImagesAndTargets(
        split.images[chosen], targets[chosen] * weights[split.labels[chosen], None]
    )
    mean, deviation = channel_statistics(training.images)
    validation = ImagesAndTargets(split.images[held_out], targets[held_out])
    remarks = (*split.remarks, *test.remarks, *_warnings(split, test))
    return TrainingData(split, test, training, validation, mean, deviation, remarks)


def class_names(split: LabelledImages) -> ClassNames:
    """Returns the names that a model folder records."""
    return ClassNames(split.dataset, split.classes, split.superclasses, split.superclass_of)


def class_weights(labels: np.ndarray, classes: int, settings: Settings) -> np.ndarray:
    """Returns the factor of each class's targets, float32, (C,); on average of the images it is 1.

    With `class_weight: balanced` it is inversely proportional to a power of the class's images.
    """
    if settings.class_weight == "none":
        return np.ones(classes, np.float32)
    counts = np.bincount(labels, minlength=classes)
    weights = np.maximum(counts, 1.0) ** -settings.class_weight_power
    return (weights * len(labels) / (weights @ counts)).astype(np.float32)


def _warnings(split: LabelledImages, test: LabelledImages) -> list[str]:
    """Returns warnings about test images in the train split and about untrained classes."""
    warnings = []
    repeated = find_duplicates(test.images, split.images)
    if repeated.size:
        files = test.files or [f"row {row}" for row in range(len(test.images))]
        named = first_few([files[row] for row in repeated])
        warnings.append(
            f"Warning: {repeated.size:,} of the {len(test.images):,} test images are exact "
            f"duplicates of training images ({named}): they inflate the test accuracy."
        )
    untrained = np.setdiff1d(np.arange(len(split.classes)), split.labels)
    if untrained.size:
        names = [split.classes[label] for label in untrained]
        warnings.append(f"Warning: classes without a training image: {first_few(names)}.")
    return warnings
