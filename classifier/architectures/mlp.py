"""A multilayer perceptron: dense ReLU layers with dropout and L2 on flattened pixels."""

import keras

from classifier.architectures.regularization import l2_penalty
from classifier.settings import Settings


def hidden(pixels: keras.KerasTensor, settings: Settings) -> keras.KerasTensor:
    """Maps normalised pixels (N, S, S, 3) to features (N, last of `hidden_units`)."""
    features = keras.layers.Flatten(name="flatten")(pixels)
    for index, units in enumerate(settings.hidden_units):
        features = keras.layers.Dense(
            units,
            activation="relu",
            kernel_initializer=keras.initializers.HeNormal(seed=settings.seed + index),
            kernel_regularizer=l2_penalty(settings),
            name=f"hidden_{index + 1}",
        )(features)
        if settings.dropout:
            features = keras.layers.Dropout(
                settings.dropout, seed=settings.seed + index, name=f"dropout_{index + 1}"
            )(features)
    return features
