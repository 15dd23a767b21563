"""Occlusion sensitivity: how a probability changes when parts of the image are occluded.

Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, 4.2.
It needs only predictions: it works for any network on any backend.
"""

from itertools import product

import numpy as np

STEPS = 8  # positions of the occluding square along a side; the square is two steps wide
# Overlay colours of pixels that raise the probability, and of those that lower it.
FOR, AGAINST = (255, 122, 26), (36, 118, 255)


def occlude(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Occludes an image, uint8, (H, W, 3), with its mean colour at each of N positions of a square.

    Returns:
        images: uint8, (N, H, W, 3).
        masks: bool, (N, H, W), the occluded pixels; each pixel is occluded equally often.
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
    """Returns how much each pixel contributes to a probability.

    Args:
        before: the probability for the original image.
        after: float, (N,), the probability for each occluded image.
        masks: bool, (N, H, W), from `occlude`.

    Returns:
        float, (H, W): the mean drop of the probability when the pixel is occluded; negative if
        the probability rises.
    """
    drops = before - np.asarray(after, np.float64)
    return np.tensordot(drops, masks, axes=1) / masks.sum(axis=0)


def overlay(values: np.ndarray) -> np.ndarray:
    """Returns the importance of pixels, float, (H, W), as an overlay: uint8, (H, W, 4), RGBA.

    The colour shows the sign, the opacity the magnitude; the most important pixel is opaque.
    """
    strongest = np.abs(values).max()
    strength = np.abs(values) / strongest if strongest > 0 else np.zeros_like(values)
    layer = np.empty((*values.shape, 4), np.uint8)
    layer[..., :3] = np.where(values[..., None] >= 0, FOR, AGAINST)
    layer[..., 3] = np.rint(255 * strength)
    return layer
