"""Corrupted images, and the command that compares models."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import compare
from classifier.architectures import build_network
from classifier.architectures.views import average_views
from classifier.hub import sources
from classifier.model_folder.folder import ModelFolder
from classifier.presets import PRESETS, current_names, load_preset
from classifier.settings import Settings
from evaluation import report
from evaluation.corruptions import LEVELS, corrupt


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def compared(
    tiny_model_folder: Path,
    small_dataset: Path,
    run_command: Callable,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, str]:
    """The folder that the command wrote for two models, of which one knows nothing; its output."""
    folder = tmp_path_factory.mktemp("compared")
    worse = folder / "worse"
    shutil.copytree(tiny_model_folder, worse)
    model = ModelFolder(worse).load_model()
    model.get_layer("probabilities").set_weights(
        [np.zeros_like(weight) for weight in model.get_layer("probabilities").get_weights()]
    )
    model.save_weights(worse / "model.weights.h5")
    tiny = folder / "tiny"
    shutil.copytree(tiny_model_folder, tiny)
    result = run_command(
        *("-m", "benchmarks.compare", "--dataset", small_dataset, "--output", folder / "out"),
        *(tiny, worse),
    )
    assert result.returncode == 0, result.stderr
    return folder / "out", result.stdout


@pytest.fixture(scope="module")
def comparison(compared: tuple[Path, str]) -> dict:
    return json.loads((compared[0] / "comparison.json").read_text())


@pytest.mark.parametrize("kind", LEVELS)
def test_a_corruption_starts_at_nothing_and_grows(kind: str, images: np.ndarray) -> None:
    untouched, *others = LEVELS[kind]
    assert np.array_equal(corrupt(images, kind, untouched), images)
    changes = []
    for level in others:
        changed = corrupt(images, kind, level)
        assert changed.dtype == np.uint8
        assert changed.shape == images.shape
        changes.append(np.abs(changed.astype(int) - images).mean())
    assert changes[0] > 0
    if kind in ("blur", "brightness", "noise"):
        assert changes == sorted(changes)


@pytest.mark.slow
def test_models_are_sorted_by_top1_and_have_every_figure(comparison: dict) -> None:
    worse, tiny = comparison["models"]
    assert (worse["name"], tiny["name"]) == ("worse", "tiny")
    assert worse["top1"] == pytest.approx(1 / 6, abs=1e-6)
    assert tiny["top1"] > worse["top1"]
    assert tiny["one_view_top1"] == tiny["top1"]  # it has no other views
    low, high = tiny["top1_interval"]
    assert low < tiny["top1"] < high
    assert tiny["parameters"] == worse["parameters"] > 3072 * 32
    assert tiny["flops_per_image"] == 2 * (3072 * 32 + 32 * 6)
    assert tiny["train_test_gap"] == pytest.approx(tiny["train_top1"] - tiny["top1"], abs=1e-6)
    for model in comparison["models"]:
        assert 0 < model["latency_ms"]["low"] <= model["latency_ms"]["median"]
        assert model["bytes"] > 100_000
        assert model["training_seconds"] > 0


@pytest.mark.slow
def test_the_figures_are_those_of_the_evaluation(comparison: dict, tiny_model_folder: Path) -> None:
    tiny = comparison["models"][1]
    evaluation = ModelFolder(tiny_model_folder).evaluation
    assert evaluation is not None
    for key in ("top1", "top5", "macro_f1", "superclass_top1"):
        assert tiny[key] == pytest.approx(evaluation[key], abs=1e-6), key
    accuracy = {row["name"]: row["accuracy"] for row in evaluation["per_class"]}
    assert comparison["class_accuracy"]["tiny"] == pytest.approx(accuracy)


@pytest.mark.slow
def test_the_table_is_printed_and_written_and_the_figure_is_a_picture(
    compared: tuple[Path, str],
) -> None:
    folder, printed = compared
    table = (folder / "comparison.md").read_text(encoding="utf-8")
    assert table in printed
    assert "|  | worse | tiny |" in table
    assert "| **top-1** | **16.7%** |" in table
    path = folder / "robustness.png"
    assert list(folder.glob("*.png")) == [path]
    with Image.open(path) as picture:
        assert picture.width >= 1000
    assert path.stat().st_size < 400_000


def test_one_view_of_a_model_is_what_its_network_predicts(images: np.ndarray) -> None:
    settings = Settings(hidden_units=(8,), tta_flip=True, tta_zoom=0.7)
    network = build_network(
        settings, classes=5, mean=np.zeros(3, np.float32), deviation=np.ones(3, np.float32)
    )
    model = average_views(network, settings)
    one, expected = compare.without_views(model).predict(images), network.predict(images)
    np.testing.assert_allclose(one, expected, atol=1e-6)
    assert np.abs(model.predict(images) - expected).max() > 0.01


def test_a_model_whose_weights_are_not_embedded_stands_in_the_summary_with_the_record(
    comparison: dict, tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mlp-alone"
    folder.mkdir()
    shutil.copy(tiny_model_folder / "training.json", folder)
    shutil.copy(tiny_model_folder / "evaluation.json", folder)
    assert compare.other_models(tmp_path) == []  # its latency is not there
    (folder / "latency.json").write_text('{"median": 1.25}')
    (other,) = compare.other_models(tmp_path)
    evaluation = ModelFolder(tiny_model_folder).evaluation
    assert evaluation
    assert (other["name"], other["top1"]) == ("mlp-alone", evaluation["top1"])
    lines = compare.summary(comparison, [other]).splitlines()
    (row,) = (index for index, line in enumerate(lines) if "presets/mlp-alone.yaml" in line)
    assert f"**{evaluation['top1']:.1%}**" in lines[row]
    assert "| 1.2 ms |" in lines[row]
    assert "| 59.56% |" in lines[row + 1]
    assert "59.56%" not in compare.summary(comparison)
    assert len(lines) == len(compare.summary(comparison).splitlines()) + 2


RESULTS_ALONE = PRESETS.parent / "benchmarks" / "results" / "mlp-alone"


def test_what_is_stated_of_the_network_without_a_teacher_follows_from_its_predictions() -> None:
    evaluation = json.loads((RESULTS_ALONE / "evaluation.json").read_text(encoding="utf-8"))
    training = json.loads((RESULTS_ALONE / "training.json").read_text(encoding="utf-8"))
    with np.load(RESULTS_ALONE / "predictions.npz") as arrays:
        predictions = arrays["probabilities"].astype("float32"), arrays["labels"]
    summary = report.summarise(*predictions, ModelFolder(sources.PRETRAINED / "mlp").labels)
    for name in ("top1", "top5", "expected_calibration_error"):
        assert summary[name] == pytest.approx(evaluation[name], abs=1e-6)
    assert summary["samples"] == 10_000
    settings = load_preset("mlp-alone")
    assert Settings(**current_names(training["settings"])) == settings
    assert (settings.teacher, settings.local_maps, settings.tied) == ("", (), False)
    assert not training.get("init_from")
    history = (RESULTS_ALONE / "history.csv").read_text().splitlines()
    assert len(history) == 1 + settings.epochs
