"""Builds networks, one architecture per file, and counts their operations.

Example:
    >>> network = build_network(Settings(), classes=100, mean=mean, deviation=deviation)
    ... # doctest: +SKIP
"""

import importlib
import math
from typing import Any

import keras
import numpy as np

from classifier.settings import Settings

NORMALISATION, LAST_LAYER = "normalisation", "probabilities"  # names of layers


def build_network(
    settings: Settings,
    *,
    classes: int,
    mean: np.ndarray,
    deviation: np.ndarray,
    test_time_augmentation: bool = False,
) -> keras.Model:
    """Builds the network that is trained and exported; it consists of built-in Keras layers only.

    Args:
        settings: the architecture, a module of this package with `hidden`, and its sizes.
        classes: number of classes, C.
        mean: float32, (3,): the training images' mean of each channel, 0–255.
        deviation: float32, (3,): their standard deviation.
        test_time_augmentation: whether to average the predictions for several views of the image,
            according to the settings; the views are one batch.

    Returns:
        A model from raw pixels (N, S, S, 3), 0–255, RGB, with S the settings' `image_size`, to
        softmax probabilities (N, C) in float32.
    """
    seeds = settings.seeds("network")
    images = keras.Input((settings.image_size, settings.image_size, 3), name="images")
    views = _views(images, settings) if test_time_augmentation else [images]
    pixels = keras.layers.Concatenate(axis=0, name="views")(views) if len(views) > 1 else images
    pixels = keras.layers.Normalization(
        mean=mean.tolist(), variance=(deviation**2).tolist(), name=NORMALISATION
    )(pixels)
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
    if len(views) > 1:
        probabilities = keras.ops.reshape(probabilities, (len(views), -1, classes))
        probabilities = keras.ops.mean(probabilities, axis=0)
    return keras.Model(images, probabilities, name=settings.architecture)


def _views(images: keras.KerasTensor, settings: Settings) -> list[keras.KerasTensor]:
    """Returns the image, its zoomed center crop and their horizontal flips, as in the settings."""
    views = [images]
    margin = round(settings.image_size * (1 - settings.tta_zoom) / 2)
    if margin:
        middle = keras.layers.Cropping2D(margin, name="middle")(images)
        side = settings.image_size
        # Its default would set the training mode of all following layers.
        enlarge = keras.layers.Resizing(side, side, name="enlarged")
        views.append(enlarge(middle, training=False))
    if settings.tta_flip:
        views += [keras.ops.flip(view, axis=2) for view in views]
    return views


def flops_per_image(network: keras.Model) -> int:
    """Counts the floating-point operations of one forward pass in dense and convolution layers.

    A multiplication and an addition count as two operations; normalisation, activation and bias
    are left out (under 1% here). Layers are counted once for each view of the image.
    """
    total = 0

    def count(layer: keras.Layer, *inputs: Any, **options: Any) -> Any:
        nonlocal total
        outputs = layer(*inputs, **options)
        if isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D)):
            # Each output is a sum over all but the last axis of the kernel.
            total += 2 * math.prod(outputs.shape) * math.prod(layer.kernel.shape[:-1])
        return outputs

    # With a batch of one image, the first axis of each shape is the number of views.
    one_image = keras.Input(batch_shape=(1, *network.input_shape[1:]))
    keras.models.clone_model(network, input_tensors=one_image, call_function=count)
    return total
