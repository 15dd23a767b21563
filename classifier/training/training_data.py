"""What a training works on: the train split in two parts, and the test split for the evaluation."""

from dataclasses import dataclass

import numpy as np

from classifier.data.loading import (
    Split,
    channel_statistics,
    find_duplicates,
    load_split,
    one_hot,
    stratified_split,
)
from classifier.settings import Settings

NAMED = 5  # images or classes that a warning names


@dataclass(frozen=True)
class Images:
    """Images with the distribution over the classes that each should get.

    images: uint8, (N, S, S, 3), RGB 0–255; targets: float32, (N, C).
    """

    images: np.ndarray
    targets: np.ndarray


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
        remarks: what a user should know of the data before the training, a line each.
    """

    split: Split
    test: Split
    training: Images
    validation: Images
    mean: np.ndarray
    deviation: np.ndarray
    remarks: tuple[str, ...] = ()


def load_training_data(dataset: str, label_column: str | None, settings: Settings) -> TrainingData:
    """Loads a data set and divides its train split; raises what `load_split` raises."""
    split, test = (
        load_split(dataset, name, label_column=label_column, size=settings.image_size)
        for name in ("train", "test")
    )
    chosen, held_out = stratified_split(
        split.labels,
        fraction=settings.validation_fraction,
        seed=settings.seed,
        classes=split.classes,
        files=split.files,
    )
    targets = one_hot(split.labels, len(split.classes))
    training = Images(split.images[chosen], targets[chosen])
    mean, deviation = channel_statistics(training.images)
    validation = Images(split.images[held_out], targets[held_out])
    remarks = (*split.remarks, *test.remarks, *_warnings(split, test))
    return TrainingData(split, test, training, validation, mean, deviation, remarks)


def _warnings(split: Split, test: Split) -> list[str]:
    """Returns a sentence for test images that are training images, and for untrained classes."""
    warnings = []
    repeated = find_duplicates(test.images, split.images)
    if repeated.size:
        warnings.append(
            f"Warning: {repeated.size:,} of the {len(test.images):,} test images are, byte for "
            f"byte, also training images ({_some([test.describe(row) for row in repeated])}): the "
            "test accuracy is too high by them."
        )
    untrained = np.setdiff1d(np.arange(len(split.classes)), split.labels)
    for there, where in ((True, "in the test split alone"), (False, "nor a test image")):
        names = [split.classes[label] for label in untrained if (label in test.labels) == there]
        if names:
            warnings.append(f"Warning: classes without a training image, {where}: {_some(names)}.")
    return warnings


def _some(names: list[str]) -> str:
    """Lists names; of more than a few, the first."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")
