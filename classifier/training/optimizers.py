"""The optimisers of the settings, and an AdamW with a fused update and pruning."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from classifier.settings import MAX_FLOAT, Settings

SPARSE_LAYERS = "local_"  # prefix of the names of layers with sparse kernels


def build_optimizer(settings: Settings, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Returns the optimiser of the settings with its learning-rate schedule."""
    rate: Any = min(settings.learning_rate, MAX_FLOAT)
    if settings.schedule == "cosine":
        warmup = round(settings.warmup_epochs * steps_per_epoch)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else rate,
            decay_steps=max(1, settings.epochs * steps_per_epoch - warmup),
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
            alpha=settings.final_rate,
        )
    common = {"learning_rate": rate, "global_clipnorm": settings.clip_norm or None}
    if settings.ema_momentum:
        # At the end of `fit`, Keras replaces the weights by their averages.
        common |= {"use_ema": True, "ema_momentum": settings.ema_momentum}
    decay = settings.weight_decay
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(momentum=settings.momentum, nesterov=True, **common)
    if settings.optimizer == "adamw":
        threshold = settings.prune_threshold
        optimizer = AdamW(prune_threshold=threshold, weight_decay=decay, **common)
    elif settings.optimizer == "lion":
        optimizer = keras.optimizers.Lion(weight_decay=decay, **common)
    else:
        raise ValueError(f"no optimiser is built for {settings.optimizer!r}")
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


class AdamW(keras.optimizers.AdamW):
    """Keras' AdamW with the same formula and variables, faster with TensorFlow.

    Keras' update consists of ten operations that each read or write all parameters; memory limits
    their speed. TensorFlow has a fused kernel, and the weight decay becomes one product. On other
    backends and under a `tf.distribute` strategy, Keras' update is used.

    Args:
        prune_threshold: after each step, weights of `SPARSE_LAYERS` that are smaller than this many
            learning rates are set to 0: the hard threshold of β-LASSO (Neyshabur, 2020). Adam moves
            a weight by about one learning rate if its gradients agree, and by a quarter of it if
            they are noise: a threshold between the two keeps noise at 0. 0 switches it off.
        options: those of `keras.optimizers.AdamW`.
    """

    def __init__(self, *, prune_threshold: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.prune_threshold = prune_threshold
        self._sparse: set[int] = set()

    def build(self, variables: Sequence[Any]) -> None:
        """Creates the moments of the variables, and finds the sparse ones."""
        super().build(variables)
        if self.prune_threshold:
            self._sparse = {
                index for index, variable in enumerate(variables) if self._is_sparse(variable.path)
            }

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its two moments.

        Args:
            gradient: in the shape of the variable.
            variable: with TensorFlow a `tf.Variable`.
            learning_rate: a scalar.
        """
        index = self._get_variable_index(variable)
        if self.amsgrad or not is_tensorflow_alone():
            super().update_step(gradient, variable, learning_rate)
        else:
            self._fused_update(gradient, variable, learning_rate, index)
        if index in self._sparse:
            smallest = self.prune_threshold * ops.cast(learning_rate, variable.dtype)
            weights = ops.convert_to_tensor(variable)
            self.assign(variable, ops.where(ops.abs(weights) < smallest, 0.0, weights))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "prune_threshold": self.prune_threshold}

    def _fused_update(self, gradient: Any, variable: Any, learning_rate: Any, index: int) -> None:
        import tensorflow as tf

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

    def _is_sparse(self, path: str) -> bool:
        *layers, name = path.split("/")
        return name == "kernel" and any(layer.startswith(SPARSE_LAYERS) for layer in layers)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        if self.weight_decay is None or not is_tensorflow_alone():
            super()._apply_weight_decay(variables)
            return
        kept = 1.0 - self.learning_rate * self.weight_decay
        for variable in variables:
            if self._use_weight_decay(variable):
                variable.assign(variable * kept)


def is_tensorflow_alone() -> bool:
    """Whether the backend is TensorFlow without a distribution strategy."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.distribute.has_strategy()
