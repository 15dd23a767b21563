"""A multilayer perceptron: dense ReLU layers with dropout and L2 on flattened pixels."""

from collections.abc import Iterator

import keras

from classifier.settings import Settings


def hidden(
    pixels: keras.KerasTensor, settings: Settings, seeds: Iterator[int]
) -> keras.KerasTensor:
    """Maps normalised pixels (N, S, S, 3) to features (N, last of `hidden_units`)."""
    features = keras.layers.Flatten(name="flatten")(pixels)
    for index, units in enumerate(settings.hidden_units, start=1):
        features = keras.layers.Dense(
            units,
            activation="relu",
            kernel_initializer=keras.initializers.HeNormal(seed=next(seeds)),
            kernel_regularizer=keras.regularizers.L2(settings.l2) if settings.l2 else None,
            name=f"hidden_{index}",
        )(features)
        if settings.dropout:
            dropout = keras.layers.Dropout(
                settings.dropout, seed=next(seeds), name=f"dropout_{index}"
            )
            features = dropout(features)
    return features
