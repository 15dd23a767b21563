"""Temperature scaling: one number that makes the probabilities mean what they say.

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
MIN_PROBABILITY = 1e-30  # below it float32 has rounded the probability to nothing


def calibrate(model: keras.Model, validation: Images) -> float:
    """Fits the temperature on validation and folds it into the model's last dense layer.

    Returns:
        The temperature.
    """
    last = model.get_layer(LAST_LAYER)
    # A model that averages views answers with all of them one after the other: (V·N, C).
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
    """Finds the temperature that suits held-out images best.

    For one view that is the one with the lowest cross-entropy. A mean of views is no softmax, and
    at its lowest cross-entropy it is less sure than it is right; there it is the temperature at
    which the mean probability of the answers is the share of right ones.

    Args:
        probabilities: (V, N, C): the softmax outputs of V views, whose mean is the answer.
        labels: (N,), integers.

    Returns:
        What to divide the logits of every view by.
    """
    logits = np.log(np.maximum(probabilities.astype("float64"), MIN_PROBABILITY))

    def cross_entropy(logarithm: float) -> float:
        scaled = logits[0] / np.exp(logarithm)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]))

    def misjudgement(logarithm: float) -> float:
        answers = softmax(logits / np.exp(logarithm), axis=2).mean(axis=0)
        right = answers.argmax(axis=1) == labels
        return float((answers.max(axis=1).mean() - right.mean()) ** 2)

    objective = cross_entropy if len(logits) == 1 else misjudgement
    found = minimize_scalar(objective, bounds=np.log(SEARCHED).tolist(), method="bounded")
    return float(np.exp(found.x))


def fold_temperature(network: keras.Model, temperature: float) -> None:
    """Divides weights and bias of the last dense layer, so that its softmax is the calibrated one.

    The order of the classes stays as it was.
    """
    last = network.get_layer(LAST_LAYER)
    last.set_weights([array / temperature for array in last.get_weights()])
