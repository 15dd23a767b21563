"""ResNet-9: 3×3 convolutions with batch normalisation and two residual blocks.

Source: Page, "How to Train Your ResNet", 2018, the network of the DAWNBench competition: pooling
right after the convolution, global max pooling at the end, logits scaled by 1/8. The last feature
map has 4×4 to 8×8 positions for all image sizes: small images are pooled in fewer stages, large
ones also in the stem, which then has more layers.
"""

from collections.abc import Iterator

import keras

from classifier.settings import Settings

LOGIT_SCALE = 0.125  # Page 2018
MIN_MAP, MAX_MAP = 4, 8  # pixels of a side of the last feature map


def hidden(
    pixels: keras.KerasTensor, settings: Settings, seeds: Iterator[int]
) -> keras.KerasTensor:
    """Maps normalised pixels (N, S, S, 3) to features (N, last of `channels`)."""
    in_stem, in_stages = poolings(settings.image_size, len(settings.channels) - 1)
    stem, *stages = settings.channels
    features = _convolution(pixels, settings, seeds, stem, "stem", pool=in_stem > 0)
    for number in range(2, in_stem + 1):
        features = _convolution(features, settings, seeds, stem, f"stem_{number}", pool=True)
    for stage, channels in enumerate(stages, start=1):
        pool = stage <= in_stages
        features = _convolution(features, settings, seeds, channels, f"stage_{stage}", pool=pool)
        if stage % 2:
            inner = _convolution(features, settings, seeds, channels, f"residual_{stage}_1")
            inner = _convolution(inner, settings, seeds, channels, f"residual_{stage}_2")
            features = keras.layers.Add(name=f"add_{stage}")([features, inner])
    features = keras.layers.GlobalMaxPooling2D(name="pool")(features)
    if settings.dropout:
        features = keras.layers.Dropout(settings.dropout, seed=next(seeds))(features)
    return keras.layers.Rescaling(LOGIT_SCALE, name="logit_scale")(features)


def poolings(size: int, stages: int) -> tuple[int, int]:
    """Returns the number of poolings in the stem and in the stages for a size in pixels.

    Example:
        >>> poolings(32, stages=3), poolings(8, stages=3), poolings(224, stages=3)
        ((0, 3), (0, 1), (2, 3))
    """
    in_stages = 0
    while in_stages < stages and size // 2 >= MIN_MAP:
        size, in_stages = size // 2, in_stages + 1
    in_stem = 0
    while size > MAX_MAP:
        size, in_stem = size // 2, in_stem + 1
    return in_stem, in_stages


def _convolution(
    features: keras.KerasTensor,
    settings: Settings,
    seeds: Iterator[int],
    channels: int,
    name: str,
    *,
    pool: bool = False,
) -> keras.KerasTensor:
    features = keras.layers.Conv2D(
        channels,
        3,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.HeNormal(seed=next(seeds)),
        kernel_regularizer=keras.regularizers.L2(settings.l2) if settings.l2 else None,
        name=f"{name}_convolution",
    )(features)
    if pool:
        features = keras.layers.MaxPooling2D(name=f"{name}_pool")(features)
    features = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_normalisation")(features)
    return keras.layers.Activation("relu", name=f"{name}_relu")(features)
