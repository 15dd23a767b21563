"""Dense layers whose units are initialised with a local receptive field; all weights are trained.

A dense layer has no information about which pixels are neighbours. With a sparsity penalty it
learns local receptive fields in thousands of epochs (β-LASSO: Neyshabur, "Towards Learning
Convolutions from Scratch", 2020). Here it starts with them: each unit has a position in the image,
random weights for the inputs around it, and zeros for all others. `AdamW` with `prune_threshold`
keeps weights at zero that are not larger than the noise of the training.
"""

import keras
import numpy as np

from classifier.settings import DEFAULT_IMAGE_SIZE, Settings

CHANNELS = 3


def local_layers(flat: keras.KerasTensor, settings: Settings) -> keras.KerasTensor:
    """Maps flattened pixels (N, 3·S²) to features (N, `local_units`): one layer per patch size.

    The receptive field of a unit is a square of `local_patches` around its position: of pixels in
    the first layer, of units of the previous layer in the others. Positions are in pixels of 32×32
    images: a patch covers the same fraction of an image of any size.
    """
    features, positions = flat, pixel_positions(settings.image_size)
    for index, patch in enumerate(settings.local_patches, start=1):
        random = np.random.default_rng((settings.seed, index))
        ends = random.uniform(0, DEFAULT_IMAGE_SIZE, (settings.local_units, 2))
        layer = keras.layers.Dense(settings.local_units, activation="silu", name=f"local_{index}")
        features = layer(features)
        # Assigned: Keras could not load a custom initializer without this project.
        layer.kernel.assign(local_kernel(positions, ends, patch, random))
        features = keras.layers.LayerNormalization(name=f"local_normalisation_{index}")(features)
        positions = ends
    return features


def pixel_positions(size: int) -> np.ndarray:
    """Returns row and column, in pixels of 32, of each value of a flattened image: (3·size², 2)."""
    rows, columns = np.divmod(np.arange(size**2), size)
    positions = np.stack([rows, columns], axis=1).repeat(CHANNELS, axis=0) + 0.5
    return positions * (DEFAULT_IMAGE_SIZE / size)


def local_kernel(
    starts: np.ndarray, ends: np.ndarray, patch: float, random: np.random.Generator
) -> np.ndarray:
    """Draws the weights of units with local receptive fields.

    Args:
        starts: (I, 2), positions of the inputs, in pixels of 32.
        ends: (U, 2), positions of the units.
        patch: side of the receptive field, in pixels of 32.
        random: the generator.

    Returns:
        float32, (I, U): He-normal (He et al., 2015) inside the receptive fields, 0 outside.
    """
    near = np.abs(starts[:, None] - ends[None]).max(axis=2) <= patch / 2
    deviation = np.sqrt(2.0 / max(1.0, near.sum(axis=0).mean()))
    return np.where(near, random.normal(0.0, deviation, near.shape), 0.0).astype("float32")
