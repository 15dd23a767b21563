"""The benchmark of training: both libraries train the same thing, and the figures add up."""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks import training, training_keras
from classifier.settings import Settings
from classifier.training import precision
from classifier.training.fit import build_optimizer

torch = pytest.importorskip("torch", reason="PyTorch: see benchmarks/requirements.txt")
from benchmarks import training_pytorch  # noqa: E402

TINY = {
    "mlp": training.NETWORKS["mlp"][1].replace(width=16, depth=2),
    "cnn-64": training.NETWORKS["cnn-64"][1].replace(channels=(2, 3, 4, 5)),
}
FIGURES = {
    "images": 300,
    "batch_size": 10,
    "rounds": 3,
    "flops_per_image": 2_000_000_000,
    "date": "2026-01-02",
    "load_before": 0.2,
    "images_per_second": {"keras": [90.0, 120.0, 100.0], "pytorch": [50.0, 40.0, 60.0]},
}


def twins(settings: Settings) -> tuple[keras.Model, "torch.nn.Module"]:
    """The network in Keras, and in PyTorch with the same weights."""
    precision.set_policy("float32")
    ours = training_keras.build(settings)
    theirs = training_pytorch.Network(settings)
    weights = iter(weight for layer in ours.layers for weight in layer.trainable_weights)
    for parameter in theirs.parameters():
        value = np.array(keras.ops.convert_to_numpy(next(weights)))
        parameter.data = torch.tensor(value.T if value.ndim < 4 else value.transpose(3, 2, 0, 1))
    assert next(weights, None) is None
    return ours, theirs


@pytest.mark.parametrize("settings", TINY.values(), ids=TINY)
def test_both_libraries_take_the_same_step(settings: Settings) -> None:
    settings = settings.replace(learning_rate=0.01, l2=0.0 if settings.weight_decay else 0.1)
    ours, theirs = twins(settings)
    ours.compile(
        optimizer=build_optimizer(settings, 1), loss=keras.losses.CategoricalCrossentropy()
    )
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (8, 32, 32, 3)).astype("float32")
    targets = np.eye(100, dtype="float32")[random.integers(0, 100, 8)]
    optimizer = training_pytorch.build_optimizer(theirs, settings)
    before = [x.detach().numpy().copy() for x in theirs.parameters()]
    for _ in range(2):  # the second has momentum
        ours.train_on_batch(images, targets)
        optimizer.zero_grad()
        loss = torch.nn.CrossEntropyLoss()(
            theirs.train()(torch.tensor(images)), torch.tensor(targets)
        )
        loss.backward()
        optimizer.step()
    weights = (weight for layer in ours.layers for weight in layer.trainable_weights)
    for weight, parameter, start in zip(weights, theirs.parameters(), before, strict=True):
        value = np.array(keras.ops.convert_to_numpy(weight))
        value = value.T if value.ndim < 4 else value.transpose(3, 2, 0, 1)
        change, expected = parameter.detach().numpy() - start, value - start
        assert np.abs(change - expected).mean() < 0.02 * np.abs(expected).mean()


@pytest.mark.slow
@pytest.mark.parametrize("row", ["mlp:float32", "cnn-32:bfloat16"])
def test_one_round_writes_speeds_that_are_in_the_printed_table(
    row: str, tmp_path: Path, run_command: Callable
) -> None:
    result = run_command(
        *("-m", "benchmarks.training", "--images", "16", "--batch-size", "8", "--rounds", "1"),
        *("--rows", row, "--output", tmp_path),
    )
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "training.json").read_text())["rows"][row]
    for speeds in figures["images_per_second"].values():
        assert speeds[0] > 0
        assert f"| {speeds[0]:,.0f} (" in result.stdout
    assert (tmp_path / "training.md").read_text() in result.stdout
