"""Loads models for prediction: with ONNX Runtime, or with Keras if a layer is not translated."""

from __future__ import annotations

import logging

import numpy as np

from classifier.environment import import_onnxruntime
from classifier.errors import InputError
from classifier.model_folder.folder import ModelFolder
from classifier.prediction.classifier import Classifier

logger = logging.getLogger(__name__)

# Images: a quarter faster than 32 for `mlp`; larger batches take more memory and are no faster.
BATCH = 64


def load(folder: ModelFolder) -> Classifier:
    """Checks and loads a model; TensorFlow is imported only if ONNX Runtime cannot run it.

    Raises:
        InputError: it is not a model folder, or its model is not allowed.
    """
    folder.check()
    try:
        return OnnxModel(folder)
    except Exception as error:  # of either library: Keras is the judge of what is a model
        reason = " ".join(str(error).split())[:200]
        logger.warning("%s is answered by Keras: %s", folder.path.name, reason)
    classifier = Classifier.load(folder)
    size = classifier.image_size
    for count in (1, 2):  # compiled for one picture, and for any number
        classifier.probabilities(np.zeros((count, size, size, 3), np.uint8))
    return classifier


class OnnxModel(Classifier):
    """A model in ONNX Runtime, which needs neither Keras nor TensorFlow."""

    def __init__(self, folder: ModelFolder) -> None:
        """Loads the model of a checked folder, and predicts once; raises what goes wrong."""
        from classifier.formats.onnx_graph import INPUT, translate

        onnxruntime = import_onnxruntime()
        model, weights = translate(folder)
        options = onnxruntime.SessionOptions()
        options.enable_cpu_mem_arena = False  # it would keep the memory of the largest batch
        # Threads that spin between two layers would take the core from the server.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), values)
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        super().__init__(lambda images: session.run(None, {INPUT: images})[0], folder, BATCH)
        answer = self.probabilities(np.zeros((1, self.image_size, self.image_size, 3), np.uint8))
        if answer.shape != (1, len(self.labels.classes)):
            raise InputError(f"the model answers {answer.shape}, not with a number for each class")
