"""The benchmark of training: both libraries train the same thing, and the figures add up."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks import training, training_keras
from classifier.settings import Settings
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
    "date": "2026-01-02",
    "load_before": 0.2,
    "images_per_second": {"keras": [90.0, 120.0, 100.0], "pytorch": [50.0, 40.0, 60.0]},
}


def twins(settings: Settings) -> tuple[keras.Model, "torch.nn.Module"]:
    """The network in Keras, and in PyTorch with the same weights."""
    keras.config.set_dtype_policy("float32")
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


def test_each_network_has_the_size_that_its_title_states() -> None:
    keras.config.set_dtype_policy("float32")
    for title, settings, images in training.NETWORKS.values():
        assert images % settings.batch_size == 0
        assert "batch" not in title or title.endswith(f"batch {settings.batch_size}")
        if found := re.search(r"([\d.]+) M", title):
            parameters = training_keras.build(settings).count_params()
            assert float(found[1]) == pytest.approx(parameters / 1e6, abs=0.05)


@pytest.mark.parametrize("settings", TINY.values(), ids=TINY)
def test_pytorch_augments_within_the_range_and_keeps_the_mass_of_the_labels(
    settings: Settings,
) -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (64, 32, 32, 3)).float()
    targets = torch.eye(64)
    changed, mixed = training_pytorch.augment(images, targets, settings)
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert not torch.equal(changed, images)
    assert (mixed < 1).all(dim=1).any()
    np.testing.assert_allclose(mixed.sum(dim=1).numpy(), 1, atol=1e-6)


def test_a_row_has_medians_ranges_and_by_how_much_keras_is_faster() -> None:
    result = {
        "machine": {"cores": 2, "processor": "a processor"},
        "versions": {"tensorflow-cpu": "1", "torch": "2"},
        "rows": {"cnn-64:float32": FIGURES},
    }
    line = training.table(result).splitlines()[2]
    assert "| float32 | 100 (90 – 120) | 50 (40 – 60) | **2.00×** |" in line


def test_rows_of_the_same_machine_stay_and_those_of_another_go(tmp_path: Path) -> None:
    file = tmp_path / "training.json"
    first = training.merged(file, {"mlp:float32": {"date": "a"}})
    file.write_text(json.dumps(first))
    both = training.merged(file, {"cnn-64:float32": {"date": "b"}})
    assert both["rows"] == {"mlp:float32": {"date": "a"}, "cnn-64:float32": {"date": "b"}}
    file.write_text(json.dumps({**first, "machine": {"processor": "another"}}))
    assert list(training.merged(file, {"cnn-64:float32": {}})["rows"]) == ["cnn-64:float32"]


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
