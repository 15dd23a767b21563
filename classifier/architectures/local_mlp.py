"""The residual MLP after dense layers whose units start with local receptive fields."""

from collections.abc import Iterator

import keras

from classifier.architectures import residual_mlp
from classifier.architectures.local_start import local_layers
from classifier.architectures.tied_start import mapped_layers
from classifier.errors import InputError
from classifier.settings import Settings


def hidden(
    pixels: keras.KerasTensor, settings: Settings, seeds: Iterator[int]
) -> keras.KerasTensor:
    """Maps normalised pixels (N, S, S, 3) to features (N, width).

    Raises:
        InputError: the settings contradict each other.
    """
    if settings.local_maps and len(settings.local_maps) != len(settings.local_patches):
        raise InputError(
            "local_maps and local_patches must have the same length. Received: "
            f"{list(settings.local_maps)} and {list(settings.local_patches)}"
        )
    if settings.tied and not settings.local_maps:
        raise InputError("tied needs local_maps: the sides of the maps, such as [8, 8, 4]")
    if settings.local_filters != "random" and settings.local_maps:
        raise InputError("local_filters: patches goes without local_maps")
    features = keras.layers.Flatten(name="flatten")(pixels)
    if settings.local_maps:
        features = mapped_layers(features, settings, seeds)
    else:
        features = local_layers(features, settings)
    if settings.dropout:
        dropout = keras.layers.Dropout(settings.dropout, seed=next(seeds), name="local_dropout")
        features = dropout(features)
    return residual_mlp.blocks(features, settings, seeds)
