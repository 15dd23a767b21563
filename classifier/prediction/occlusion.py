"""Which pixels mattered: what becomes of an answer when a part of the picture is covered.

Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, 4.2.
Occlusion asks nothing of a model but answers, so it works for any network on any backend.
"""

from itertools import product

import numpy as np

STEPS = 8  # of the square that occludes the picture, along a side; the square is two steps wide
# The colours of the overlay: pixels that speak for the answer, and those that speak against it.
FOR, AGAINST = (255, 122, 26), (36, 118, 255)


def occlude(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a picture with each of its parts occluded in turn by the picture's mean colour.

    Args:
        pixels: uint8, (H, W, 3).

    Returns:
        images: uint8, (N, H, W, 3), one for each place of the window.
        masks: bool, (N, H, W), what the window occludes there; every pixel equally often.
    """
    height, width = pixels.shape[:2]
    step = max(1, round(min(height, width) / STEPS))
    window = 2 * step
    tops, lefts = range(-step, height, step), range(-step, width, step)
    masks = np.zeros((len(tops) * len(lefts), height, width), bool)
    for mask, (top, left) in zip(masks, product(tops, lefts), strict=True):
        mask[max(top, 0) : top + window, max(left, 0) : left + window] = True
    mean = pixels.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    return np.where(masks[..., None], mean, pixels), masks


def importance(before: float, after: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns how much each pixel added to a probability.

    Args:
        before: the probability for the whole picture.
        after: float, (N,), the probability for each occluded picture.
        masks: bool, (N, H, W), as `occlude` gives them.

    Returns:
        float, (H, W): by how much the probability falls when the pixel is occluded, on average over
        the windows that occlude it; negative where that helps.
    """
    drops = before - np.asarray(after, np.float64)
    return np.tensordot(drops, masks, axes=1) / masks.sum(axis=0)


def overlay(values: np.ndarray) -> np.ndarray:
    """Returns the importance of pixels as a layer to put over the picture.

    Args:
        values: float, (H, W), as `importance` gives them.

    Returns:
        uint8, (H, W, 4), RGBA: one colour for, one against, the more opaque the more it mattered;
        the most important pixel is opaque.
    """
    strongest = np.abs(values).max()
    strength = np.abs(values) / strongest if strongest > 0 else np.zeros_like(values)
    layer = np.empty((*values.shape, 4), np.uint8)
    layer[..., :3] = np.where(values[..., None] >= 0, FOR, AGAINST)
    layer[..., 3] = np.rint(255 * strength)
    return layer
