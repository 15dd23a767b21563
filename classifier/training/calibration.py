"""Temperature scaling: divides the logits by a number that calibrates the probabilities.

Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"""

import keras
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from classifier.architectures import LAST_LAYER
from classifier.training.training_data import Images

BATCH_SIZE = 500
SEARCHED = (0.05, 20.0)  # temperatures
MIN_PROBABILITY = 1e-30  # smaller probabilities underflow in float32


def calibrate(model: keras.Model, validation: Images) -> float:
    """Fits the temperature on validation images and applies it to the weights of the last layer.

    Returns:
        The temperature.
    """
    last = model.get_layer(LAST_LAYER)
    # With test-time augmentation the output of the last layer has all views: (V·N, C).
    views = keras.Model(model.input, last.output)
    classes = last.output.shape[-1]
    probabilities = np.concatenate(
        [
            keras.ops.convert_to_numpy(views(batch)).reshape(-1, len(batch), classes)
            for batch in np.split(
                validation.images, range(BATCH_SIZE, len(validation.images), BATCH_SIZE)
            )
        ],
        axis=1,
    )
    temperature = fit_temperature(probabilities, validation.targets.argmax(axis=1))
    fold_temperature(model, temperature)
    return temperature


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Fits the temperature on held-out images.

    For one view it minimises the cross-entropy. The mean of several softmax outputs would be
    under-confident at that minimum: for it the mean confidence is made equal to the accuracy.

    Args:
        probabilities: (V, N, C): the softmax outputs of V views, whose mean is the prediction.
        labels: (N,), integers.

    Returns:
        The divisor of the logits of every view.
    """
    logits = np.log(np.maximum(probabilities.astype("float64"), MIN_PROBABILITY))

    def cross_entropy(logarithm: float) -> float:
        scaled = logits[0] / np.exp(logarithm)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]))

    def calibration_gap(logarithm: float) -> float:
        answers = softmax(logits / np.exp(logarithm), axis=2).mean(axis=0)
        right = answers.argmax(axis=1) == labels
        return float((answers.max(axis=1).mean() - right.mean()) ** 2)

    objective = cross_entropy if len(logits) == 1 else calibration_gap
    found = minimize_scalar(objective, bounds=np.log(SEARCHED).tolist(), method="bounded")
    return float(np.exp(found.x))


def fold_temperature(network: keras.Model, temperature: float) -> None:
    """Divides weights and bias of the last dense layer by the temperature."""
    last = network.get_layer(LAST_LAYER)
    last.set_weights([array / temperature for array in last.get_weights()])
