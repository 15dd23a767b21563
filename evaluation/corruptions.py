"""Image corruptions: shifted, rotated, blurred, darkened and noisy images.

Shifts and blurs are fractions of the image's side: they are equally strong for all sizes. Shifts
and rotations fill uncovered areas by repeating the pixels of the edge.
"""

from __future__ import annotations

import numpy as np

# From the original to the strongest corruption. Shifts and blurs (standard deviation of a Gaussian)
# in fractions of the side; rotations in degrees; brightness as a factor; noise as the standard
# deviation of a Gaussian on the scale 0–255.
LEVELS: dict[str, tuple[float, ...]] = {
    "shift": tuple(np.linspace(0, 1 / 4, 9).tolist()),  # whole pixels on images of 32
    "rotation": (0, 5, 10, 15, 20, 25, 30, 35, 40, 45),
    "blur": tuple(np.linspace(0, 1 / 16, 5).tolist()),
    "brightness": (1, 0.8, 0.6, 0.4, 0.2),
    "noise": (0, 10, 20, 30, 40, 50, 60),
}
DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up


def corrupt(images: np.ndarray, kind: str, level: float, *, seed: int = 0) -> np.ndarray:
    """Corrupts all images with the same severity, with random directions and noise from the seed.

    The random choices for an image are the same at all levels: it is shifted in one of four
    directions, rotated to one side, and has the same noise pattern.

    Args:
        images: uint8, (N, height, width, 3).
        kind: one of `LEVELS`.
        level: the strength, in the unit of the kind; the first level changes nothing.
        seed: for directions, sides and noise.

    Example:
        >>> images = np.zeros((1, 32, 32, 3), np.uint8)
        >>> corrupt(images, "shift", 1 / 4).shape
        (1, 32, 32, 3)
    """
    if level == LEVELS[kind][0]:
        return images
    random = np.random.default_rng(seed)
    corrupted = np.empty_like(images)
    if kind == "shift":
        directions = random.integers(0, len(DIRECTIONS), len(images))
        for number, (right, down) in enumerate(DIRECTIONS):
            chosen = directions == number
            corrupted[chosen] = shift(images[chosen], right * level, down * level)
        return corrupted
    if kind == "rotation":
        sides = random.integers(0, 2, len(images))
        for side, degrees in enumerate((-level, level)):
            chosen = sides == side
            corrupted[chosen] = rotate(images[chosen], degrees)
        return corrupted
    if kind == "blur":
        return blur(images, level)
    if kind == "brightness":
        return _to_bytes(images * np.float32(level))
    return _to_bytes(images + level * random.standard_normal(images.shape, np.float32))


def shift(images: np.ndarray, right: float, down: float) -> np.ndarray:
    """Shifts images, (N, height, width, channels), by whole pixels.

    The distances are fractions of width and height; negative ones go to the left and upwards.
    """
    _, height, width, _ = images.shape
    rows = np.clip(np.arange(height) - round(down * height), 0, height - 1)
    columns = np.clip(np.arange(width) - round(right * width), 0, width - 1)
    return images[:, rows[:, None], columns]


def rotate(images: np.ndarray, degrees: float) -> np.ndarray:
    """Rotates images, uint8, (N, height, width, channels), clockwise about their centre."""
    from scipy.ndimage import rotate as rotate_anticlockwise

    # Linear interpolation; order 3 would overshoot at edges.
    return rotate_anticlockwise(
        images, -degrees, axes=(1, 2), reshape=False, order=1, mode="nearest"
    )


def blur(images: np.ndarray, deviation: float) -> np.ndarray:
    """Blurs images, uint8, (N, height, width, channels), with a Gaussian.

    Its standard deviation is a fraction of the side.
    """
    from scipy.ndimage import gaussian_filter

    _, height, width, _ = images.shape
    # No blur along the axes of images and channels.
    deviations = (0, deviation * height, deviation * width, 0)
    return _to_bytes(gaussian_filter(images.astype(np.float32), deviations, mode="nearest"))


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
