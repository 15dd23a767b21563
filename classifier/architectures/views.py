"""Test-time augmentation: the prediction is the mean over several views of the image."""

from typing import Any

import keras

from classifier.architectures import NORMALISATION
from classifier.settings import Settings


def average_views(network: keras.Model, settings: Settings) -> keras.Model:
    """Returns a model that averages the network's predictions for the views of the settings.

    The views are one batch of the same layers. Without views the network is returned as it is.
    """
    images = keras.Input(network.input_shape[1:], name="images")
    views = _views(images, settings)
    if len(views) == 1:
        return network

    def apply(layer: keras.Layer, *inputs: Any, **options: Any) -> Any:
        if layer.name == NORMALISATION:  # the first
            inputs = (keras.layers.Concatenate(axis=0, name="views")(views),)
        return layer(*inputs, **options)

    copy = keras.models.clone_model(network, input_tensors=images, call_function=apply)
    copy.set_weights(network.get_weights())
    shape = (len(views), -1, network.output_shape[-1])
    mean = keras.ops.mean(keras.ops.reshape(copy.output, shape), axis=0)
    return keras.Model(images, mean, name=network.name)


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
