"""`python train.py` as a user calls it: whole, killed, refused, gone on with."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import train
from classifier import command_line
from conftest import CLASSES, PROJECT, TINY_SETTINGS, Run

MODEL_FILES = {
    *("config.json", "metadata.json", "model.weights.h5", "labels.json", "training.json"),
    *("history.csv", "evaluation.json", "predictions.npz", "plots", "README.md", "runs"),
}


def test_a_training_leaves_a_complete_model_folder(tiny_run):
    model = tiny_run / "model"
    assert {path.name for path in model.iterdir()} == MODEL_FILES
    assert {"checkpoints", "tensorboard", "model"} <= {path.name for path in tiny_run.iterdir()}
    training = json.loads((model / "training.json").read_text())
    assert training["preset"] == "mlp-baseline"
    assert training["settings"]["hidden_units"] == [32]
    assert training["epochs_run"] == 3
    assert training["parameters"] == 32 * 32 * 3 * 32 + 32 + 32 * 6 + 6
    assert training["flops_per_image"] == 2 * (32 * 32 * 3 * 32 + 32 * 6)
    assert 0 <= training["train_top1"] <= 1
    assert "confidence" in training
    assert training["dataset"]["training_images"] == 216
    assert list((tiny_run / "tensorboard").rglob("events.out.tfevents.*"))


def test_keras_alone_loads_the_model_and_gives_the_stated_accuracy(
    tiny_model_folder, small_dataset
):
    from classifier.data.loading import load_split

    model = keras.saving.load_model(tiny_model_folder)
    test = load_split(str(small_dataset), "test")
    probabilities = model.predict(test.images, verbose=0)
    stated = json.loads((tiny_model_folder / "evaluation.json").read_text())

    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    measured = np.mean(probabilities.argmax(axis=1) == test.labels)
    assert measured == pytest.approx(stated["top1"], abs=1e-6)  # it has six digits
    assert not model.compiled
    labels = json.loads((tiny_model_folder / "labels.json").read_text())
    assert labels["classes"] == CLASSES
    assert labels["superclass_of"] == [1, 1, 1, 0, 0, 0]


@pytest.mark.slow
def test_a_run_stopped_and_killed_ends_with_the_weights_of_one_that_was_not(
    tmp_path, small_dataset, tiny_run, run_command
):
    """Stopped by SIGTERM, which says how to resume, then killed as `kill -9` does."""
    folder = tmp_path / "stopped {epoch}"
    command = ["train.py", "--preset", "mlp-baseline", "--dataset", str(small_dataset)]
    command += ["--output", str(folder), *TINY_SETTINGS]
    for sight, number in (
        ("run.json", signal.SIGTERM),
        ("checkpoints/state.npz", signal.SIGKILL),
    ):
        process = _start(*command)
        _wait_for(folder, sight, process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=240)
        if number != signal.SIGKILL:
            assert process.returncode == 130
            assert "Traceback" not in errors
            last = errors.strip().splitlines()[-1]
            assert f"last checkpoint with: python train.py --output '{folder}' --resume" in last
            assert not list(folder.rglob("*.tmp"))
        command = ["train.py", "--output", str(folder), "--resume"]
    assert not (folder / "model").exists()
    left = folder / "checkpoints" / ".state.npz.0123abcd.tmp"
    left.write_text("what a killed process leaves")

    result = run_command(*command)

    assert result.returncode == 0, result.stderr
    for name in ("model.weights.h5", "labels.json"):
        assert (folder / "model" / name).read_bytes() == (tiny_run / "model" / name).read_bytes()
    assert not left.exists()


def test_a_folder_that_holds_a_run_is_refused_without_resume(tiny_run, call_command, small_dataset):
    before = _listing(tiny_run)
    refused = call_command("train.py", "--dataset", small_dataset, "--output", tiny_run)
    resumed = call_command("train.py", "--output", tiny_run, "--resume")
    other = call_command("train.py", "--output", tiny_run, "--resume", "--epochs", "9")

    assert_one_line(refused, 2, "holds a run already", "--resume")
    assert resumed.returncode == 0
    assert "complete" in resumed.stdout
    assert_one_line(other, 2, "epochs 3, not 9")
    assert _listing(tiny_run) == before


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed after its first epoch, with its data in `data`."""
    folder = tmp_path_factory.mktemp("begun")
    _write_data(folder / "data")
    command = ["train.py", "--dataset", folder / "data", "--output", folder / "run"]
    command += ["--set", "early_stopping_patience=0"]
    process = _start(*command, "--set", "hidden_units=[8]", "--epochs", "10000")
    _wait_for(folder / "run", "checkpoints/state.npz", process)
    process.kill()
    process.communicate()
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda split: (split / "cat").rename(split / "zebra"),
        lambda split: (split / "cat" / "3.png").unlink(),
        lambda split: _write_class(split / "cat", 7, 60),
    ],
)
def test_a_run_does_not_go_on_with_other_data(change, begun, capfd, monkeypatch):
    monkeypatch.chdir(PROJECT)
    shutil.rmtree(begun / "data")
    _write_data(begun / "data")
    for split in ("train", "test"):
        change(begun / "data" / split)
    before = _listing(begun / "run")

    status = command_line.run(train.main, ["--output", str(begun / "run"), "--resume"])

    lines = capfd.readouterr().err.splitlines()
    assert (status, len(lines)) == (2, 1), lines
    assert "other images, labels or classes than before" in lines[0]
    assert _listing(begun / "run") == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--preset", "nothing"], ["no preset 'nothing'", "mlp-baseline"]),
        (["--set", "dropuot=0.2"], ["dropuot must be a setting"]),
        (["--epochs", "many"], ["--epochs", "'many'"]),
        (["--test-split", "a", "--test-fraction", "0.5"], ["not allowed with"]),
        (["--test-fraction", "1"], ["--test-fraction must lie between 0 and 1"]),
        (["--dataset", ""], ["--dataset is empty"]),
        (["--push"], ["--push needs --repo-id"]),
        (["--private"], ["--push"]),
        (["--dataset", "/nowhere/at/all"], ["/nowhere/at/all"]),
    ],
)
def test_a_wrong_call_ends_with_one_line_and_leaves_nothing(
    arguments, expected, tmp_path, call_command
):
    result = call_command("train.py", "--output", tmp_path / "run", *arguments)

    assert_one_line(result, 2, *expected)
    assert not (tmp_path / "run" / "model").exists()


