"""The number format of a training: float32, or mixed precision with bfloat16."""

import os
from pathlib import Path

import keras

from classifier.environment import BATCH_KERNELS, import_quietly
from classifier.settings import Settings

HARDWARE_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # as /proc/cpuinfo names them (x86, Arm)


def has_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware: its processor, or JAX's accelerator."""
    if keras.backend.backend() == "jax":
        import jax

        if jax.default_backend() != "cpu":
            return True
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return any(flag in flags for flag in HARDWARE_FLAGS)


def resolve(precision: str) -> str:
    """Returns "float32" or "bfloat16" for "auto", "float32" or "bfloat16"."""
    if precision != "auto":
        return precision
    return "bfloat16" if has_bfloat16() else "float32"


def describe(precision: str) -> str:
    """Returns number format and kernels of a training, such as "float32, oneDNN"."""
    library = keras.backend.backend()
    if library == "tensorflow":
        (variable,) = BATCH_KERNELS
        library = "oneDNN" if os.environ.get(variable) == "1" else "TensorFlow's own kernels"
    return f"{resolve(precision)}, {library}"


def prepare(settings: Settings) -> None:
    """Sets number format (weights are always float32) and random seed of what is built later."""
    is_half = resolve(settings.precision) == "bfloat16"
    keras.config.set_dtype_policy("mixed_bfloat16" if is_half else "float32")
    import_quietly("tensorflow")  # which Keras seeds, too, on every backend
    keras.utils.set_random_seed(settings.seed)
