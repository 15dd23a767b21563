"""Dense layers whose units are initialised with a local receptive field; all weights are trained.

A dense layer has no information about which pixels are neighbours. With a sparsity penalty it
learns local receptive fields in thousands of epochs (β-LASSO: Neyshabur, "Towards Learning
Convolutions from Scratch", 2020). Here it starts with them: each unit has a position in the image,
random weights for the inputs around it, and zeros for all others. In the first layer they can be
whitened patches of training images, as in Coates and Ng, "Learning Feature Representations with
K-means", 2012. `AdamW` with `prune_threshold` keeps weights at zero that are not larger than the
noise of the training.
"""

import keras
import numpy as np

from classifier.data.loading import channel_statistics
from classifier.settings import DEFAULT_IMAGE_SIZE, Settings

CHANNELS = 3
HE_GAIN = 2.0  # variance of a unit's output at the start (He et al., 2015)
WHITENING_PATCHES = 10_000  # for the covariance of a patch's pixels
WHITENING_FLOOR = 0.1  # added to its eigenvalues: directions below it are noise


def local_layers(flat: keras.KerasTensor, settings: Settings) -> keras.KerasTensor:
    """Maps flattened pixels (N, 3·S²) to features (N, `local_units`): one layer per patch size.

    The receptive field of a unit is a square of `local_patches` around its position: of pixels in
    the first layer, of units of the previous layer in the others. Positions are in pixels of 32×32
    images: a patch covers the same fraction of an image of any size.
    """
    features, positions = flat, pixel_positions(settings.image_size)
    for index, patch in enumerate(settings.local_patches, start=1):
        random = np.random.default_rng((settings.seed, index))
        ends = _unit_positions(settings, random)
        layer = keras.layers.Dense(settings.local_units, activation="silu", name=f"local_{index}")
        features = layer(features)
        # Assigned: Keras could not load a custom initializer without this project.
        layer.kernel.assign(local_kernel(positions, ends, patch, random))
        features = keras.layers.LayerNormalization(name=f"local_normalisation_{index}")(features)
        positions = ends
    return features


def start_from_patches(network: keras.Model, images: np.ndarray, settings: Settings) -> None:
    """Sets the weights of the first local layer to whitened patches, if the settings ask for it.

    Each unit gets the patch of a random image at its own position, multiplied by the inverse
    covariance of patches: as adjacent pixels are similar, that leaves edges and corners.

    Args:
        network: from `build_network`.
        images: the training images, (N, S, S, 3), 0–255.
        settings: of the network.
    """
    if settings.local_filters != "patches":
        return
    size, patch = settings.image_size, settings.local_patches[0]
    side = min(size, max(1, round(patch * size / DEFAULT_IMAGE_SIZE)))  # pixels
    centres = _unit_positions(settings, np.random.default_rng((settings.seed, 1)))
    corners = centres * size / DEFAULT_IMAGE_SIZE - side / 2
    corners = np.clip(np.round(corners), 0, size - side).astype(int)
    random = np.random.default_rng((settings.seed, 0))
    mean, deviation = channel_statistics(images)

    def patches(places: np.ndarray) -> np.ndarray:
        """Returns a patch of a random image for each place, normalised: (P, 3·side²)."""
        chosen = random.integers(len(images), size=len(places))
        cut = [
            images[index, top : top + side, left : left + side]
            for index, (top, left) in zip(chosen, places, strict=True)
        ]
        scale = np.maximum(deviation, keras.config.epsilon())  # of a channel that is constant
        return ((np.stack(cut) - mean) / scale).reshape(len(places), -1)

    sample = patches(random.integers(size - side + 1, size=(WHITENING_PATCHES, 2)))
    middle = sample.mean(axis=0)
    sample -= middle
    covariance = sample.T @ sample / len(sample)
    noise = WHITENING_FLOOR * np.eye(len(covariance), dtype="float32")
    filters = np.linalg.solve(covariance + noise, (patches(corners) - middle).T).T
    variances = (filters @ covariance * filters).sum(axis=1, keepdims=True)
    filters *= np.sqrt(HE_GAIN / np.maximum(variances, keras.config.epsilon()))

    kernel = np.zeros((len(corners), size, size, CHANNELS), "float32")
    for unit, (top, left) in enumerate(corners):
        square = filters[unit].reshape(side, side, CHANNELS)
        kernel[unit, top : top + side, left : left + side] = square
    network.get_layer("local_1").kernel.assign(kernel.reshape(len(corners), -1).T)


def _unit_positions(settings: Settings, random: np.random.Generator) -> np.ndarray:
    """Draws row and column, in pixels of 32, of each unit of a layer: (U, 2)."""
    return random.uniform(0, DEFAULT_IMAGE_SIZE, (settings.local_units, 2))


def pixel_positions(size: int) -> np.ndarray:
    """Returns row and column, in pixels of 32, of each value of a flattened image: (3·size², 2)."""
    rows, columns = np.divmod(np.arange(size**2), size)
    positions = np.stack([rows, columns], axis=1).repeat(CHANNELS, axis=0) + 0.5
    return positions * (DEFAULT_IMAGE_SIZE / size)


def local_kernel(
    starts: np.ndarray, ends: np.ndarray, patch: float, random: np.random.Generator
) -> np.ndarray:
    """Draws the weights of units with local receptive fields, float32, (I, U).

    They are He-normal (He et al., 2015) inside the receptive fields, of side `patch`, 0 outside.
    The positions of inputs (`starts`, (I, 2)) and units (`ends`, (U, 2)) are in pixels of 32.
    """
    near = np.abs(starts[:, None] - ends[None]).max(axis=2) <= patch / 2
    deviation = np.sqrt(HE_GAIN / max(1.0, near.sum(axis=0).mean()))
    return np.where(near, random.normal(0.0, deviation, near.shape), 0.0).astype("float32")
