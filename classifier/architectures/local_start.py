"""Dense layers whose units start on a patch of the image each, and learn freely from there.

A dense layer is told nothing about which pixels are neighbours. Trained under a pressure towards
few weights it finds out by itself (β-LASSO: Neyshabur, "Towards Learning Convolutions from
Scratch", 2020), in thousands of epochs. Here it starts with what is found there: each unit has a
place in the image and weights to what lies around it, zeros to everything else. No weight is fixed:
`AdamW` with `prune_threshold` lets those stay that are worth more than the noise of training.
"""

import keras
import numpy as np

from classifier.settings import DEFAULT_IMAGE_SIZE, Settings

CHANNELS = 3


def local_layers(flat: keras.KerasTensor, settings: Settings) -> keras.KerasTensor:
    """Maps flattened pixels (N, 3·S²) to features (N, `local_units`), through a layer a patch size.

    Each unit of a layer sees what lies in a square of `local_patches` around its place: the first
    layer pixels, a later one units of the layer before it. Places are in pixels of an image of 32,
    so that a patch covers the same share of an image of any size.
    """
    features, places = flat, pixel_places(settings.image_size)
    for index, patch in enumerate(settings.local_patches, start=1):
        random = np.random.default_rng((settings.seed, index))
        ends = random.uniform(0, DEFAULT_IMAGE_SIZE, (settings.local_units, 2))
        layer = keras.layers.Dense(settings.local_units, activation="silu", name=f"local_{index}")
        features = layer(features)
        # Assigned, since an initializer of our own could not be loaded by Keras alone.
        layer.kernel.assign(local_kernel(places, ends, patch, random))
        features = keras.layers.LayerNormalization(name=f"local_normalisation_{index}")(features)
        places = ends
    return features


def pixel_places(size: int) -> np.ndarray:
    """Returns row and column, in pixels of 32, of each value of a flattened image: (3·size², 2)."""
    rows, columns = np.divmod(np.arange(size**2), size)
    places = np.stack([rows, columns], axis=1).repeat(CHANNELS, axis=0) + 0.5
    return places * (DEFAULT_IMAGE_SIZE / size)


def local_kernel(
    starts: np.ndarray, ends: np.ndarray, patch: float, random: np.random.Generator
) -> np.ndarray:
    """Draws weights between neighbours alone.

    Args:
        starts: (I, 2), places of the inputs, in pixels of 32.
        ends: (U, 2), places of the units.
        patch: side of the square, in pixels of 32, that a unit sees around its place.
        random: what to draw with.

    Returns:
        float32, (I, U): normal with the deviation of He et al. (2015) for the inputs that a unit
        sees, 0 elsewhere.
    """
    near = np.abs(starts[:, None] - ends[None]).max(axis=2) <= patch / 2
    deviation = np.sqrt(2.0 / max(1.0, near.sum(axis=0).mean()))
    return np.where(near, random.normal(0.0, deviation, near.shape), 0.0).astype("float32")
