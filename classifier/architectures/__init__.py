"""Builds networks, one architecture per file."""

import importlib

import keras
import numpy as np

from classifier.settings import Settings

NORMALISATION, LAST_LAYER = "normalisation", "probabilities"  # names of layers


def build_network(
    settings: Settings, *, classes: int, mean: np.ndarray, deviation: np.ndarray
) -> keras.Model:
    """Builds the network that is trained and exported; it consists of built-in Keras layers only.

    Args:
        settings: the architecture, a module of this package with `hidden`, and its sizes.
        classes: number of classes, C.
        mean: float32, (3,): the training images' mean of each channel, 0–255.
        deviation: float32, (3,): their standard deviation.

    Returns:
        A model from raw pixels (N, S, S, 3), 0–255, RGB, with S the settings' `image_size`, to
        softmax probabilities (N, C) in float32.
    """
    seeds = settings.seeds("network")
    images = keras.Input((settings.image_size, settings.image_size, 3), name="images")
    pixels = keras.layers.Normalization(
        mean=mean.tolist(), variance=(deviation**2).tolist(), name=NORMALISATION
    )(images)
    architecture = importlib.import_module(f"{__name__}.{settings.architecture}")
    features = architecture.hidden(pixels, settings, seeds)
    probabilities = keras.layers.Dense(
        classes,
        activation="softmax",
        dtype="float32",
        kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)),
        kernel_regularizer=keras.regularizers.L2(settings.l2) if settings.l2 else None,
        name=LAST_LAYER,
    )(features)
    return keras.Model(images, probabilities, name=settings.architecture)
