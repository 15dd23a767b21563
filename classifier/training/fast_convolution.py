"""Convolution and batch normalisation that train faster with TensorFlow on CPUs.

Both compute the same as Keras' layers, with the same weights. On small feature maps oneDNN's
kernel gradient runs at a tenth of the speed of a matrix product; it is replaced by one: the
transposed patches of the input times the gradient of the output. Keras' batch normalisation
consists of a dozen element-wise operations with casts between them; TensorFlow has a fused kernel.
"""

from typing import Any

import keras

MAX_MAP = 8  # pixels: on larger maps the matrix product is not faster (measured)


def accelerate(network: keras.Model) -> keras.Model:
    """Returns a copy of a network from `build_network` with the faster layers, if it has any."""
    if keras.backend.backend() != "tensorflow" or not any(map(_faster_class, network.layers)):
        return network

    def clone(layer: keras.Layer) -> keras.Layer:
        return (_faster_class(layer) or type(layer)).from_config(layer.get_config())

    copy = keras.models.clone_model(network, clone_function=clone)
    copy.set_weights(network.get_weights())
    return copy


class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with the kernel's gradient as one matrix product."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolves; called by the layer."""
        return convolution(inputs, kernel)


class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` of (N, H, W, C) with a fused kernel in training."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalises (N, H, W, C); in training by the batch, and updates the moving statistics."""
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
        # The kernel returns the unbiased variance; Keras uses the biased one.
        values = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), variance.dtype)
        variance = variance * ((values - 1.0) / values)
        for moving, current in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + current * (1.0 - self.momentum))
        return outputs


def _faster_class(layer: keras.Layer) -> type[keras.Layer] | None:
    if type(layer) is keras.layers.Conv2D:
        height, width = layer.output.shape[1:3]
        plain = layer.kernel_size == (3, 3) and layer.strides == (1, 1)
        return Conv2D if plain and max(height, width) <= MAX_MAP else None
    return BatchNormalization if type(layer) is keras.layers.BatchNormalization else None


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

    # `custom_gradient` treats variables differently from its arguments: pass a tensor.
    return convolve(images, tf.convert_to_tensor(keras.ops.cast(kernel, images.dtype)))
