"""Labelled images of a data set as arrays, for training and evaluation."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from classifier.data.class_names import check_spellings, first_few, match_classes
from classifier.errors import InputError


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """The decoded images and labels of a split, as read-only and possibly memory-mapped arrays.

    Attributes:
        images: uint8, (N, S, S, 3), RGB 0–255.
        labels: int32, (N,), indices into `classes`.
        classes: the names of the classes, as the data set gives them.
        superclasses: the names of the superclasses, None if the data set has none.
        superclass_of: for each class its index into `superclasses`, None if there are none.
        dataset: the name of the data set: a Hub id, or the name of a file or folder.
        revision: the commit of a data set from the Hub, None for local files.
        fingerprint: a hash of images, labels, classes and superclasses: equal data has the same
            fingerprint, whatever format it was read from.
        files: the path or name of each image's file, (N,); empty if images have none.
        remarks: sentences for the user, such as which files were skipped.
        splits: the names of all splits of the data set.
        test_fraction: the share of the training images that was drawn as the test split; None if
            the data set has one.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    superclasses: tuple[str, ...] | None
    superclass_of: tuple[int, ...] | None
    dataset: str
    revision: str | None
    fingerprint: str
    files: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    test_fraction: float | None = None

    def to_classes(self, classes: tuple[str, ...]) -> "LabelledImages":
        """Returns the images with the classes of a model, in its order, matched by name.

        A remark names the model's classes that the data set lacks.

        Raises:
            InputError: images belong to classes that the model does not know.
        """
        found = match_classes(self.classes, classes)
        unknown = [self.classes[label] for label in np.unique(self.labels) if found[label] is None]
        if unknown:
            raise InputError(
                f"{self.dataset} has classes that the model does not know ({first_few(unknown)}): "
                "name the data set that it was trained on with --dataset"
            )
        absent = [name for index, name in enumerate(classes) if index not in found]
        told = [f"Classes of the model that {self.dataset} lacks: {first_few(absent)}."]
        index = np.array([-1 if number is None else number for number in found], np.int32)
        remarks = (*self.remarks, *(told if absent else ()))
        return replace(self, labels=index[self.labels], classes=classes, remarks=remarks)


def label_images(
    images: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    superclasses: Sequence[str] | None = None,
    superclass_of: Sequence[int] | None = None,
    *,
    dataset: str,
    revision: str | None = None,
    files: Sequence[str] = (),
    remarks: Sequence[str] = (),
    splits: Sequence[str] = (),
) -> LabelledImages:
    """Returns the `LabelledImages` of these rows, with their fingerprint (about 1 GB per second).

    Args:
        images: uint8, (N, S, S, 3).
        labels: integers, (N,), checked by `check_labels`.

    Raises:
        InputError: two classes or superclasses have the same name but for its spelling.
    """
    for group in (classes, superclasses or ()):
        check_spellings(group, dataset)
    images = np.ascontiguousarray(images, dtype=np.uint8).view()
    labels = np.ascontiguousarray(labels, dtype=np.int32).view()
    for array in (images, labels):  # like those that are mapped from the cache
        array.flags.writeable = False
    names = (
        tuple(classes),
        None if superclasses is None else tuple(superclasses),
        None if superclass_of is None else tuple(map(int, superclass_of)),
    )
    digest = hashlib.sha256(json.dumps([*names, images.shape]).encode())
    digest.update(images.data)
    digest.update(labels.astype("<i4", copy=False).tobytes())
    return LabelledImages(
        images,
        labels,
        *names,
        dataset=dataset,
        revision=revision,
        fingerprint=digest.hexdigest()[:32],
        files=tuple(files),
        remarks=tuple(remarks),
        splits=tuple(splits),
    )


def check_labels(
    labels: np.ndarray, classes: int, *, where: str, files: Sequence[str] = ()
) -> None:
    """Raises InputError, naming the first wrong row, unless all labels are in 0 … classes - 1.

    The labels are integers, (N,). The message names the column and the split (`where`), and the
    file of the row, if it has one.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        row = int(wrong[0])
        file = f" ({files[row]})" if files and files[row] else ""
        more = f" (and {wrong.size - 1} more rows)" if wrong.size > 1 else ""
        raise InputError(
            f"label {int(labels[row])} in row {row}{file}{more} of {where} is missing or out of "
            f"range: labels must lie in 0 to {classes - 1}. Correct or remove the row"
        )


def group_classes(
    labels: np.ndarray, groups: np.ndarray, classes: int, names: Sequence[str]
) -> tuple[Sequence[str] | None, tuple[int, ...] | None]:
    """Returns the superclasses and the index of each class into them.

    Both are None if a class has no row, or rows of two superclasses. Labels and groups are
    integers, (N,): the class and the superclass of each row; `names` are those of superclasses.
    """
    pairs = np.unique(np.stack([labels, groups], axis=1), axis=0)
    if not np.array_equal(pairs[:, 0], np.arange(classes)):
        return None, None
    return names, tuple(pairs[:, 1].tolist())
