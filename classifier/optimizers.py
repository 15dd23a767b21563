"""AdamW whose update is one pass over memory where TensorFlow runs the training."""

from collections.abc import Sequence
from typing import Any

import keras


class AdamW(keras.optimizers.AdamW):
    """Keras' AdamW, quicker on TensorFlow: the same formula, the same variables.

    Keras writes the update as ten operations, each of which reads or writes every parameter, and a
    processor waits for memory in all of them. TensorFlow has a kernel that does them at once, and
    the decay becomes one product. On another backend, or under a `tf.distribute` strategy, this is
    Keras' own.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Moves one variable, and the two running means that Adam keeps for it.

        Args:
            gradient: of the loss by the variable, in its shape.
            variable: as Keras passes it: under TensorFlow a `tf.Variable`.
            learning_rate: a scalar.
        """
        if self.amsgrad or not _is_tensorflow_alone():
            super().update_step(gradient, variable, learning_rate)
            return
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
        if self.weight_decay is None or not _is_tensorflow_alone():
            super()._apply_weight_decay(variables)
            return
        kept = 1.0 - self.learning_rate * self.weight_decay
        for variable in variables:
            if self._use_weight_decay(variable):
                variable.assign(variable * kept)


def _is_tensorflow_alone() -> bool:
    """Whether the variables are TensorFlow's, and each lies whole in this process."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.distribute.has_strategy()
