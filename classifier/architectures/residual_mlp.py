"""Residual inverted-bottleneck blocks of dense layers on flattened pixels.

Source: Bachmann, Anagnostidis, Hofmann, "Scaling MLPs: A Tale of Inductive Bias", NeurIPS 2023,
with SiLU instead of GELU: the curves hardly differ, but TensorFlow does not vectorise GELU's error
function in bfloat16, which took 18% of a training step.
"""

from collections.abc import Iterator
from typing import Any

import keras

from classifier.settings import Settings


def hidden(
    pixels: keras.KerasTensor, settings: Settings, seeds: Iterator[int]
) -> keras.KerasTensor:
    """Maps normalised pixels (N, S, S, 3) to features (N, width)."""
    return blocks(keras.layers.Flatten(name="flatten")(pixels), settings, seeds)


def blocks(
    features: keras.KerasTensor, settings: Settings, seeds: Iterator[int]
) -> keras.KerasTensor:
    """Maps features (N, F) to (N, width)."""
    wide = settings.width * settings.expansion
    features = _dense(settings, settings.width, seeds, name="pixels")(features)
    for index in range(1, settings.depth + 1):
        inner = keras.layers.LayerNormalization(name=f"normalisation_{index}")(features)
        inner = _dense(settings, wide, seeds, activation="silu", name=f"expand_{index}")(inner)
        if settings.dropout:
            name = f"dropout_{index}"
            inner = keras.layers.Dropout(settings.dropout, seed=next(seeds), name=name)(inner)
        inner = _dense(settings, settings.width, seeds, name=f"contract_{index}")(inner)
        features = keras.layers.Add(name=f"block_{index}")([features, inner])
    return keras.layers.LayerNormalization(name="normalisation_out")(features)


def _dense(
    settings: Settings, units: int, seeds: Iterator[int], **options: Any
) -> keras.layers.Dense:
    return keras.layers.Dense(
        units,
        kernel_initializer=keras.initializers.HeNormal(seed=next(seeds)),
        kernel_regularizer=keras.regularizers.L2(settings.l2) if settings.l2 else None,
        **options,
    )
