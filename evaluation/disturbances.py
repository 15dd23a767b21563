"""Images that are shifted, rotated, blurred, darkened or noisy, as robustness curves need them."""

from __future__ import annotations

import numpy as np

# From untouched to worst. Shifts in pixels of 32; rotations in degrees; blur as the standard
# deviation of a Gaussian in pixels; brightness as a factor; noise as the standard deviation of a
# Gaussian on the scale 0–255.
LEVELS: dict[str, tuple[float, ...]] = {
    "shift": (0, 1, 2, 3, 4, 5, 6, 7, 8),
    "rotation": (0, 5, 10, 15, 20, 25, 30, 35, 40, 45),
    "blur": (0, 0.5, 1, 1.5, 2),
    "brightness": (1, 0.8, 0.6, 0.4, 0.2),
    "noise": (0, 10, 20, 30, 40, 50, 60),
}
DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # right, down, left, up: rows, columns


def disturb(images: np.ndarray, kind: str, level: float, *, seed: int = 0) -> np.ndarray:
    """Disturbs each image by the same amount; what it draws at random depends on the seed alone.

    So the curve over the levels follows each image: it is shifted ever farther in one of four
    directions, rotated ever farther to one side, and the same noise grows stronger. Where a shift
    or a rotation uncovers nothing known, the pixel of the edge is repeated.

    Args:
        images: uint8, (N, height, width, 3).
        kind: one of `LEVELS`.
        level: how much, in the unit of the kind; the first of its levels changes nothing.
        seed: of directions, sides and noise.

    Returns:
        uint8, (N, height, width, 3).

    Example:
        >>> shifted = disturb(images, "shift", 8)
    """
    if level == LEVELS[kind][0]:
        return images
    random = np.random.default_rng(seed)
    if kind == "shift":
        return _shift(images, int(level), random.integers(0, len(DIRECTIONS), len(images)))
    if kind == "rotation":
        return _rotate(images, level, random.integers(0, 2, len(images)))
    if kind == "blur":
        return _blur(images, level)
    if kind == "brightness":
        return _bytes(images * np.float32(level))
    return _bytes(images + level * random.standard_normal(images.shape, np.float32))


def series(picture: np.ndarray, *, seed: int = 0) -> dict[str, list[np.ndarray]]:
    """Returns for each disturbance a picture, uint8, (height, width, 3), at each of its levels."""
    return {
        kind: [disturb(picture[None], kind, level, seed=seed)[0] for level in levels]
        for kind, levels in LEVELS.items()
    }


def _shift(images: np.ndarray, pixels: int, directions: np.ndarray) -> np.ndarray:
    _, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
    shifted = np.empty_like(images)
    for number, (down, right) in enumerate(DIRECTIONS):
        top, left = pixels * (1 - down), pixels * (1 - right)
        chosen = directions == number
        shifted[chosen] = padded[chosen, top : top + height, left : left + width]
    return shifted


def _rotate(images: np.ndarray, degrees: float, sides: np.ndarray) -> np.ndarray:
    from scipy.ndimage import rotate

    rotated = np.empty_like(images)
    for side, angle in enumerate((degrees, -degrees)):
        chosen = sides == side
        # Linear between pixels; order 3 would overshoot at edges.
        rotated[chosen] = rotate(
            images[chosen], angle, axes=(1, 2), reshape=False, order=1, mode="nearest"
        )
    return rotated


def _blur(images: np.ndarray, deviation: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    # Channels are not neighbours, and neither are images.
    deviations = (0, deviation, deviation, 0)
    return _bytes(gaussian_filter(images.astype(np.float32), deviations, mode="nearest"))


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
