"""Image corruptions: shifted, rotated, blurred, darkened and noisy images.

Shifts and blurs are measured in shares of the image's side, so that images of any size are
corrupted alike. Where a shift or a rotation uncovers nothing known, the pixel of the edge is
repeated.
"""

from __future__ import annotations

import numpy as np

# From untouched to worst. Shifts, and blurs as the standard deviation of a Gaussian, in shares of
# the side; rotations in degrees; brightness as a factor; noise as the standard deviation of a
# Gaussian on the scale 0–255.
LEVELS: dict[str, tuple[float, ...]] = {
    "shift": tuple(np.linspace(0, 1 / 4, 9).tolist()),  # whole pixels on images of 32
    "rotation": (0, 5, 10, 15, 20, 25, 30, 35, 40, 45),
    "blur": tuple(np.linspace(0, 1 / 16, 5).tolist()),
    "brightness": (1, 0.8, 0.6, 0.4, 0.2),
    "noise": (0, 10, 20, 30, 40, 50, 60),
}
IN_SHARES_OF_THE_SIDE = ("shift", "blur")
DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up


def corrupt(images: np.ndarray, kind: str, level: float, *, seed: int = 0) -> np.ndarray:
    """Corrupts each image by the same amount; what it draws at random depends on the seed alone.

    So the curve over the levels follows each image: it is shifted ever farther in one of four
    directions, rotated ever farther to one side, and the same noise grows stronger.

    Args:
        images: uint8, (N, height, width, 3).
        kind: one of `LEVELS`.
        level: how much, in the unit of the kind; the first of its levels changes nothing.
        seed: of directions, sides and noise.

    Returns:
        uint8, (N, height, width, 3).

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
    """Shifts images by whole pixels.

    Args:
        images: (N, height, width, channels).
        right: share of the width; negative to the left.
        down: share of the height; negative upwards.
    """
    _, height, width, _ = images.shape
    rows = np.clip(np.arange(height) - round(down * height), 0, height - 1)
    columns = np.clip(np.arange(width) - round(right * width), 0, width - 1)
    return images[:, rows[:, None], columns]


def rotate(images: np.ndarray, degrees: float) -> np.ndarray:
    """Rotates images, uint8, (N, height, width, channels), clockwise about their centre."""
    from scipy.ndimage import rotate as rotate_anticlockwise

    # Linear between pixels; order 3 would overshoot at edges.
    return rotate_anticlockwise(
        images, -degrees, axes=(1, 2), reshape=False, order=1, mode="nearest"
    )


def blur(images: np.ndarray, deviation: float) -> np.ndarray:
    """Blurs images with a Gaussian.

    Args:
        images: uint8, (N, height, width, channels).
        deviation: standard deviation of the Gaussian, in shares of the side.
    """
    from scipy.ndimage import gaussian_filter

    _, height, width, _ = images.shape
    # Channels are not neighbours, and neither are images.
    deviations = (0, deviation * height, deviation * width, 0)
    return _to_bytes(gaussian_filter(images.astype(np.float32), deviations, mode="nearest"))


def series(image: np.ndarray, *, seed: int = 0) -> dict[str, list[np.ndarray]]:
    """Returns for each corruption an image, uint8, (height, width, 3), at each of its levels."""
    return {
        kind: [corrupt(image[None], kind, level, seed=seed)[0] for level in levels]
        for kind, levels in LEVELS.items()
    }


def levels_in_pixels(side: int) -> dict[str, list[float]]:
    """Returns `LEVELS` as figures show them: shifts and blurs in pixels of images of a side."""
    return {
        kind: [level * (side if kind in IN_SHARES_OF_THE_SIDE else 1) for level in levels]
        for kind, levels in LEVELS.items()
    }


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
