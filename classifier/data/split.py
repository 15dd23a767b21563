"""One split of a data set as arrays: what training and evaluation work on."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from classifier.errors import InputError


@dataclass(frozen=True, eq=False)
class Split:
    """The images and labels of one split, decoded; its arrays are read-only, perhaps memory-mapped.

    Attributes:
        images: uint8, (N, S, S, 3), RGB 0–255.
        labels: int32, (N,), indices into `classes`.
        classes: the names of the classes, as the data set gives them.
        superclasses: the names of the superclasses, None where the data set has none.
        superclass_of: for each class its index into `superclasses`, None where there are none.
        dataset: the data set as one would cite it: a Hub id, or the name of a file or folder.
        revision: the commit of a data set from the Hub, None for files of this machine.
        fingerprint: a hash of everything above but the last two: the same rows have the same
            fingerprint, whatever form they were read from.
        files: the path or name of each image's file, (N,); empty where images have none.
        remarks: what a user should know of the reading, a sentence each: files that were not read.
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

    def describe(self, row: int) -> str:
        """Returns an image's file, or else its row and class, as messages name it."""
        if self.files:
            return self.files[row]
        return f"row {row}, {self.classes[self.labels[row]]}"


def make_split(
    images: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    superclasses: Sequence[str] | None,
    superclass_of: Sequence[int] | None,
    *,
    dataset: str,
    revision: str | None = None,
    files: Sequence[str] = (),
    remarks: Sequence[str] = (),
) -> Split:
    """Returns the `Split` of these rows, with their fingerprint.

    Args:
        images: uint8, (N, S, S, 3).
        labels: integers, (N,), already checked by `check_labels`.
    """
    images = _read_only(np.ascontiguousarray(images, dtype=np.uint8))
    labels = _read_only(np.ascontiguousarray(labels, dtype=np.int32))
    names = tuple(classes)
    groups = None if superclasses is None else tuple(superclasses)
    group_of = None if superclass_of is None else tuple(int(index) for index in superclass_of)
    fingerprint = content_fingerprint(images, labels, names, groups, group_of)
    return Split(
        images,
        labels,
        names,
        groups,
        group_of,
        dataset,
        revision,
        fingerprint,
        tuple(files),
        tuple(remarks),
    )


def content_fingerprint(
    images: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    superclasses: tuple[str, ...] | None,
    superclass_of: tuple[int, ...] | None,
) -> str:
    """Returns 32 hexadecimal digits that stand for these rows and names (about 1 GB a second)."""
    names = json.dumps([classes, superclasses, superclass_of, images.shape])
    digest = hashlib.sha256(names.encode())
    digest.update(images.data)
    digest.update(labels.astype("<i4", copy=False).tobytes())
    return digest.hexdigest()[:32]


def check_labels(
    labels: np.ndarray,
    classes: int,
    *,
    where: str,
    file_of: Callable[[int], str] = lambda row: "",
) -> None:
    """Raises InputError, with the first bad row, unless every label lies in 0 … classes - 1.

    Args:
        labels: integers, (N,).
        classes: how many classes there are.
        where: the column and the split that the message names.
        file_of: names the file of a row, in brackets.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        row = int(wrong[0])
        more = f" (and {wrong.size - 1} more rows)" if wrong.size > 1 else ""
        raise InputError(
            f"label {int(labels[row])} in row {row}{file_of(row)}{more} of {where} is out of "
            f"range: labels must lie in 0 to {classes - 1}. Correct or remove the row"
        )


def group_classes(labels: np.ndarray, groups: np.ndarray, classes: int) -> tuple[int, ...] | None:
    """Returns the group of each class, or None if a class has no row or lies in two groups.

    Args:
        labels: integers, (N,), the class of each row.
        groups: integers, (N,), the group (superclass) of each row.
        classes: how many classes there are.
    """
    pairs = np.unique(np.stack([labels, groups], axis=1), axis=0)
    if not np.array_equal(pairs[:, 0], np.arange(classes)):
        return None
    return tuple(int(group) for group in pairs[:, 1])


def _read_only(array: np.ndarray) -> np.ndarray:
    """A split behaves the same whether it was decoded just now or mapped from the cache."""
    view = array.view()
    view.flags.writeable = False
    return view
