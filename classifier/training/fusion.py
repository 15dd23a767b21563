"""One pass over memory for neighbouring operations on elements, where TensorFlow trains.

Between two matrix products a step multiplies, adds and compares element by element: the gradient of
SiLU, normalisations, dropout, weight decay. TensorFlow reads and writes memory for each of these
operations. XLA makes one loop of those that follow each other; but its own matrix products are
slower on a processor than oneDNN's. So the operations of `FUSED` go through XLA, and the rest does
not: https://www.tensorflow.org/api_docs/python/tf/xla/experimental/jit_scope.

The package sets `--tf_xla_enable_lazy_compilation=false` in `TF_XLA_FLAGS`. Otherwise a batch of
another size, the last of an epoch, would go through XLA from its second time on alone, with other
roundings: a training that was interrupted would end at other weights than one that was not.
"""

import contextlib

import keras

from classifier.architectures import flops_per_image
from classifier.training.optimizers import is_tensorflow_alone

FUSED = frozenset(  # by the names of TensorFlow's operations
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
    """Whether fusing saves more time than it takes to compile.

    Args:
        network: from `build_network`.
        images: that the training sees in all its epochs together.
    """
    # Forwards, and backwards for the inputs and for the weights.
    operations = 3 * flops_per_image(network) * images
    return operations >= WORTH_COMPILING and is_possible()


def is_possible() -> bool:
    """Whether TensorFlow trains, in this process alone and on a processor."""
    if not is_tensorflow_alone():
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def elementwise(fuse: bool) -> contextlib.AbstractContextManager[None]:
    """Marks the operations of `FUSED` that are traced inside for XLA, if `fuse`."""
    if not fuse:
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.xla.experimental.jit_scope(compile_ops=lambda node: node.op in FUSED)
