"""Optimisers: the fused AdamW takes the steps of Keras' own, and small weights are pruned."""

from typing import Any

import keras
import numpy as np
import pytest

from classifier.settings import Settings
from classifier.training.fit import build_optimizer
from classifier.training.fused_adamw_adapter import FusedAdamW, accelerate_optimizer
from classifier.training.pruning import WeightPruning

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
def test_fused_adamw_has_the_steps_and_variables_of_keras(rate: Any, clip: float | None) -> None:
    options = {"learning_rate": rate, "weight_decay": 0.3, "global_clipnorm": clip}
    ours = steps_of(FusedAdamW(**options))
    theirs = steps_of(keras.optimizers.AdamW(**options))
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=2e-5, atol=1e-6, err_msg=name)


def test_pruning_keeps_a_weight_at_zero_unless_its_gradients_agree() -> None:
    random = np.random.default_rng(0)
    inputs = keras.Input((300,))
    local, plain = (keras.layers.Dense(1, name=name) for name in ("local_1", "pixels"))
    network = keras.Model(inputs, [local(inputs), plain(inputs)])
    start = np.zeros((300, 1), "float32")
    start[:50] = 0.5
    local.kernel.assign(start)
    plain.kernel.assign(start)
    # Adam's first steps are as large as its surest ones: as in a training, they are warmed up.
    rate = keras.optimizers.schedules.CosineDecay(0.0, 200, warmup_target=1e-3, warmup_steps=20)
    optimizer = FusedAdamW(learning_rate=rate, weight_decay=0.0)
    network.compile(optimizer)
    callback = WeightPruning(network, 0.8)
    callback.set_model(network)
    callback.on_train_begin()
    for _ in range(100):
        gradient = random.normal(size=(300, 1)).astype("float32")
        gradient[250:] = -1.0  # these agree
        bias = random.normal(size=(1,)).astype("float32")
        gradients = [keras.ops.convert_to_tensor(x) for x in (gradient, bias)]
        optimizer.apply(gradients * 2, network.trainable_variables)
    callback.on_train_end()
    weights, others = (keras.ops.convert_to_numpy(x.kernel)[:, 0] for x in (local, plain))
    assert np.all(np.abs(weights[:50] - 0.5) < 0.1)  # far from zero: the threshold is far below
    assert np.mean(weights[50:250] == 0) > 0.8
    assert np.all(weights[250:] > 0.05)
    assert np.all(others != 0)
    assert np.all(keras.ops.convert_to_numpy(local.bias) != 0)
    assert local.kernel.constraint is None


def test_accelerate_optimizer_replaces_adamw_alone() -> None:
    built = build_optimizer(Settings(optimizer="adamw", ema_momentum=0.9), steps_per_epoch=3)
    fused = accelerate_optimizer(built)
    assert isinstance(fused, FusedAdamW)
    assert fused.get_config() == {**built.get_config(), "name": fused.name}
    for name in ("sgd", "lion"):
        built = build_optimizer(Settings(optimizer=name), steps_per_epoch=3)
        assert accelerate_optimizer(built) is built
