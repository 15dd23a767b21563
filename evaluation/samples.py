"""Selects images for an evaluation, and rounds their probabilities for storage."""

import numpy as np

from classifier.errors import InputError


def stratified_subset(labels: np.ndarray, limit: int | None, *, seed: int = 0) -> np.ndarray:
    """Chooses a stratified subset of images, always the same for a seed.

    Args:
        labels: integers, (N,).
        limit: the size of the subset, at least 1; None, or N and more, chooses all.
        seed: for the choice.

    Returns:
        Sorted indices, int64, (min(limit, N),).

    Raises:
        InputError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"the limit must be at least 1. Received: {limit}")
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    shuffled = np.asarray(labels)[order]
    counts = np.bincount(shuffled)
    grouped = np.argsort(shuffled, kind="stable")
    rank_in_class = np.empty(len(order))
    rank_in_class[grouped] = np.arange(len(order)) - np.repeat(counts.cumsum() - counts, counts)
    # In this order, any prefix contains about the same fraction of each class.
    fraction = (rank_in_class + 0.5) / counts[shuffled]
    return np.sort(order[np.argsort(fraction, kind="stable")[:limit]])


def to_float16(probabilities: np.ndarray) -> np.ndarray:
    """Rounds probabilities, float, (N, C), to float16 without changing the predicted classes.

    If rounding creates a tie of the most probable class with a class of lower index, its
    probability is raised to the next float16 (by a two-thousandth). This keeps the top-1 accuracy.
    """
    probabilities = np.asarray(probabilities)
    rounded = probabilities.astype(np.float16)
    predicted = probabilities.argmax(axis=1)
    changed = np.flatnonzero(rounded.argmax(axis=1) != predicted)
    tied = rounded[changed, predicted[changed]]
    rounded[changed, predicted[changed]] = np.nextafter(tied, np.float16(2))
    return rounded
