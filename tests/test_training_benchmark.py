"""The benchmark of training: both libraries train the same thing, and the figures add up."""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks import training, training_keras
from classifier.architectures import flops_per_image
from classifier.training import augmentation, precision

torch = pytest.importorskip("torch", reason="PyTorch: see benchmarks/requirements.txt")
from benchmarks import training_pytorch  # noqa: E402

TINY = training.SETTINGS.replace(width=16, depth=2)
FIGURES = {
    "keras": {"images_per_second": [90.0, 120.0, 100.0], "median": 100.0},
    "pytorch": {"images_per_second": [50.0, 40.0, 60.0], "median": 50.0},
}


@pytest.fixture(scope="module")
def twins() -> tuple[keras.Model, "torch.nn.Module"]:
    """The network in Keras, and in PyTorch with the same weights."""
    precision.set_policy("float32")
    ours = training_keras.build(TINY)
    theirs = training_pytorch.Network(TINY)
    weights = iter(weight for layer in ours.layers for weight in layer.trainable_weights)
    for parameter in theirs.parameters():
        value = np.array(keras.ops.convert_to_numpy(next(weights)))
        parameter.data = torch.tensor(value.T if value.ndim == 2 else value)
    assert next(weights, None) is None
    return ours, theirs


def test_both_libraries_train_the_same_network(twins) -> None:
    ours, theirs = twins
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(ours(images))
    answers = torch.softmax(theirs(torch.tensor(images)), dim=1).detach().numpy()
    assert expected.std() > 0
    np.testing.assert_allclose(answers, expected, rtol=1e-3, atol=1e-6)


def test_both_libraries_crop_and_flip_by_the_same_matrices() -> None:
    random = np.random.default_rng(1)
    offset, extent = random.uniform(0, 12, 9), random.uniform(0.3, 1, 9)
    values = [x.astype("float32") for x in (offset, extent, random.integers(0, 2, 9))]
    ours = keras.ops.convert_to_numpy(augmentation.sampling_matrix(*values))
    theirs = training_pytorch.sampling_matrix(*(torch.tensor(x) for x in values)).numpy()
    np.testing.assert_allclose(theirs, ours, atol=1e-5)
    np.testing.assert_allclose(ours.sum(axis=2), 1, atol=1e-5)


def test_pytorch_augments_within_the_range_and_keeps_the_mass_of_the_labels() -> None:
    images = torch.randint(0, 256, (8, 32, 32, 3)).float()
    targets = torch.eye(8)
    changed, mixed = training_pytorch.augment(images, targets, training.SETTINGS)
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert not torch.equal(changed, images)
    np.testing.assert_allclose(mixed.sum(dim=1).numpy(), 1, atol=1e-6)


def test_the_operations_of_a_step_are_three_times_those_of_an_answer_less_the_pixels_gradient() -> (
    None
):
    precision.set_policy("float32")
    answer = flops_per_image(training_keras.build(training.SETTINGS))
    pixels = 2 * 3072 * training.SETTINGS.width
    assert training.training_flops() == 3 * answer - pixels


def test_a_share_is_the_median_speed_in_operations_over_the_matrix_product() -> None:
    speeds = {name: figure["images_per_second"] for name, figure in FIGURES.items()}
    product = 2 * 100.0 * training.training_flops() / 1e9
    summary = training.summarise(speeds, product)
    assert summary["keras"]["median"] == 100.0
    assert summary["keras"]["share_of_matrix_product"] == pytest.approx(0.5)
    assert summary["pytorch"]["share_of_matrix_product"] == pytest.approx(0.25)


@pytest.mark.slow
def test_one_round_writes_speeds_that_are_in_the_printed_table(
    tmp_path: Path, run_command: Callable
) -> None:
    result = run_command(
        *("-m", "benchmarks.training", "--images", "16", "--batch-size", "8", "--rounds", "1"),
        *("--precision", "float32", "--variants", "keras", "pytorch", "--output", tmp_path),
    )
    assert result.returncode == 0, result.stderr
    written = json.loads((tmp_path / "training.json").read_text())
    figures = written["precisions"]["float32"]
    assert set(figures["matrix_products"]) == {"tensorflow", "pytorch"}
    assert figures["matrix_product"] == max(*figures["matrix_products"].values())[0] > 0
    for name, figure in figures["variants"].items():
        assert figure["median"] > 0, name
        assert 0 < figure["share_of_matrix_product"] < 1
        assert f"| {figure['median']:,.0f} |" in result.stdout
    assert (tmp_path / "training.md").read_text() in result.stdout


def test_fewer_images_than_a_batch_are_refused(run_command: Callable) -> None:
    result = run_command("-m", "benchmarks.training", "--images", "5", "--batch-size", "8")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
