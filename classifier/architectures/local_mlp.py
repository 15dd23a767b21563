"""The residual MLP after dense layers whose units start with local receptive fields."""

from collections.abc import Iterator

import keras

from classifier.architectures import residual_mlp
from classifier.architectures.local_start import local_layers
from classifier.architectures.tied_start import mapped_layers
from classifier.settings import Settings


def hidden(
    pixels: keras.KerasTensor, settings: Settings, seeds: Iterator[int]
) -> keras.KerasTensor:
    """Maps normalised pixels (N, S, S, 3) to features (N, width)."""
    features = keras.layers.Flatten(name="flatten")(pixels)
    if settings.local_maps:
        features = mapped_layers(features, settings, seeds)
    else:
        features = local_layers(features, settings)
    if settings.dropout:
        dropout = keras.layers.Dropout(settings.dropout, seed=next(seeds), name="local_dropout")
        features = dropout(features)
    return residual_mlp.blocks(features, settings, seeds)
