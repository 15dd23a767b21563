"""Keras' AdamW with TensorFlow's fused kernel, by names that Keras does not document.

Keras' update consists of ten operations that each read or write all parameters; memory limits
their speed. TensorFlow has a fused kernel, and the weight decay becomes one product. A test
compares the weights with those of Keras' own update, so that a change of these names is noticed.
"""

from collections.abc import Sequence
from typing import Any

import keras

from classifier.training.fit import NOT_DECAYED


def accelerate_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns the same AdamW with a fused update; any other optimiser or backend as it is.

    Args:
        optimizer: not built yet.
    """
    if type(optimizer) is not keras.optimizers.AdamW or keras.backend.backend() != "tensorflow":
        return optimizer
    fused = FusedAdamW.from_config(optimizer.get_config())
    fused.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return fused


class FusedAdamW(keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with the same formula and variables."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its two moments."""
        import tensorflow as tf

        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), step),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=tf.cast(self.beta_1, variable.dtype),
            beta2=tf.cast(self.beta_2, variable.dtype),
            epsilon=tf.cast(self.epsilon, variable.dtype),
            grad=tf.cast(tf.convert_to_tensor(gradient), variable.dtype),
        )

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        kept = 1.0 - self.learning_rate * self.weight_decay
        for variable in variables:
            if self._use_weight_decay(variable):
                variable.assign(variable * kept)
