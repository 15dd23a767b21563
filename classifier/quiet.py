"""Keeps from a command's user what libraries say of the machine and of themselves."""

import importlib
import logging
import os


def quieten_libraries() -> None:
    """Has TensorFlow, absl and JAX report errors alone; processes started from here on likewise."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = os.environ.get("TF_CPP_MIN_LOG_LEVEL") or "2"
    for name in ("tensorflow", "absl", "jax"):
        logging.getLogger(name).setLevel(logging.ERROR)


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
