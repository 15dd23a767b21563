"""The environment of libraries that are imported later: log levels and cache folders."""

import atexit
import contextlib
import importlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from classifier.files import is_writable


def prepare_environment() -> None:
    """Sets environment variables that libraries read when this or a child process imports them.

    TensorFlow, absl and JAX log errors only. A cache folder of datasets, evaluate or matplotlib
    that cannot be written is replaced by a temporary one.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = os.environ.get("TF_CPP_MIN_LOG_LEVEL") or "2"
    for name in ("tensorflow", "absl", "jax"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name, folder in _caches().items():
        if not is_writable(folder):
            os.environ[name] = tempfile.mkdtemp(prefix="cache-")
            atexit.register(shutil.rmtree, os.environ[name], ignore_errors=True)


def _caches() -> dict[str, Path]:
    """Returns the cache folders of libraries by the environment variable that sets each."""
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


def import_quietly(name: str) -> None:
    """Imports "keras" or "tensorflow" without a message of TensorFlow's about oneDNN.

    It is printed during the import, before any log level is read.
    """
    with silent_stderr():
        importlib.import_module(name)


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Discards what is written to standard error, by native code too; exceptions are raised."""
    sys.stderr.flush()
    original, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
        os.close(null)
