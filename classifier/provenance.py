"""The provenance of a result: library versions, machine, git commit; without local paths."""

import contextlib
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

# Absolute, from the home folder, or outside of the working folder, also of Windows; as a text, as
# the value of KEY=VALUE, or in the URL of a database.
LOCAL_PATH = re.compile(
    r"""(?:^|(?<==)|(?<==")|(?<=sqlite:///))(?:/|~|\.\.(?:[/\\]|$)|[A-Za-z]:[/\\]|\\\\)[^"]*"""
)
# Flags of the kernel: what decides the speed of a training, the widest first.
VECTORS = {
    "amx_bf16": "AMX",
    "avx512_bf16": "AVX-512 with bfloat16",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
    "asimd": "NEON",
}
LIBRARIES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "h5py", "datasets")


def library_versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that a training depends on."""
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[library] = metadata.version(library)
    return versions


def machine() -> dict[str, Any]:
    """Returns the machine: processor, cores, accelerator, system and Keras backend."""
    import keras

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "accelerator": _accelerator(),
        "system": platform.platform(terse=True),
        "backend": keras.backend.backend(),
    }


def training_seconds(training: Mapping[str, Any]) -> float | None:
    """Returns the time of a training, with that of models it started from or is averaged with."""
    records = (training.get(key) for key in ("init_from", "teacher"))
    earlier = sum(training_seconds(each) or 0 for each in records if isinstance(each, Mapping))
    own = training.get("wall_seconds")
    return own + earlier if isinstance(own, (int, float)) else None


def without_local_paths(record: Any) -> Any:
    """Returns a record without the paths of this machine, as it may be published.

    A path outside of the working folder becomes its last part, an absolute one inside of it becomes
    relative; all else stays.

    Args:
        record: a JSON value, such as the content of `training.json`; the entry `command` of an
            object is a command line.
    """
    if isinstance(record, list):
        return [without_local_paths(value) for value in record]
    if isinstance(record, str):
        return LOCAL_PATH.sub(_public_path, record)
    if not isinstance(record, dict):
        return record
    public = {key: without_local_paths(value) for key, value in record.items()}
    if isinstance(record.get("command"), str):
        public["command"] = command_without_local_paths(shlex.split(record["command"]))
    return public


def command_without_local_paths(words: list[str]) -> str:
    """Returns a command line without the paths of this machine, as `without_local_paths` does.

    Bytes of names that are not UTF-8 are escaped.
    """
    command = shlex.join(without_local_paths(words))
    return command.encode(errors="backslashreplace").decode()


def _public_path(found: re.Match[str]) -> str:
    path = PurePath(found[0]) if "\\" not in found[0] else PureWindowsPath(found[0])
    if path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd()).as_posix()
    return path.name


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
    """Returns the processor, on Linux with its widest vector extension."""
    name, extension = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if found := re.search(r"^model name\s*: (.*)$", text, re.MULTILINE):
            name = found[1].strip()
        flags = set(text.split())
        extension = next((title for flag, title in VECTORS.items() if flag in flags), "")
    return f"{name} ({extension})" if extension else name


def _accelerator() -> str | None:
    import keras

    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        return None if device.platform == "cpu" else device.device_kind
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        return devices[0].name if devices else None
    return None
