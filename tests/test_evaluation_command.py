"""The command `python -m evaluation`, called as a user calls it."""

import argparse
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classifier.data.loading import load_split
from classifier.model_folder.folder import ClassNames, ModelFolder
from conftest import CLASSES
from evaluation import report

Command = Callable[..., object]
FILES = {"evaluation.json", "predictions.npz", "plots"}


@pytest.fixture
def model(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model folder, without what an evaluation writes."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_folder, folder)
    for name in FILES:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


@pytest.fixture(scope="module")
def evaluated(
    tiny_model_folder: Path,
    small_dataset: Path,
    run_command: Command,
    tmp_path_factory: pytest.TempPathFactory,
):
    """A model folder after the command, and what the command printed."""
    folder = tmp_path_factory.mktemp("evaluated") / "model"
    shutil.copytree(tiny_model_folder, folder)
    for name in ("evaluation.json", "predictions.npz"):
        (folder / name).unlink()
    return folder, run_command("-m", "evaluation", folder, "--dataset", small_dataset)


def write_folder(folder: Path, names: list[str]) -> Path:
    """Writes a data set of two images in each class and split."""
    random = np.random.default_rng(0)
    for split, name in itertools.product(("train", "test"), names):
        (folder / split / name).mkdir(parents=True)
        for number in range(2):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


def fingerprint(folder: Path) -> dict[str, str]:
    """Every file of a folder with its hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_model_folder_gets_its_figures_predictions_and_plots(evaluated):
    folder, done = evaluated
    assert done.returncode == 0, done.stderr
    evaluation = json.loads((folder / "evaluation.json").read_text())
    probabilities, labels = ModelFolder(folder).predictions()
    assert evaluation["samples"] == len(labels) == 60
    assert evaluation["top1"] == pytest.approx(np.mean(probabilities.argmax(axis=1) == labels))
    assert evaluation["duplicates"] == 0
    assert evaluation["train_top1"] == ModelFolder(folder).training["train_top1"]
    assert len(list((folder / "plots").glob("*.png"))) == 9
    assert not list(folder.rglob(".*")), "temporary files were left behind"


def test_the_evaluation_that_train_py_made_is_the_one_that_the_command_makes(
    evaluated, tiny_model_folder
):
    folder, _ = evaluated
    again = json.loads((folder / "evaluation.json").read_text())
    first = json.loads((tiny_model_folder / "evaluation.json").read_text())
    assert again == first


def test_a_run_folder_and_a_limit_write_to_the_folder_that_is_named(
    tiny_run, small_dataset, call_command, tmp_path
):
    before = fingerprint(tiny_run)
    target = tmp_path / "new" / "results"
    done = call_command(
        *("-m", "evaluation", tiny_run, "--dataset", small_dataset),
        *("--limit", 12, "--output", target),
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in target.iterdir()} == FILES
    evaluation = json.loads((target / "evaluation.json").read_text())
    assert evaluation["samples"] == evaluation["limit"] == 12
    assert [row["support"] for row in evaluation["per_class"]] == [2] * 6
    assert fingerprint(tiny_run) == before


def test_figures_of_another_model_do_not_stay_in_the_folder_that_is_named(
    tiny_model_folder, small_dataset, tmp_path
):
    other = shutil.copytree(tiny_model_folder, tmp_path / "other")
    (other / "history.csv").unlink()
    split = load_split(str(small_dataset), "test")
    drawn = []
    for folder in (tiny_model_folder, other):
        report.evaluate(ModelFolder(folder), split, output=tmp_path / "results")
        drawn.append({path.stem for path in (tmp_path / "results" / "plots").iterdir()})
    assert drawn[0] - drawn[1] == {"training"}


def test_duplicates_of_training_images_are_counted(model, small_dataset):
    folder = ModelFolder(model)
    test, training = (load_split(str(small_dataset), split) for split in ("test", "train"))
    evaluation = report.evaluate(folder, test, training_split=test)
    assert evaluation["duplicates"] == 60
    assert evaluation["top1_without_duplicates"] is None
    evaluation = report.evaluate(folder, training, split_name="train", training_split=test)
    assert evaluation["split"] == "train"
    assert evaluation["duplicates"] == 0
    assert evaluation["top1_without_duplicates"] == evaluation["top1"]


def test_a_failure_while_drawing_leaves_the_old_files_as_they_were(
    tiny_model_folder, small_dataset, tmp_path
):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_folder, folder)
    (folder / "history.csv").write_text("loss,accuracy\nnot a number,1\n")
    before = fingerprint(folder)
    with pytest.raises(Exception, match="not a table of numbers"):
        report.evaluate(ModelFolder(folder), load_split(str(small_dataset), "test"))
    assert fingerprint(folder) == before


def refused(done, *parts: str) -> None:
    """Asserts that a command ended with status 2 and one line on standard error."""
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


@pytest.mark.parametrize("more", [["--split", "train"], ["--test-fraction", "0.5"], []])
def test_figures_of_other_data_never_replace_those_of_the_model_folder(
    model, small_dataset, call_command, tmp_path, more
):
    dataset = small_dataset if more else write_folder(tmp_path / "other", CLASSES)
    before = fingerprint(model)
    for output in ([], ["--output", model]):
        done = call_command("-m", "evaluation", model, "--dataset", dataset, *more, *output)
        refused(done, "the test split of the model's own data set", "with --output")
    assert fingerprint(model) == before


def test_classes_are_matched_by_name_in_any_order_and_normal_form(
    model, call_command, tmp_path, small_dataset
):
    labels = ClassNames.read(model)
    composed = tuple("caf\u00e9" if name == "cloud" else name for name in labels.classes)
    ClassNames(labels.dataset, composed, labels.superclasses, labels.superclass_of).write(model)
    # Alphabetical order puts "cafe" with a combining accent elsewhere, and "fox" is missing.
    names = ["apple", "bridge", "cafe\u0301", "dolphin", "elephant"]
    dataset = write_folder(tmp_path / "other", names)
    target = tmp_path / "results"
    done = call_command("-m", "evaluation", model, "--dataset", dataset, "--output", target)
    assert done.returncode == 0, done.stderr
    assert "Classes of the model that other lacks: fox." in done.stderr
    evaluation = json.loads((target / "evaluation.json").read_text())
    support = {row["name"]: row["support"] for row in evaluation["per_class"]}
    assert support == {name: 0 if name == "fox" else 2 for name in composed}


def test_images_of_classes_that_the_model_does_not_know_are_refused(model, call_command, tmp_path):
    dataset = write_folder(tmp_path / "other", ["apple", "yak", "zebra"])
    target = tmp_path / "results"
    done = call_command("-m", "evaluation", model, "--dataset", dataset, "--output", target)
    refused(done, "other has classes that the model does not know (yak, zebra)", "--dataset")
    assert not target.exists()


def test_evaluation_needs_no_tensorflow(model, small_dataset, run_command):
    program = "import runpy, sys\n"
    program += "try:\n    runpy.run_module('evaluation', run_name='__main__')\n"
    program += "except SystemExit as end:\n    print(end.code, 'tensorflow' in sys.modules)\n"
    done = run_command("-c", program, model, "--dataset", small_dataset)
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr


def test_an_output_that_cannot_be_written_to_is_refused_before_the_data_are_loaded(
    model, call_command, tmp_path
):
    file = tmp_path / "file"
    file.touch()
    arguments = ("-m", "evaluation", model, "--dataset", "/nowhere", "--output", file / "results")
    refused(call_command(*arguments), f"cannot write to {file / 'results'}", "--output")


@pytest.mark.parametrize("limit", ["0", "-3", "many", "1.5"])
def test_an_impossible_limit_is_refused_before_anything_is_loaded(run_command, limit):
    done = run_command("-m", "evaluation", "nowhere", "--limit", limit)
    refused(done, "--limit", limit)


def test_measure_again_uses_all_options_of_the_data_set(tiny_model_folder, small_dataset):
    options = argparse.Namespace(dataset=str(small_dataset), test_fraction=0.5)
    evaluation = report.measure_again(ModelFolder(tiny_model_folder), options)
    assert evaluation["samples"] == 120  # half of the training images
