"""Pruning: small weights of layers with local receptive fields are set to zero.

Source: the hard threshold of β-LASSO, Neyshabur, "Towards Learning Convolutions from Scratch",
2020. Adam moves a weight by about one learning rate if its gradients agree, and by a quarter of it
if they are noise: a threshold between the two keeps noise at 0.
"""

from typing import Any

import keras
from keras import ops

from classifier.settings import Settings

SPARSE_LAYERS = "local_"  # prefix of the names of layers with sparse kernels


class WeightPruning(keras.callbacks.Callback):
    """Prunes after each step, below a number of the current learning rates.

    Args:
        network: whose layers are pruned.
        threshold: in learning rates.
    """

    def __init__(self, network: keras.Model, threshold: float) -> None:
        super().__init__()
        self.kernels = _sparse_kernels(network) if threshold else []
        self.threshold = threshold

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Adds the constraint, which the optimiser applies after each step."""
        optimizer = self.model.optimizer  # on JAX `self.model` cannot be read within a step

        def constrain(weights: Any) -> Any:
            smallest = self.threshold * ops.cast(optimizer.learning_rate, "float32")
            weights = ops.convert_to_tensor(weights)
            return ops.where(ops.abs(weights) < smallest, 0.0, weights)

        for kernel in self.kernels:
            kernel.constraint = constrain

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Removes the constraint."""
        for kernel in self.kernels:
            kernel.constraint = None


def prune(network: keras.Model, settings: Settings) -> None:
    """Prunes the trained network with the threshold of the highest learning rate.

    The threshold falls with the learning rate: at the end of the training it is so low that noise
    passes it.
    """
    smallest = settings.prune_threshold * settings.learning_rate
    for kernel in _sparse_kernels(network):
        weights = ops.convert_to_tensor(kernel)
        kernel.assign(ops.where(ops.abs(weights) < smallest, 0.0, weights))


def _sparse_kernels(network: keras.Model) -> list[Any]:
    return [
        layer.kernel
        for layer in network.layers
        if layer.name.startswith(SPARSE_LAYERS) and isinstance(layer, keras.layers.Dense)
    ]
