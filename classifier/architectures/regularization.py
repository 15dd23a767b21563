"""L2 regularisation, the same for the kernels of all architectures."""

import keras

from classifier.settings import Settings


def l2_penalty(settings: Settings) -> keras.Regularizer | None:
    """Returns the L2 regulariser of a kernel, or None if the settings have none."""
    return keras.regularizers.L2(settings.l2) if settings.l2 else None
