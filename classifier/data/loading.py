"""One-hot labels, channel statistics, duplicates, and the loading of a data set as arrays."""

import hashlib
import os
from pathlib import Path
from types import ModuleType

import numpy as np

from classifier.data import array_cache, cifar100_archive, hub_dataset, image_folder, local_dataset
from classifier.data.data_files import state
from classifier.data.labelled_images import LabelledImages, check_labels
from classifier.errors import InputError
from classifier.settings import DEFAULT_IMAGE_SIZE

DEFAULT_DATASET = "uoft-cs/cifar100"
STATISTICS_ROWS = 4096  # images per step, which limits the memory used


def load_split(
    dataset: str = DEFAULT_DATASET,
    split: str = "train",
    *,
    label_column: str | None = None,
    size: int = DEFAULT_IMAGE_SIZE,
) -> LabelledImages:
    """Loads one split, decoded to RGB images of one size, from the cache if possible.

    Args:
        dataset: a Hub id, optionally with `@revision`; a folder or a ZIP of images; a folder that
            `datasets.load_dataset` reads; the Toronto archive `cifar-100-python.tar.gz`; or the
            folder that it unpacks to.
        split: a split of the data set, usually "train" or "test".
        label_column: the target; by default as `classifier/data/columns.py` chooses it.
        size: the side of the images in pixels.

    Returns:
        The split; its arrays are read-only, perhaps memory-mapped.

    Raises:
        InputError: the data set, the split or the column does not exist, or the data is damaged.
        ClassifierError: the Hub cannot be reached and the data is not in the cache.

    Example:
        >>> train = load_split("uoft-cs/cifar100")  # doctest: +SKIP
        >>> train.images.shape, train.classes[:2]  # doctest: +SKIP
        ((50000, 32, 32, 3), ('apple', 'aquarium_fish'))
    """
    if not dataset or not os.path.lexists(os.path.expanduser(dataset)):  # noqa: PTH111
        return hub_dataset.load_from_hub(dataset, split, label_column=label_column, size=size)
    try:
        path = Path(dataset).expanduser().resolve()
        reader = _reader(path)
        return array_cache.load_or_build(
            f"{path}\n{split}\n{label_column or ''}\n{size}",
            lambda: state(path),
            lambda: reader.read(path, split, label_column=label_column, size=size),
        )
    except (OSError, RuntimeError) as error:  # of the file system; links in a circle are the latter
        raise InputError(
            f"{dataset} cannot be read ({error}): check it and its permissions"
        ) from error


def _reader(path: Path) -> ModuleType:
    """Returns the module that reads a file or folder."""
    if image_folder.recognises(path):
        return image_folder
    return cifar100_archive if cifar100_archive.recognises(path) else local_dataset


def find_duplicates(images: np.ndarray, training_images: np.ndarray) -> np.ndarray:
    """Finds the images that are exact copies of training images.

    Args:
        images: uint8, (N, height, width, 3).
        training_images: uint8, (M, height, width, 3).

    Returns:
        Sorted indices into `images`, int64.
    """
    seen = {_digest(image) for image in training_images}
    return np.flatnonzero([_digest(image) in seen for image in images])


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns integer labels, (N,), as one-hot vectors, float32, (N, `classes`).

    Raises:
        InputError: a label does not lie in 0 … classes - 1.
    """
    check_labels(labels, classes, where="the labels")
    return np.eye(classes, dtype=np.float32)[labels]


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and standard deviation of each channel, on the scale 0–255.

    Args:
        images: uint8, (N, height, width, 3).

    Returns:
        Two float32 arrays, (3,). They are computed from histograms and exact up to rounding.
    """
    if not len(images):
        raise InputError(
            "there are no images to compute the mean and standard deviation of: give at least one"
        )
    counts = np.zeros((3, 256), np.int64)
    for start in range(0, len(images), STATISTICS_ROWS):
        part = images[start : start + STATISTICS_ROWS]
        for channel in range(3):
            counts[channel] += np.bincount(part[..., channel].ravel(), minlength=256)
    shares = counts / counts.sum(axis=1, keepdims=True)
    values = np.arange(256)
    mean = shares @ values
    variance = (shares * (values - mean[:, None]) ** 2).sum(axis=1)
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)
