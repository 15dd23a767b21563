"""The provenance of a result: library versions, machine and git commit."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import keras

LIBRARIES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "h5py", "datasets")


def library_versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that a training depends on."""
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> dict[str, Any]:
    """Returns the machine: processor, cores, accelerator, system and Keras backend."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "accelerator": _accelerator(),
        "system": platform.platform(terse=True),
        "backend": keras.backend.backend(),
    }


def git_commit() -> str | None:
    """Returns the current commit, with `-dirty` if files are modified; None without git."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _accelerator() -> str | None:
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        return None if device.platform == "cpu" else device.device_kind
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        return devices[0].name if devices else None
    return None
