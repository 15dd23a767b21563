"""The environment of libraries that are imported later: log levels, kernels, reports, caches."""

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
from types import ModuleType

from classifier.files import is_writable

# Read by libraries when they are imported; what the user has set stays.
VARIABLES = {
    "TF_CPP_MIN_LOG_LEVEL": "2",  # TensorFlow logs errors only
    # Nothing is reported to anybody: no start of Gradio, no name of a data set or metric, no use of
    # huggingface_hub; onnxruntime writes no identifier of the machine below the user's cache.
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # of datasets and evaluate
    "ORT_DISABLE_TELEMETRY": "1",  # its disable_telemetry_events() comes too late, after the import
    # Gradio records so many calls and summarises them after so many: by default after each call,
    # which took a fifth of its time. The dashboard that shows the summary is off.
    "GRADIO_ANALYTICS_MAX_EVENTS": "200",
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**9),
}
# By itself TensorFlow uses its oneDNN kernels only on processors with AVX-512. On an EPYC with AVX2
# they train the residual MLP at 1,278 instead of 991 images/s and a ResNet-9 at 186 instead of 122,
# and classify 256 images of `cnn` in 5.4 instead of 7.2 s, but one in 40 instead of 24 ms.
BATCH_KERNELS = {"TF_ENABLE_ONEDNN_OPTS": "1"}


def prepare_environment(*, batches: bool = True) -> None:
    """Sets environment variables that libraries read when this or a child process imports them.

    A home folder that is unknown or cannot be written to, as that of a container's user may be, is
    replaced by a temporary one: libraries would fail, or create a folder named `~`.

    Args:
        batches: whether models are trained, or predict many images at a time.
    """
    for name, value in {**VARIABLES, **(BATCH_KERNELS if batches else {})}.items():
        os.environ[name] = os.environ.get(name) or value
    for name in ("tensorflow", "absl", "jax"):
        logging.getLogger(name).setLevel(logging.ERROR)
    home = os.path.expanduser("~")  # noqa: PTH111 - `Path` would raise
    if home == "~" or not is_writable(Path(home)):
        os.environ["HOME"] = tempfile.mkdtemp(prefix="home-")
        atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)


def import_onnxruntime() -> ModuleType:
    """Imports onnxruntime without telemetry, whatever program this is, and logging errors only."""
    name = "ORT_DISABLE_TELEMETRY"
    os.environ[name] = os.environ.get(name) or VARIABLES[name]
    onnxruntime = importlib.import_module("onnxruntime")
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


def import_quietly(name: str) -> None:
    """Imports "keras" or "tensorflow", where it is installed, without TensorFlow's messages.

    They are printed during the import, before any log level is read.
    """
    with silent_stderr(), contextlib.suppress(ModuleNotFoundError):
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
