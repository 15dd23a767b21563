"""Corrupted images, and the command that compares models."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import compare
from classifier.hub import sources
from classifier.model_folder.folder import ModelFolder
from classifier.presets import current_names, load_preset
from classifier.settings import Settings
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


def test_the_summary_is_in_categories_and_the_first_has_the_record(comparison: dict) -> None:
    _, tiny = comparison["models"]
    changes = [
        {"name": "cnn", "category": "convolutional", "top1": 0.3},
        {"name": "mlp-baseline", "top1": 0.6},
        {"name": "mlp-alone", "top1": 0.5, "one_view_top1": 0.375},
    ]
    models = [{**tiny, **change} for change in changes]
    _, _, *rows, _, _ = compare.summary({**comparison, "models": models}).splitlines()
    names = ("mlp-alone", "β-LASSO", "mlp-baseline", "cnn")
    assert [name in row for name, row in zip(names, rows, strict=True)] == [True] * 4
    assert "| **50.0%** | 37.5% |" in rows[0]
    assert "59.56%" not in compare.summary(comparison)


def test_a_network_taught_by_its_own_kind_counts_as_alone() -> None:
    cnn, dense, tied = ({"settings": x} for x in ({"architecture": "cnn"}, {}, {"tied": True}))
    taught, tuned = {"settings": {"teacher": "x"}}, {"init_from": {"source": "x"}}
    own_kind = {**taught, "teacher": dense}
    alone = [dense, own_kind, {**taught, "teacher": own_kind}]
    others = [taught, tuned, *({**taught, "teacher": x} for x in (taught, tuned, cnn, tied))]
    assert {*map(compare.category, alone)} == {compare.ALONE}
    assert compare.ALONE not in map(compare.category, others)


def test_the_network_without_a_teacher_was_trained_as_its_preset_says() -> None:
    training = ModelFolder(sources.PRETRAINED / "mlp-alone").training
    settings = load_preset("mlp-alone")
    assert Settings(**current_names(training["settings"])) == settings
    assert (settings.teacher, settings.local_maps, settings.tied) == ("", (), False)
    assert not training.get("init_from")
    assert training["epochs_run"] == settings.epochs
