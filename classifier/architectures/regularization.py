"""The penalty on large weights, the same for the kernels of every architecture."""

import keras

from classifier.settings import Settings


def l2_penalty(settings: Settings) -> keras.Regularizer | None:
    """Returns the L2 penalty of a kernel, or None where the settings have none."""
    return keras.regularizers.L2(settings.l2) if settings.l2 else None
