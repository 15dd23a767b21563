"""Temperature scaling: divides the logits by a number that calibrates the probabilities.

Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017. Few
validation images determine no temperature: without an error among them, the likelihood is highest
at zero. Therefore the logarithm of the temperature has a normal prior, which a few hundred images
outweigh.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from classifier.architectures.views import last_layers
from classifier.training.fit import Images

BATCH_SIZE = 500
PRIOR = 0.2  # standard deviation of the logarithm: 95% of temperatures lie within 0.67 to 1.5
SEARCHED = (0.05, 20.0)  # temperatures
STEP = 0.05  # of the logarithm, for the curvature of the posterior
Function = Callable[[float], float]
MIN_PROBABILITY = 1e-30  # smaller probabilities underflow in float32


class Calibration(NamedTuple):
    """A fitted temperature, the divisor of the logits.

    Attributes:
        interval: where it lies with a probability of 95%.
        images: the number of validation images.
        determined: whether they narrow the prior down by half; otherwise it stays near its centre.
    """

    temperature: float
    interval: tuple[float, float]
    images: int
    determined: bool


def calibrate(model: keras.Model, validation: Images) -> Calibration:
    """Fits the temperature on validation images and applies it to the weights of the last layer."""
    images, targets = validation
    # With test-time augmentation the output of a last layer has all views: (V·N, C).
    outputs = [layer.output for layer in last_layers(model)]
    views = keras.Model(model.input, keras.ops.concatenate(outputs, axis=0))
    classes = outputs[0].shape[-1]
    probabilities = np.concatenate(
        [
            keras.ops.convert_to_numpy(views(batch)).reshape(-1, len(batch), classes)
            for batch in np.split(images, range(BATCH_SIZE, len(images), BATCH_SIZE))
        ],
        axis=1,
    )
    fitted = fit_temperature(probabilities, targets.argmax(axis=1))
    fold_temperature(model, fitted.temperature)
    return fitted


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> Calibration:
    """Fits the temperature on held-out images: the most probable one.

    For one view the likelihood is that of the labels. The mean of several softmax outputs would be
    under-confident at its maximum: for it the likelihood is that of the number of right answers, of
    which the mean confidence is the expected share. Its prior is around the temperature at which it
    is as confident as the first view.

    Args:
        probabilities: (V, N, C): the softmax outputs of V views, of all networks, whose mean is
            the prediction.
        labels: (N,), integers.
    """
    logits = np.log(np.maximum(probabilities.astype("float64"), MIN_PROBABILITY))
    count = len(labels)

    def of_labels(logarithm: float) -> float:
        scaled = logits[0] / np.exp(logarithm)
        return float(np.sum(logsumexp(scaled, axis=1) - scaled[np.arange(count), labels]))

    def mean(logarithm: float) -> np.ndarray:
        return softmax(logits / np.exp(logarithm), axis=2).mean(axis=0)

    def of_right_answers(logarithm: float) -> float:
        answers = mean(logarithm)
        right = (answers.argmax(axis=1) == labels).sum()
        gap = answers.max(axis=1).mean() - right / count
        share = (right + 1) / (count + 2)  # never 0 or 1
        return float(count * gap**2 / (2 * share * (1 - share)))

    def with_prior(likelihood: Function, centre: float = 0.0) -> Function:
        return lambda logarithm: likelihood(logarithm) + ((logarithm - centre) / PRIOR) ** 2 / 2

    def minimum(function: Function) -> float:
        return minimize_scalar(function, bounds=np.log(SEARCHED).tolist(), method="bounded").x

    objective = with_prior(of_labels)
    if len(logits) > 1:
        one = softmax(logits[0] / np.exp(minimum(objective)), axis=1).max(axis=1).mean()
        same = minimum(lambda logarithm: abs(mean(logarithm).max(axis=1).mean() - one))
        # Views that disagree are less confident together, at any temperature: not below a half.
        objective = with_prior(of_right_answers, max(same, -float(np.log(2))))
    best = minimum(objective)
    sides = objective(best - STEP) + objective(best + STEP) - 2 * objective(best)
    spread = STEP / np.sqrt(max(sides, STEP**2 / PRIOR**2))  # Laplace's approximation
    low, high = (round(float(np.exp(best + side * 1.96 * spread)), 4) for side in (-1, 1))
    return Calibration(float(np.exp(best)), (low, high), count, bool(spread < PRIOR / 2))


def fold_temperature(model: keras.Model, temperature: float) -> None:
    """Divides weights and bias of the last dense layer of each network by the temperature."""
    for last in last_layers(model):
        last.set_weights([array / temperature for array in last.get_weights()])
