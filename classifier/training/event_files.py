"""TensorBoard's event files, which the Hub shows, too."""

import importlib.util
from pathlib import Path

import keras

from classifier.environment import import_quietly


def event_files(folder: Path) -> list[keras.callbacks.Callback]:
    """Returns a callback that writes event files, if TensorFlow is installed.

    Keras writes them with TensorFlow, also on other backends.
    """
    if not importlib.util.find_spec("tensorflow"):
        return []
    import_quietly("tensorflow")
    return [keras.callbacks.TensorBoard(str(folder), write_graph=False, profile_batch=0)]
