"""Temperature scaling: one number that makes the probabilities mean what they say.

Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"""

import keras
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from classifier.training_data import Images

LAST_LAYER = "probabilities"
BATCH_SIZE = 500
SEARCHED = (0.05, 20.0)  # temperatures
SMALLEST_PROBABILITY = 1e-30  # below it float32 has rounded the probability to nothing


def calibrate(model: keras.Model, validation: Images) -> float:
    """Fits the temperature on validation and folds it into the model's last dense layer.

    Returns:
        The temperature.
    """
    last = model.get_layer(LAST_LAYER)
    # A model that averages views calls its last layer once for each: calibrate them together.
    views = keras.Model(model.input, [node.outputs[0] for node in last._inbound_nodes])
    outputs = views.predict(validation.images, batch_size=BATCH_SIZE, verbose=0)
    probabilities = np.stack(outputs if isinstance(outputs, list) else [outputs])
    temperature = fit_temperature(probabilities, validation.targets.argmax(axis=1))
    fold_temperature(model, temperature)
    return temperature


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Finds the temperature with the lowest cross-entropy on held-out images.

    Args:
        probabilities: (V, N, C): the softmax outputs of V views, whose mean is the answer.
        labels: (N,), integers.

    Returns:
        What to divide the logits of every view by.
    """
    logits = np.log(np.maximum(probabilities.astype("float64"), SMALLEST_PROBABILITY))
    views, images, _ = logits.shape

    def cross_entropy(logarithm: float) -> float:
        scaled = logits / np.exp(logarithm)
        chosen = scaled[:, np.arange(images), labels] - logsumexp(scaled, axis=2)
        return float(-np.mean(logsumexp(chosen, axis=0) - np.log(views)))

    found = minimize_scalar(cross_entropy, bounds=np.log(SEARCHED).tolist(), method="bounded")
    return float(np.exp(found.x))


def fold_temperature(network: keras.Model, temperature: float) -> None:
    """Divides weights and bias of the last dense layer, so that its softmax is the calibrated one.

    The order of the classes stays as it was.
    """
    last = network.get_layer(LAST_LAYER)
    last.set_weights([array / temperature for array in last.get_weights()])
