"""One architecture a file, one factory, and what a network costs."""

import math

import keras
import numpy as np

from classifier.architectures import cnn, mlp, residual_mlp
from classifier.settings import Settings

INPUT_SHAPE = (32, 32, 3)
HIDDEN_LAYERS = {"mlp": mlp.hidden, "residual_mlp": residual_mlp.hidden, "cnn": cnn.hidden}


def build_network(
    settings: Settings,
    *,
    classes: int,
    mean: np.ndarray,
    deviation: np.ndarray,
    test_time_augmentation: bool = False,
) -> keras.Model:
    """Builds the network that is trained and exported, out of built-in Keras layers alone.

    Args:
        settings: names the architecture and its sizes.
        classes: number of classes, C.
        mean: float32, (3,): the training images' mean of each channel, 0–255.
        deviation: float32, (3,): their standard deviation.
        test_time_augmentation: whether the answer is the mean over the views that the settings
            ask for, which pass the network in one batch.

    Returns:
        A model from raw pixels (N, 32, 32, 3), 0–255, RGB, to softmax probabilities (N, C) in
        float32.
    """
    images = keras.Input(INPUT_SHAPE, name="images")
    normalisation = keras.layers.Normalization(
        mean=mean.tolist(), variance=(deviation**2).tolist(), name="normalisation"
    )
    views = _views(images, settings) if test_time_augmentation else [images]
    pixels = keras.layers.Concatenate(axis=0, name="views")(views) if len(views) > 1 else images
    features = HIDDEN_LAYERS[settings.architecture](normalisation(pixels), settings)
    probabilities = keras.layers.Dense(
        classes,
        activation="softmax",
        dtype="float32",
        kernel_initializer=keras.initializers.GlorotUniform(seed=settings.seed + 10_000),
        kernel_regularizer=regularizer(settings),
        name="probabilities",
    )(features)
    if len(views) > 1:
        probabilities = keras.ops.reshape(probabilities, (len(views), -1, classes))
        probabilities = keras.ops.mean(probabilities, axis=0)
    return keras.Model(images, probabilities, name=settings.architecture)


def _views(images: keras.KerasTensor, settings: Settings) -> list[keras.KerasTensor]:
    """Returns the image, its enlarged middle and their mirror images, as the settings ask."""
    views = [images]
    margin = round(INPUT_SHAPE[0] * (1 - settings.tta_zoom) / 2)
    if margin:
        middle = keras.layers.Cropping2D(margin, name="middle")(images)
        views.append(keras.layers.Resizing(*INPUT_SHAPE[:2], name="enlarged")(middle))
    if settings.tta_flip:
        views += [keras.ops.flip(view, axis=2) for view in views]
    return views


def regularizer(settings: Settings) -> keras.Regularizer | None:
    """Returns the L2 penalty of the kernels, or None where the settings have none."""
    return keras.regularizers.L2(settings.l2) if settings.l2 else None


def flops_per_image(network: keras.Model) -> int:
    """Counts the floating-point operations of one forward pass in dense and convolution layers.

    A multiplication and an addition count as two operations, as usual; normalisation, activation
    and bias are left out (under 1% here). A layer that is called twice counts twice.
    """
    total = 0
    for operation in network.operations:
        for node in operation._inbound_nodes:
            if isinstance(operation, keras.layers.Dense):
                total += 2 * math.prod(operation.kernel.shape)
            elif isinstance(operation, keras.layers.Conv2D):
                _, height, width, _ = node.output_tensors[0].shape
                total += 2 * math.prod(operation.kernel.shape) * height * width
    return total
