"""Which images are evaluated, and what is kept of each."""

import numpy as np

from classifier.errors import InputError


def stratified_subset(labels: np.ndarray, limit: int | None, *, seed: int = 0) -> np.ndarray:
    """Chooses `limit` images with the classes in the proportions of the whole, always the same.

    Args:
        labels: integers, (N,).
        limit: how many to choose; None, or N and more, chooses all.
        seed: of the choice.

    Returns:
        Sorted indices, int64, (min(limit, N),).

    Raises:
        InputError: if the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} images leaves nothing to evaluate: give 1 or more")
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    shuffled = np.asarray(labels)[order]
    counts = np.bincount(shuffled)
    grouped = np.argsort(shuffled, kind="stable")
    rank_in_class = np.empty(len(order))
    rank_in_class[grouped] = np.arange(len(order)) - np.repeat(counts.cumsum() - counts, counts)
    # Taken in this order, each class has given the same share of its images at every moment.
    share_given = (rank_in_class + 0.5) / counts[shuffled]
    return np.sort(order[np.argsort(share_given, kind="stable")[:limit]])


def storable(probabilities: np.ndarray) -> np.ndarray:
    """Rounds probabilities to what `predictions.npz` keeps, without changing any answer.

    Where rounding makes the most probable class level with a class of lower index, it is put one
    step (a two-thousandth of its value) above: so the top-1 of the stored predictions is the
    model's own.

    Args:
        probabilities: float, (N, C).

    Returns:
        float16, (N, C).
    """
    probabilities = np.asarray(probabilities)
    rounded = probabilities.astype(np.float16)
    winner = probabilities.argmax(axis=1)
    rows = np.flatnonzero(rounded.argmax(axis=1) != winner)
    tied = rounded[rows, winner[rows]]
    rounded[rows, winner[rows]] = np.nextafter(tied, np.float16(2))
    return rounded
