"""Fusion of element-wise operations by XLA, for training with TensorFlow on CPUs.

Between two matrix products a training step has many element-wise operations: activation gradients,
normalisation, dropout, weight decay. TensorFlow reads and writes memory for each of them; XLA fuses
them into one loop. But XLA's matrix products are slower on CPUs than oneDNN's. Therefore only the
operations of `FUSED` are compiled with XLA:
https://www.tensorflow.org/api_docs/python/tf/xla/experimental/jit_scope.

The package sets `--tf_xla_enable_lazy_compilation=false` in `TF_XLA_FLAGS`. Otherwise a batch of
another size, the last of an epoch, would be compiled only when it occurs a second time, with other
rounding: a resumed training would end with other weights than one that was not interrupted.
"""

import contextlib

import keras

from classifier.architectures import flops_per_image
from classifier.training.optimizers import is_tensorflow_alone

FUSED = frozenset(  # TensorFlow's names of operations
    {
        "Abs",
        "AddN",
        "AddV2",
        "BroadcastTo",
        "Cast",
        "Exp",
        "GreaterEqual",
        "Less",
        "Maximum",
        "Minimum",
        "Mul",
        "Neg",
        "RealDiv",
        "Rsqrt",
        "RsqrtGrad",
        "SelectV2",
        "Sigmoid",
        "Sqrt",
        "Square",
        "SquaredDifference",
        "Sub",
    }
)
WORTH_COMPILING = 1e14  # operations: about five minutes on two cores; compiling takes seconds


def xla_is_worthwhile(network: keras.Model, images: int) -> bool:
    """Whether fusion saves more time than the compilation takes.

    Args:
        network: from `build_network`.
        images: the number of training images times the number of epochs.
    """
    # One forward pass, and a backward pass for the inputs and for the weights.
    operations = 3 * flops_per_image(network) * images
    return operations >= WORTH_COMPILING and is_possible()


def is_possible() -> bool:
    """Whether TensorFlow trains undistributed on the CPU."""
    if not is_tensorflow_alone():
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def elementwise(fuse: bool) -> contextlib.AbstractContextManager[None]:
    """Compiles the operations of `FUSED` that are traced inside with XLA, if `fuse`."""
    if not fuse:
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.xla.experimental.jit_scope(compile_ops=lambda node: node.op in FUSED)
