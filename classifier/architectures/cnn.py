"""ResNet-9: 3×3 convolutions with batch normalisation and two residual pairs, the yardstick.

Source: Page, "How to Train Your ResNet", 2018, the network of the DAWNBench competition: pooling
right after the convolution, global max pooling at the end, logits scaled by 1/8.
"""

import keras

from classifier.settings import Settings

LOGIT_SCALE = 0.125  # Page 2018


def hidden(pixels: keras.KerasTensor, settings: Settings) -> keras.KerasTensor:
    """Maps normalised pixels (N, 32, 32, 3) to features (N, last of `channels`)."""
    features = _convolution(pixels, settings, settings.channels[0], "stem")
    for stage, channels in enumerate(settings.channels[1:], start=1):
        features = _convolution(features, settings, channels, f"stage_{stage}", pool=True)
        if stage % 2:
            inner = _convolution(features, settings, channels, f"residual_{stage}_1")
            inner = _convolution(inner, settings, channels, f"residual_{stage}_2")
            features = keras.layers.Add(name=f"add_{stage}")([features, inner])
    features = keras.layers.GlobalMaxPooling2D(name="pool")(features)
    if settings.dropout:
        features = keras.layers.Dropout(settings.dropout, seed=settings.seed)(features)
    return keras.layers.Rescaling(LOGIT_SCALE, name="logit_scale")(features)


def _convolution(
    features: keras.KerasTensor,
    settings: Settings,
    channels: int,
    name: str,
    *,
    pool: bool = False,
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
    if pool:
        features = keras.layers.MaxPooling2D(name=f"{name}_pool")(features)
    features = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_normalisation")(features)
    return keras.layers.Activation("relu", name=f"{name}_relu")(features)