def test_a_training_that_diverges_ends_with_one_line_and_publishes_nothing(
    tmp_path, small_dataset, run_command
):
    result = run_command(
        *("train.py", "--dataset", small_dataset, "--output", tmp_path / "run"),
        *("--epochs", "2", "--set", "learning_rate=1e3"),
        *("--push", "--repo-id", "somebody/diverged"),
        TF_CPP_MIN_LOG_LEVEL="",
    )

    assert_one_line(result, 1, "diverged in epoch 1: lower learning_rate")
    assert not (tmp_path / "run" / "model").exists()


def test_two_trainings_do_not_share_a_folder(tmp_path, small_dataset, call_command):
    from filelock import FileLock

    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):
        result = call_command("train.py", "--dataset", small_dataset, "--output", tmp_path / "run")

    assert_one_line(result, 2, "another process is training in")


def test_a_model_that_could_not_be_written_is_refused_before_the_first_epoch(
    tmp_path, small_dataset, call_command
):
    arguments = ("--dataset", small_dataset, "--output", tmp_path / "run")
    result = call_command("train.py", *arguments, "--set", "hidden_units=[90000]")
    assert_one_line(result, 2, "277,110,006 parameters are too many")
    assert "Epoch" not in result.stdout
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_teacher_is_not_needed_to_resume_once_its_answers_are_stored(
    tmp_path, small_dataset, tiny_run, call_command
):
    """A run is killed after training; its teacher is gone, or another one, when it is resumed."""
    teacher = shutil.copytree(tiny_run / "model", tmp_path / "teacher")
    views = ("--set", "distillation_views=3", "--set", "hidden_units=[8]", "--epochs", "2")
    command = ("train.py", "--dataset", small_dataset, "--output", tmp_path / "run", *views)
    first = call_command(*command, "--set", f"teacher={teacher}")
    assert first.returncode == 0, first.stderr
    weights = (tmp_path / "run" / "model" / "model.weights.h5").read_bytes()
    shutil.rmtree(teacher)
    for before in ("the model folder", "the first epoch"):
        shutil.rmtree(tmp_path / "run" / "model")
        if before == "the first epoch":
            (tmp_path / "run" / "checkpoints" / "state.npz").unlink()
        again = call_command("train.py", "--output", tmp_path / "run", "--resume")
        assert again.returncode == 0, again.stderr
        assert (tmp_path / "run" / "model" / "model.weights.h5").read_bytes() == weights

    shutil.rmtree(tmp_path / "run" / "model")
    shutil.copytree(tiny_run / "model", teacher)
    (teacher / "config.json").write_text((teacher / "config.json").read_text() + "\n")
    empty = {"CIFAR100_MLP_CACHE": str(tmp_path / "empty")}
    (tmp_path / "run" / "checkpoints" / "state.npz").unlink()
    other = call_command("train.py", "--output", tmp_path / "run", "--resume", **empty)
    assert_one_line(other, 2, "is another one than when the run began")


def assert_one_line(result: Run, status: int, *expected: str) -> None:
    """Asserts that a command ended with this status and one line that holds these texts."""
    assert result.returncode == status, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for text in expected:
        assert text in lines[0]


def _start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _write_data(folder: Path) -> None:
    """Writes image folders of three classes, split in `train` and `test`."""
    for split in ("train", "test"):
        for number, name in enumerate(("cat", "dog", "fox")):
            _write_class(folder / split / name, seed=number, level=40 + 80 * number)


def _write_class(folder: Path, seed: int, level: int) -> None:
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(10):
        pixels = random.normal(level, 30, (32, 32, 3)).clip(0, 255).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{number}.png")


def _wait_for(folder: Path, pattern: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while not list(folder.glob(pattern)):
        assert process.poll() is None, "the training ended before it could be stopped"
        assert time.monotonic() < deadline, f"{pattern} did not appear"
        time.sleep(0.005)


def _listing(folder: Path) -> dict[str, tuple[int, float]]:
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime)
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
