"""Residual inverted-bottleneck blocks of dense layers on flattened pixels.

Source: Bachmann, Anagnostidis, Hofmann, "Scaling MLPs: A Tale of Inductive Bias", NeurIPS 2023,
with SiLU instead of GELU: the curves hardly differ, but TensorFlow does not vectorise GELU's error
function in bfloat16, which took 18% of a training step. Layers with locally initialised weights can
precede the blocks.
"""

import keras

from classifier.architectures.local_start import local_layers
from classifier.architectures.regularization import l2_penalty
from classifier.architectures.tied_start import mapped_layers
from classifier.settings import Settings


def hidden(pixels: keras.KerasTensor, settings: Settings) -> keras.KerasTensor:
    """Maps normalised pixels (N, S, S, 3) to features (N, width)."""
    features = keras.layers.Flatten(name="flatten")(pixels)
    if settings.local_maps:
        features = mapped_layers(features, settings)
    elif settings.local_units:
        features = local_layers(features, settings)
    if settings.dropout and settings.local_units:
        dropout = keras.layers.Dropout(settings.dropout, seed=settings.seed, name="local_dropout")
        features = dropout(features)
    features = _dense(settings, settings.width, "pixels", seed=settings.seed)(features)
    for index in range(1, settings.depth + 1):
        features = _block(features, settings, index)
    return keras.layers.LayerNormalization(name="normalisation_out")(features)


def _block(features: keras.KerasTensor, settings: Settings, index: int) -> keras.KerasTensor:
    wide = settings.width * settings.expansion
    seed = settings.seed + 100 * index
    inner = keras.layers.LayerNormalization(name=f"normalisation_{index}")(features)
    inner = _dense(settings, wide, f"expand_{index}", activation="silu", seed=seed)(inner)
    if settings.dropout:
        inner = keras.layers.Dropout(settings.dropout, seed=seed, name=f"dropout_{index}")(inner)
    inner = _dense(settings, settings.width, f"contract_{index}", seed=seed + 1)(inner)
    return keras.layers.Add(name=f"block_{index}")([features, inner])


def _dense(
    settings: Settings,
    units: int,
    name: str,
    *,
    activation: str | None = None,
    seed: int,
) -> keras.layers.Dense:
    return keras.layers.Dense(
        units,
        activation=activation,
        kernel_initializer=keras.initializers.HeNormal(seed=seed),
        kernel_regularizer=l2_penalty(settings),
        name=name,
    )
