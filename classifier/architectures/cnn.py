"""A small residual convolutional network: the yardstick for what the dense networks lack.

Stages of 3×3 convolutions with batch normalisation, halved in size between them, in the manner of
the short residual networks of the DAWNBench competition (Page, "How to Train Your ResNet", 2018).
"""

import keras

from classifier.settings import Settings


def hidden(pixels: keras.KerasTensor, settings: Settings) -> keras.KerasTensor:
    """Maps normalised pixels (N, 32, 32, 3) to features (N, last of `channels`)."""
    features = _convolution(pixels, settings, settings.channels[0], "stem")
    for stage, channels in enumerate(settings.channels[1:], start=1):
        features = keras.layers.MaxPooling2D(name=f"halve_{stage}")(features)
        features = _convolution(features, settings, channels, f"stage_{stage}")
        if stage > 1:
            inner = _convolution(features, settings, channels, f"residual_{stage}")
            features = keras.layers.Add(name=f"add_{stage}")([features, inner])
    features = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    if settings.dropout:
        features = keras.layers.Dropout(settings.dropout, seed=settings.seed)(features)
    return features


def _convolution(
    features: keras.KerasTensor, settings: Settings, channels: int, name: str
) -> keras.KerasTensor:
    seed = settings.seed + sum(ord(letter) * (i + 1) for i, letter in enumerate(name))
    features = keras.layers.Conv2D(
        channels,
        3,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.HeNormal(seed=seed),
        kernel_regularizer=keras.regularizers.L2(settings.l2) if settings.l2 else None,
        name=f"{name}_convolution",
    )(features)
    features = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_normalisation")(features)
    return keras.layers.Activation("relu", name=f"{name}_relu")(features)
