"""Convolution and batch normalisation that train faster with TensorFlow on processors.

Both compute what Keras' own layers compute, from the same weights. On small feature maps oneDNN's
gradient of a convolution's kernel runs at a tenth of the speed of a matrix product, so there it
becomes one: the patches of the input, transposed, times the gradient of the output. Keras' batch
normalisation is written as a dozen operations on elements with casts between them; TensorFlow has
a kernel that does them at once.
"""

from typing import Any

import keras

from classifier.training.optimizers import is_tensorflow_alone

MAX_MAP = 8  # pixels of a side, up to which the matrix product is faster (measured)


def accelerate(network: keras.Model) -> keras.Model:
    """Returns the network with its layers exchanged for the faster ones, where they are faster.

    Args:
        network: out of built-in layers; its weights are copied.
    """
    if not is_tensorflow_alone() or not any(map(_faster_class, network.layers)):
        return network

    def clone(layer: keras.Layer) -> keras.Layer:
        return (_faster_class(layer) or type(layer)).from_config(layer.get_config())

    copy = keras.models.clone_model(network, clone_function=clone)
    copy.set_weights(network.get_weights())
    return copy


class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with the kernel's gradient as one matrix product."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Is what the layer calls."""
        return convolution(inputs, kernel)


class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over channels-last images, in one kernel when training."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalises (N, H, W, C); in training by the batch, whose statistics it notes."""
        if not training or not self.trainable:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.convert_to_tensor(self.gamma.value),
            tf.convert_to_tensor(self.beta.value),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The kernel's variance is the unbiased estimate, Keras' the mean square.
        values = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), variance.dtype)
        variance = variance * ((values - 1.0) / values)
        for moving, current in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + current * (1.0 - self.momentum))
        return outputs


def _faster_class(layer: keras.Layer) -> type[keras.Layer] | None:
    if type(layer) is keras.layers.Conv2D:
        height, width = layer.output.shape[1:3]
        plain = (
            layer.kernel_size == (3, 3)
            and layer.strides == layer.dilation_rate == (1, 1)
            and layer.padding == "same"
            and layer.groups == 1
            and layer.data_format == "channels_last"
        )
        return Conv2D if plain and max(height, width) <= MAX_MAP else None
    if type(layer) is keras.layers.BatchNormalization:
        plain = (
            layer.scale and layer.center and layer.axis in (-1, 3) and len(layer.input.shape) == 4
        )
        return BatchNormalization if plain else None
    return None


def convolution(images: Any, kernel: Any) -> Any:
    """Convolves (N, H, W, C) with (3, 3, C, F) to (N, H, W, F), at stride 1, padded."""
    import tensorflow as tf

    strides = [1, 1, 1, 1]

    @tf.custom_gradient
    def convolve(images: Any, kernel: Any) -> Any:
        def gradient(upstream: Any) -> tuple[Any, Any]:
            of_images = tf.compat.v1.nn.conv2d_backprop_input(
                tf.shape(images), kernel, upstream, strides, "SAME"
            )
            height, width, channels = images.shape[1:]
            padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
            patches = tf.concat(
                [
                    padded[:, row : row + height, column : column + width]
                    for row in range(3)
                    for column in range(3)
                ],
                axis=-1,
            )
            of_kernel = tf.matmul(
                tf.reshape(patches, (-1, 9 * channels)),
                tf.reshape(upstream, (-1, kernel.shape[-1])),
                transpose_a=True,
            )
            return of_images, tf.reshape(of_kernel, kernel.shape)

        return tf.nn.conv2d(images, kernel, strides, "SAME"), gradient

    # A variable would be differentiated by `custom_gradient` on its own; a tensor is an argument.
    return convolve(images, tf.convert_to_tensor(keras.ops.cast(kernel, images.dtype)))
