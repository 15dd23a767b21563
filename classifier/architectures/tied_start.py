"""Dense layers that can be initialised with convolutions, whose weights are shared ("tied").

Source: d'Ascoli, Sagun, Biroli, Bruna, "Finding the Needle in the Haystack with Convolutions",
2019: a convolutional network that is converted to a dense one and trained further is better than a
dense network with random initial weights. A network with `tied` is trained first; a network without
it is then trained from its weights (`--init-from`), which `dense_form` converts.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np

from classifier.architectures.local_start import CHANNELS
from classifier.errors import InputError
from classifier.settings import DEFAULT_IMAGE_SIZE, Settings


def mapped_layers(
    pixels: keras.KerasTensor, settings: Settings, seeds: Iterator[int]
) -> keras.KerasTensor:
    """Maps flattened pixels (N, 3·S²) to features (N, `local_units`): one layer per map.

    The units of a layer form a map with a side of `local_maps` positions, with the same number of
    units at each. With `tied`, a layer is a convolution with a kernel of `local_patches`; without,
    it is a dense layer of the same size that starts as this convolution with random weights.

    Raises:
        InputError: the maps do not divide the image's side or the units evenly.
    """
    features, side, channels = pixels, settings.image_size, CHANNELS
    shapes = zip(settings.local_maps, settings.local_patches, strict=True)
    for index, (target, patch) in enumerate(shapes, start=1):
        if index == 1:  # of pixels; in the other layers of positions of the map before
            patch = max(1, round(patch * settings.image_size / DEFAULT_IMAGE_SIZE))
        filters = settings.local_units // target**2
        if side % target or not filters or filters * target**2 != settings.local_units:
            raise InputError(
                f"local_maps: a side of {target} does not divide a side of {side} and "
                f"{settings.local_units} units evenly: change local_maps or local_units"
            )
        inner = features
        if index > 1:
            name = f"local_normalisation_{index - 1}"
            inner = keras.layers.LayerNormalization(name=name)(inner)
        name, step = f"local_{index}", side // target
        convolution = keras.layers.Conv2D(
            filters,
            patch,
            strides=step,
            padding="same",
            activation="silu",
            kernel_initializer=keras.initializers.HeNormal(seed=next(seeds)),
            name=name,
        )
        shape = (side, side, channels)
        if settings.tied:
            image = keras.layers.Reshape(shape, name=f"map_{index}")(inner)
            inner = keras.layers.Flatten(name=f"units_{index}")(convolution(image))
        else:
            convolution(keras.Input(shape))
            dense = keras.layers.Dense(settings.local_units, activation="silu", name=name)
            inner = dense(inner)
            dense.set_weights(dense_form(convolution))
        if index > 1 and side == target:
            inner = keras.layers.Add(name=f"local_block_{index}")([features, inner])
        features, side, channels = inner, target, filters
    name = f"local_normalisation_{len(settings.local_maps)}"
    return keras.layers.LayerNormalization(name=name)(features)


def dense_form(convolution: keras.layers.Conv2D) -> list[np.ndarray]:
    """Returns kernel (I, U) and bias (U,) of the equivalent dense layer.

    The rows of the kernel are the outputs of the convolution for the unit vectors. I and U are the
    sizes of its flattened inputs and outputs.
    """
    _, height, width, channels = convolution.input.shape
    _, rows, columns, filters = convolution.output.shape
    inputs, units = height * width * channels, rows * columns * filters
    kernel, bias = convolution.get_weights()
    vectors = np.eye(inputs, dtype="float32").reshape(-1, height, width, channels)
    outputs = [
        keras.ops.convert_to_numpy(
            keras.ops.conv(batch, kernel, strides=convolution.strides, padding="same")
        )
        for batch in np.array_split(vectors, max(1, inputs // 256))
    ]
    return [np.concatenate(outputs).reshape(inputs, units), np.tile(bias, rows * columns)]
