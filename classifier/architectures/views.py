"""Test-time augmentation and committees: a prediction is a mean over views and networks."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import keras

from classifier.architectures import LAST_LAYER, NORMALISATION
from classifier.settings import Settings

NETWORKS = "networks"  # the layer that joins their predictions
TEACHER = "teacher_"  # prefix of the names of the layers of all networks but the first


def average_views(networks: Sequence[keras.Model], settings: Settings) -> keras.Model:
    """Returns a model that averages the networks' predictions for the views of the settings.

    The views are one batch of the same layers. One network without views is returned as it is.
    """
    images = keras.Input(networks[0].input_shape[1:], name="images")
    views = _views(images, settings)
    if len(views) == len(networks) == 1:
        return networks[0]
    batch = keras.layers.Concatenate(axis=0, name="views")(views) if len(views) > 1 else images
    outputs = [
        _apply(network, images, batch, TEACHER if number else "")
        for number, network in enumerate(networks)
    ]
    answers = outputs[0]
    if len(outputs) > 1:
        answers = keras.layers.Concatenate(axis=0, name=NETWORKS)(outputs)
    shape = (len(views) * len(networks), -1, answers.shape[-1])
    mean = keras.ops.mean(keras.ops.reshape(answers, shape), axis=0)
    return keras.Model(images, mean, name=networks[0].name)


def networks_of(model: keras.Model) -> list[keras.Model]:
    """Returns the networks whose predictions a model averages, each for one view."""
    networks = []
    for last in last_layers(model) or [model.get_layer(LAST_LAYER)]:
        first = model.get_layer(last.name.removesuffix(LAST_LAYER) + NORMALISATION)
        networks.append(keras.Model(first.input, last.output, name=model.name))
    return networks


def last_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns the last layer of each network whose predictions a model averages."""
    return [layer for layer in model.layers if layer.name.endswith(LAST_LAYER)]


def _apply(network: keras.Model, images: Any, batch: Any, prefix: str) -> Any:
    """Returns the predictions of a copy of a network for a batch of views of images."""

    def rename(layer: keras.Layer) -> keras.Layer:
        changes = {"name": prefix + layer.name, "dtype": "float32"}
        return type(layer).from_config({**layer.get_config(), **changes})

    def apply(layer: keras.Layer, *inputs: Any, **options: Any) -> Any:
        first = isinstance(layer, keras.layers.Normalization)
        return layer(*((batch,) if first else inputs), **options)

    copy = keras.models.clone_model(
        network, input_tensors=images, clone_function=rename, call_function=apply
    )
    copy.set_weights(network.get_weights())
    return copy.output


def _views(images: keras.KerasTensor, settings: Settings) -> list[keras.KerasTensor]:
    """Returns the image, its zoomed center crop, their horizontal flips, and corner crops.

    With flips, the upper right and the lower left corner are mirrored.
    """
    side, views = settings.image_size, [images]

    def enlarged(name: str, rows: tuple[int, int], columns: tuple[int, int]) -> keras.KerasTensor:
        crop = keras.layers.Cropping2D((rows, columns), name=name)(images)
        # Its default would set the training mode of all following layers.
        resize = keras.layers.Resizing(side, side, name=f"enlarged_{name}")
        return resize(crop, training=False)

    margin = round(side * (1 - settings.tta_zoom) / 2)
    if margin:
        views.append(enlarged("middle", (margin, margin), (margin, margin)))
    if settings.tta_flip:
        views += [keras.ops.flip(view, axis=2) for view in views]
    rest = round(side * (1 - settings.tta_corners))
    for top, left in product((0, rest), repeat=2) if rest else ():
        view = enlarged(f"corner_{top}_{left}", (top, rest - top), (left, rest - left))
        mirrored = settings.tta_flip and top != left
        views.append(keras.ops.flip(view, axis=2) if mirrored else view)
    return views
