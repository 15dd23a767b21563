"""Counts the operations of a network."""

import math
from typing import Any

import keras


def flops_per_image(network: keras.Model) -> int:
    """Counts the floating-point operations of one forward pass in dense and convolution layers.

    A multiplication and an addition count as two operations; normalisation, activation and bias
    are left out (under 1% here). Layers are counted once for each view of the image.
    """
    total = 0

    def count(layer: keras.Layer, *inputs: Any, **options: Any) -> Any:
        nonlocal total
        outputs = layer(*inputs, **options)
        if isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D)):
            # Each output is a sum over all but the last axis of the kernel.
            total += 2 * math.prod(outputs.shape) * math.prod(layer.kernel.shape[:-1])
        return outputs

    # With a batch of one image, the first axis of each shape is the number of views.
    one_image = keras.Input(batch_shape=(1, *network.input_shape[1:]))
    keras.models.clone_model(network, input_tensors=one_image, call_function=count)
    return total
