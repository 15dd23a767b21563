"""The quick AdamW takes the steps of Keras' own."""

from typing import Any

import keras
import numpy as np
import pytest

from classifier import optimizers
from classifier.settings import Settings
from classifier.training import build_optimizer

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


def test_the_preset_optimiser_adamw_is_the_quick_one() -> None:
    optimizer = build_optimizer(Settings(optimizer="adamw"), steps_per_epoch=3)
    assert isinstance(optimizer, optimizers.AdamW)
