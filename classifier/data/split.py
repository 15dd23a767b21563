"""The splits of a data set: their names, and how test and validation images are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from classifier.data.labelled_images import LabelledImages
from classifier.errors import InputError

# The names of a folder, in any letter case, that make it a split.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
TEST_FRACTION = 0.2  # of a data set without a test split
TEST_SEED = 0  # the test images do not depend on the seed of a training


class MissingSplitError(InputError):
    """A data set has no split of a name; `available` are those that it has."""

    def __init__(self, name: str, available: Collection[str], dataset: str) -> None:
        self.available = sorted(available)
        super().__init__(
            f"{dataset} has no split named {name!r}: choose one of {', '.join(self.available)}"
        )


def split_of(name: str) -> str | None:
    """Returns the split that a name denotes, in any letter case; None for other names.

    >>> split_of("Training"), split_of("cat")
    ('train', None)
    """
    return next((split for split, names in SPLIT_NAMES.items() if name.casefold() in names), None)


def find_split(name: str, available: Collection[str]) -> str | None:
    """Returns the split of this name, else the only one with a name of the same meaning."""
    meant = split_of(name)
    same = [other for other in available if meant is not None and split_of(other) == meant]
    if name in available:
        return name
    return same[0] if len(same) == 1 else None


def require_split(name: str, available: Collection[str], dataset: str) -> str:
    """Returns the split as `find_split`; raises MissingSplitError if there is none."""
    found = find_split(name, available)
    if found is None:
        raise MissingSplitError(name, available, dataset)
    return found


def draw_test_split(
    whole: LabelledImages, fraction: float = TEST_FRACTION
) -> tuple[LabelledImages, LabelledImages]:
    """Divides the only split of a data set into training and test images, always in the same way.

    The fraction is the share of each class for the test. The remarks of the test images tell of
    the division.

    Raises:
        InputError: a class has fewer than three images: training, validation and test take one.
    """
    rows = stratified_split(
        whole.labels,
        fraction=fraction,
        seed=TEST_SEED,
        classes=whole.classes,
        parts=("training", "validation", "test"),
    )
    told = (
        f"The test split is {fraction:.0%} of the training images of {whole.dataset}, the same "
        f"share of each class: {len(rows[1]):,} of {len(whole.labels):,}, the same ones each time."
    )
    training, test = (_part(whole, chosen, fraction) for chosen in rows)
    return training, replace(test, remarks=(told,))


def _part(whole: LabelledImages, rows: np.ndarray, fraction: float) -> LabelledImages:
    digest = hashlib.sha256(whole.fingerprint.encode())
    digest.update(rows.astype("<i8").tobytes())
    images, labels = whole.images[rows], whole.labels[rows]
    for array in (images, labels):
        array.flags.writeable = False
    return replace(
        whole,
        images=images,
        labels=labels,
        files=tuple(whole.files[row] for row in rows) if whole.files else (),
        fingerprint=digest.hexdigest()[:32],
        test_fraction=fraction,
    )


def stratified_split(
    labels: np.ndarray,
    *,
    fraction: float = 0.1,
    seed: int,
    classes: Sequence[str] = (),
    parts: Sequence[str] = ("training", "validation"),
) -> tuple[np.ndarray, np.ndarray]:
    """Divides rows into two parts, stratified by class, with scikit-learn's `train_test_split`.

    Args:
        labels: integers, (N,).
        fraction: the share of the second part, between 0 and 1; each part has at least as many rows
            as there are classes.
        seed: the same seed gives the same parts.
        classes: the names of the classes, for messages.
        parts: what the rows of each class are needed for: it must have a row for each.

    Returns:
        The rows of the two parts: sorted int64 arrays.

    Raises:
        InputError: a class has too few images.
    """
    from sklearn.model_selection import train_test_split

    present, counts = np.unique(labels, return_counts=True)
    if (few := np.flatnonzero(counts < len(parts))).size:
        label = present[few[0]]
        name = f"{classes[label]!r}" if classes else label
        raise InputError(
            f"class {name} has too few images ({counts[few[0]]}) for {', '.join(parts)}: add "
            "images or remove the class"
        )
    rows = np.arange(len(labels))
    count = min(max(round(fraction * len(rows)), len(present)), len(rows) - len(present))
    first, second = train_test_split(rows, test_size=count, stratify=labels, random_state=seed)
    return np.sort(first), np.sort(second)
