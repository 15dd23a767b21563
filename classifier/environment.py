"""What libraries are told before they are imported: to say less, and where they may write."""

import atexit
import importlib
import logging
import os
import shutil
import tempfile
from pathlib import Path


def prepare_environment() -> None:
    """Sets, for this process and those that it starts, what a command's libraries read at import.

    TensorFlow, absl and JAX report errors alone. A cache of datasets, evaluate or matplotlib that
    cannot be written gives way to a temporary one: what it held is made anew.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = os.environ.get("TF_CPP_MIN_LOG_LEVEL") or "2"
    for name in ("tensorflow", "absl", "jax"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name, folder in _caches().items():
        if not _is_writable(folder):
            os.environ[name] = tempfile.mkdtemp(prefix="cache-")
            atexit.register(shutil.rmtree, os.environ[name], ignore_errors=True)


def _caches() -> dict[str, Path]:
    """Returns the folders that libraries write to unasked, by the variable that moves each."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    hub = Path(os.environ.get("HF_HOME") or user / "huggingface")
    folders = {
        "HF_DATASETS_CACHE": hub / "datasets",
        "HF_MODULES_CACHE": hub / "modules",
        "HF_EVALUATE_CACHE": hub / "evaluate",
        "HF_METRICS_CACHE": hub / "metrics",
        "MPLCONFIGDIR": user / "matplotlib",
    }
    return {name: Path(os.environ.get(name) or folder) for name, folder in folders.items()}


def _is_writable(folder: Path) -> bool:
    """Whether a folder can be written to or made; nothing is made."""
    try:
        path = folder.expanduser().absolute()
        there = next(place for place in (path, *path.parents) if place.exists())
    except (OSError, RuntimeError):  # no home folder
        return False
    return there.is_dir() and os.access(there, os.W_OK)


def import_quietly(name: str) -> None:
    """Imports a module without what its native code writes to standard error meanwhile.

    TensorFlow announces oneDNN while it is imported, before it heeds any log level. Should the
    import fail, the exception says so.

    Args:
        name: "keras" or "tensorflow".
    """
    spoken, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        importlib.import_module(name)
    finally:
        os.dup2(spoken, 2)
        os.close(spoken)
        os.close(nowhere)
