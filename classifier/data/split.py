"""Splits rows of a data set into training and validation rows."""

from collections.abc import Sequence

import numpy as np

from classifier.errors import InputError


def stratified_split(
    labels: np.ndarray,
    *,
    fraction: float = 0.1,
    seed: int,
    classes: Sequence[str] = (),
    files: Sequence[str] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Splits rows into training and validation, with every class in the same proportion.

    Args:
        labels: integers, (N,).
        fraction: the share of each class for validation, between 0 and 1; both parts get at least
            one image of each class.
        seed: the same seed gives the same parts.
        classes, files: the names of the classes and of the rows' files, for messages.

    Returns:
        The rows for training and those for validation: sorted int64 arrays.

    Raises:
        InputError: the fraction is not between 0 and 1, or a class has fewer than two images.
    """
    if not 0 < fraction < 1:
        raise InputError(f"the validation fraction must lie between 0 and 1. Received: {fraction}")
    generator = np.random.default_rng(seed)
    validation = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if rows.size < 2:
            name = f"{classes[label]!r}" if classes else label
            file = f" ({files[rows[0]]})" if files else ""
            raise InputError(
                f"class {name} has a single image{file}, too few for training and validation: add "
                "images or remove the class"
            )
        count = min(max(round(fraction * rows.size), 1), rows.size - 1)
        validation.append(generator.permutation(rows)[:count])
    chosen = np.sort(np.concatenate(validation)) if validation else np.empty(0, np.int64)
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen
