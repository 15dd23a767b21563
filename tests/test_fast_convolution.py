"""The faster convolution and batch normalisation compute what Keras' own do, in training too."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from classifier.architectures import build_network
from classifier.settings import Settings
from classifier.training import fast_convolution
from classifier.training.fast_convolution import accelerate

SETTINGS = Settings(architecture="cnn", channels=(4, 6, 8, 8), image_size=16, l2=0.01)
MEAN, DEVIATION = np.full(3, 120.0, "float32"), np.full(3, 65.0, "float32")


@pytest.fixture(scope="module")
def networks() -> tuple[keras.Model, keras.Model]:
    """A network of Keras' own layers, and the accelerated one with the same weights."""
    plain = build_network(SETTINGS, classes=5, mean=MEAN, deviation=DEVIATION)
    random = np.random.default_rng(0)
    plain.set_weights([w + random.uniform(0, 0.3, w.shape) for w in plain.get_weights()])
    return plain, accelerate(plain)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (12, 16, 16, 3)).astype("float32")


def step(network: keras.Model, images: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns answers in training mode, and the gradients of a loss by all trainable weights."""
    weights = np.random.default_rng(2).normal(size=(len(images), 5)).astype("float32")
    with tf.GradientTape() as tape:
        answers = network(images, training=True)
        loss = tf.reduce_sum(answers * weights) + tf.add_n(network.losses)
    gradients = tape.gradient(loss, [x.value for x in network.trainable_variables])
    return np.asarray(answers), [np.asarray(gradient) for gradient in gradients]


def test_the_layers_where_it_is_faster_are_exchanged_and_no_others(networks: Any) -> None:
    plain, fast = networks
    exchanged = {x.name for x in fast.layers if type(x).__module__ == fast_convolution.__name__}
    for layer in plain.layers:
        small = isinstance(layer, keras.layers.Conv2D) and layer.output.shape[1] <= 8
        normalises = isinstance(layer, keras.layers.BatchNormalization)
        assert (layer.name in exchanged) == (small or normalises), layer.name
    assert [x.name for x in plain.layers] == [x.name for x in fast.layers]
    for one, other in zip(plain.weights, fast.weights, strict=True):
        assert one.path.split("/")[-2:] == other.path.split("/")[-2:]
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_answers_gradients_and_moving_statistics_are_those_of_keras(
    networks: Any, images: np.ndarray
) -> None:
    before = [network.get_weights() for network in networks]
    for network in networks:
        expected = networks[0](images, training=False)
        np.testing.assert_allclose(network(images, training=False), expected, atol=1e-5)
    (answers, gradients), (fast_answers, fast_gradients) = (step(x, images) for x in networks)
    np.testing.assert_allclose(fast_answers, answers, atol=1e-5)
    for one, other in zip(gradients, fast_gradients, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4 * np.abs(one).max())
    moved = 0
    for one, other, old in zip(*(x.get_weights() for x in networks), before[0], strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)
        moved += not np.array_equal(one, old)
    assert moved == 2 * sum(
        isinstance(x, keras.layers.BatchNormalization) for x in networks[0].layers
    )
    for network, weights in zip(networks, before, strict=True):
        network.set_weights(weights)


def test_in_bfloat16_the_gradients_agree_to_its_precision(images: np.ndarray) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        plain = build_network(SETTINGS, classes=5, mean=MEAN, deviation=DEVIATION)
        fast = accelerate(plain)
    finally:
        keras.config.set_dtype_policy("float32")
    (_, expected), (_, found) = (step(network, images) for network in (plain, fast))
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == other.dtype == np.float32
        scale = np.abs(one).max() + 1e-3
        assert np.abs(one - other).mean() < 0.05 * scale


def test_networks_without_such_layers_and_other_backends_keep_theirs(
    networks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = build_network(Settings(hidden_units=(4,)), classes=5, mean=MEAN, deviation=DEVIATION)
    assert accelerate(dense) is dense
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert accelerate(networks[0]) is networks[0]
