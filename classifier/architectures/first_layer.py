"""How a dense layer on flattened pixels starts: everywhere at once, or each unit on a patch."""

import keras
import numpy as np

from classifier.settings import Settings


class PatchInitializer(keras.initializers.Initializer):
    """Weights of a dense layer on flattened 32×32×3 pixels that start on one random square each.

    Every hidden unit sees a square of `patch`×`patch` pixels at initialisation and learns freely
    afterwards: the locality that β-LASSO discovers by itself (Neyshabur, 2020), given at the start.
    """

    def __init__(self, patch: int, seed: int) -> None:
        self.patch = patch
        self.seed = seed

    def __call__(self, shape: tuple[int, int], dtype: str | None = None) -> keras.KerasTensor:
        random = np.random.default_rng(self.seed)
        units = shape[1]
        kernel = np.zeros((32, 32, 3, units), "float32")
        corners = random.integers(0, 33 - self.patch, size=(units, 2))
        scale = np.sqrt(2.0 / (3 * self.patch**2))  # He et al. 2015, with the patch as fan-in
        for unit, (top, left) in enumerate(corners):
            weights = random.normal(0.0, scale, (self.patch, self.patch, 3))
            kernel[top : top + self.patch, left : left + self.patch, :, unit] = weights
        return keras.ops.convert_to_tensor(kernel.reshape(shape), dtype or "float32")


def first_kernel_initializer(settings: Settings) -> keras.initializers.Initializer:
    """Returns the initializer of the layer that reads the pixels."""
    if settings.first_layer_patch:
        return PatchInitializer(settings.first_layer_patch, settings.seed)
    return keras.initializers.HeNormal(seed=settings.seed)
