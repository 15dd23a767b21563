"""Which number format a training multiplies in."""

from pathlib import Path

import keras

from classifier.errors import InputError

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
    if precision not in ("auto", "float32", "bfloat16"):
        raise InputError(f"precision must be auto, float32 or bfloat16. Received: {precision!r}")
    if precision != "auto":
        return precision
    return "bfloat16" if has_bfloat16() else "float32"


def set_policy(precision: str) -> None:
    """Makes new layers compute in this format; their weights stay float32 in either."""
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
