"""The loading of a data set as arrays; channel statistics and duplicates."""

import argparse
import contextlib
import dataclasses
import hashlib
import lzma
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from classifier.data import array_cache, cifar100_archive, hub_dataset, image_folder, local_dataset
from classifier.data.data_files import state
from classifier.data.labelled_images import LabelledImages
from classifier.data.source import DataSource
from classifier.data.split import (
    TEST_FRACTION,
    MissingSplitError,
    draw_test_split,
    find_split,
    require_split,
)
from classifier.errors import InputError
from classifier.settings import DEFAULT_IMAGE_SIZE

# Of the file system, of links in a circle (RuntimeError) and of damaged ZIPs.
DAMAGED = (EOFError, UnicodeDecodeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
UNREADABLE = (OSError, RuntimeError, *DAMAGED)
STATISTICS_ROWS = 256  # images per step, which limits the memory used


def load_split(
    source: DataSource | str = DataSource(),  # noqa: B008 - frozen
    split: str = "train",
    *,
    size: int = DEFAULT_IMAGE_SIZE,
) -> LabelledImages:
    """Loads one split, decoded to RGB images of one size, from the cache if possible.

    Args:
        source: the data set, or only its Hub id or path.
        split: "train", "test" or another split of the data set. "test" is what `source` says, else
            the split of that name, else a fifth of the training images, which "train" then lacks.
        size: the side of the images in pixels.

    Raises:
        InputError: the data set, the split or the column does not exist, or the data is damaged.
        ClassifierError: the Hub cannot be reached and the data is not in the cache.
    """
    if isinstance(source, str):
        source = DataSource(source)
    if source.test_split and split == "test":
        return load_stored_split(source, source.test_split, size)
    if source.test_fraction and split in ("train", "test"):
        return _draw(source, split, source.test_fraction, size)
    try:
        loaded = load_stored_split(source, split, size)
    except MissingSplitError as error:
        if split != "test" or not find_split("train", error.available):
            raise
        return _draw(source, split, TEST_FRACTION, size)
    if split != "train":
        return loaded
    if source.test_split:
        require_split(source.test_split, loaded.splits, loaded.dataset)
    elif not find_split("test", loaded.splits):
        return _draw(source, split, TEST_FRACTION, size)
    return _with_remark(loaded, source)


def source_of(options: argparse.Namespace, recorded: Mapping[str, Any], *, size: int) -> DataSource:
    """Returns the data that the options of `add_data_arguments` name.

    If the fingerprint in the record, the entry `dataset` of a `training.json`, says that they are
    those of the training, what the options leave out is as it was there. The size is that of the
    model's images in pixels.
    """
    given, same = DataSource.from_options(options), DataSource.from_options(options, recorded)
    if same != given:
        with contextlib.suppress(InputError):  # other data may lack the recorded split or column
            if load_split(same, size=size).fingerprint == recorded.get("fingerprint"):
                return same
    return given


def _draw(source: DataSource, split: str, fraction: float, size: int) -> LabelledImages:
    """Returns the training or the test images of a data set whose test split is drawn."""
    training, test = draw_test_split(load_stored_split(source, "train", size), fraction)
    return test if split == "test" else _with_remark(training, source)


def _with_remark(training: LabelledImages, source: DataSource) -> LabelledImages:
    """Adds a remark about the splits that neither training nor test uses."""
    tested = find_split(source.test_split or "test", training.splits)
    used = (find_split("train", training.splits), None if training.test_fraction else tested)
    others = [name for name in training.splits if name not in used]
    if not others:
        return training
    told = (
        f"Not used of {training.dataset}: {', '.join(others)}. The validation images are taken "
        f"from train; --test-split {others[0]} would test on that split."
    )
    return dataclasses.replace(training, remarks=(*training.remarks, told))


def load_stored_split(
    source: DataSource, split: str, size: int = DEFAULT_IMAGE_SIZE
) -> LabelledImages:
    """Loads a split as it is in the data set; arguments, result and errors as of `load_split`."""
    dataset = source.dataset
    if not dataset or not os.path.lexists(os.path.expanduser(dataset)):  # noqa: PTH111
        return hub_dataset.load_from_hub(source, split, size=size)
    try:
        path = Path(dataset).expanduser().resolve(strict=True)
        if not (path.is_file() or path.is_dir()):
            raise OSError("it is neither a file nor a folder")
        readers = (reader for reader in (image_folder, cifar100_archive) if reader.recognises(path))
        reader = next(readers, local_dataset)
        return array_cache.load_or_build(
            f"{path}\n{split}\n{source.label_column or ''}\n{source.config or ''}\n{size}",
            lambda: state(path),
            lambda: reader.read(path, split, source, size=size),
        )
    except UNREADABLE as error:
        raise InputError(
            f"{dataset} cannot be read ({error}): check it and its permissions"
        ) from error


def find_duplicates(images: np.ndarray, training_images: np.ndarray) -> np.ndarray:
    """Returns the sorted indices, int64, of images that are exact copies of training images.

    Both are uint8, (N, height, width, 3).
    """
    seen = {_digest(image) for image in training_images}
    return np.flatnonzero([_digest(image) in seen for image in images])


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and standard deviation of each channel, float32, (3,), 0–255.

    Images are uint8, (N, height, width, 3); sums of integers in float64 are exact.
    """
    sums = np.zeros((2, 3))
    for start in range(0, len(images), STATISTICS_ROWS):
        part = images[start : start + STATISTICS_ROWS].astype(np.float64)
        sums += part.sum((0, 1, 2)), np.square(part).sum((0, 1, 2))
    mean, square = sums / (images.size / 3)
    return mean.astype(np.float32), np.sqrt(square - mean**2).astype(np.float32)
