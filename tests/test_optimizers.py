"""The quick AdamW takes the steps of Keras' own."""

from typing import Any

import keras
import numpy as np
import pytest

from classifier.settings import Settings
from classifier.training import optimizers

RATES = [1e-2, keras.optimizers.schedules.CosineDecay(0.0, 9, warmup_target=1e-2, warmup_steps=4)]


def steps_of(optimizer: Any, count: int = 12) -> dict[str, np.ndarray]:
    """Takes steps by gradients that depend on the weights; returns all variables by path."""
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    random = np.random.default_rng(0)
    weights = [
        keras.Variable(random.normal(size=shape).astype("float32"), name=name)
        for name, shape in {"kernel": (7, 5), "bias": (5,)}.items()
    ]
    optimizer.build(weights)
    for _ in range(count):
        noise = [random.normal(size=weight.shape).astype("float32") for weight in weights]
        gradients = [weight.value + more for weight, more in zip(weights, noise, strict=True)]
        optimizer.apply(gradients, weights)
    variables = [*weights, *optimizer.variables]
    names = [variable.path.rsplit("/", 1)[-1] for variable in variables]
    values = [keras.ops.convert_to_numpy(variable.value) for variable in variables]
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize("rate", RATES, ids=["constant", "schedule"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_its_steps_and_its_variables_are_those_of_keras(rate: Any, clip: float | None) -> None:
    options = {"learning_rate": rate, "weight_decay": 0.3, "global_clipnorm": clip}
    ours = steps_of(optimizers.AdamW(**options))
    theirs = steps_of(keras.optimizers.AdamW(**options))
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=2e-5, atol=1e-6, err_msg=name)


def test_biases_do_not_decay_and_kernels_do() -> None:
    decayed = steps_of(optimizers.AdamW(learning_rate=1e-2, weight_decay=5.0), count=1)
    free = steps_of(optimizers.AdamW(learning_rate=1e-2, weight_decay=0.0), count=1)
    assert np.abs(decayed["kernel"]).mean() < np.abs(free["kernel"]).mean()
    np.testing.assert_array_equal(decayed["bias"], free["bias"])


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "as Keras writes it"])
def test_a_sparse_weight_leaves_zero_only_if_its_gradients_agree(
    at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not at_once:
        monkeypatch.setattr(optimizers, "is_tensorflow_alone", lambda: False)
    random = np.random.default_rng(0)
    layer = keras.layers.Dense(1, name="local_1")
    layer.build((None, 300))
    start = np.zeros((300, 1), "float32")
    start[:50] = 0.5
    layer.kernel.assign(start)
    # Adam's first steps are as large as its surest ones: as in a training, they are warmed up.
    rate = keras.optimizers.schedules.CosineDecay(0.0, 200, warmup_target=1e-3, warmup_steps=20)
    optimizer = optimizers.AdamW(learning_rate=rate, weight_decay=0.0, prune_threshold=0.8)
    optimizer.build(layer.trainable_variables)
    for _ in range(100):
        gradient = random.normal(size=(300, 1)).astype("float32")
        gradient[250:] = -1.0  # these agree
        bias = random.normal(size=(1,)).astype("float32")
        optimizer.apply([keras.ops.convert_to_tensor(x) for x in (gradient, bias)])
    weights = keras.ops.convert_to_numpy(layer.kernel)[:, 0]
    assert np.all(np.abs(weights[:50] - 0.5) < 0.1)  # far from zero: the threshold is far below
    assert np.mean(weights[50:250] == 0) > 0.8
    assert np.all(weights[250:] > 0.05)
    assert np.all(keras.ops.convert_to_numpy(layer.bias) != 0)


def test_other_layers_are_never_made_sparse() -> None:
    dense = steps_of(optimizers.AdamW(learning_rate=1e-2, weight_decay=0.3))
    sparse = steps_of(optimizers.AdamW(learning_rate=1e-2, weight_decay=0.3, prune_threshold=5.0))
    np.testing.assert_array_equal(dense["kernel"], sparse["kernel"])


def test_the_preset_optimiser_adamw_is_the_quick_one() -> None:
    optimizer = optimizers.build_optimizer(Settings(optimizer="adamw"), steps_per_epoch=3)
    assert isinstance(optimizer, optimizers.AdamW)
