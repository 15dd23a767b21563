"""`train.py --distributed`: two processes, or two devices, arrive where one process does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from classifier.errors import InputError
from classifier.model_folder.folder import ModelFolder
from classifier.training.distribution import ProcessGroup, read_process_group
from conftest import PROJECT
from ports import free_port

AUGMENTED = """
architecture: local_mlp
local_units: 48
local_patches: [9, 16]
prune_threshold: 0.8
width: 32
depth: 1
dropout: 0.1
optimizer: adamw
learning_rate: 0.01
batch_size: 32
epochs: 3
schedule: cosine
warmup_epochs: 1
flip: 0.5
crop_area: 0.7
mixup: 0.2
distillation_views: 2
precision: float32
"""
# 207 images in batches of 32 and 33 for validation: the last batch of each is uneven.
CLASSIC = ["--preset", "mlp-baseline", "--set", "hidden_units=[32]", "--batch-size", "32"]
CLASSIC += ["--epochs", "4", "--set", "learning_rate=0.05", "--set", "validation_fraction=0.14"]
JAX = {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}

Process = subprocess.Popen[str]


def start_two(*arguments: object, each: tuple[list[str], ...] = ([], [])) -> list[Process]:
    """Starts both processes of a group on loopback.

    Args:
        arguments: of `train.py` in both.
        each: further ones of each.
    """
    group = {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{free_port()}",
        "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
    }
    return [
        subprocess.Popen(
            [sys.executable, "train.py", *map(str, arguments), "--distributed", *more],
            cwd=PROJECT,
            env={**os.environ, **JAX, **group, "KERAS_DISTRIBUTION_PROCESS_ID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, more in enumerate(each)
    ]


def train_with_two(*arguments: object) -> list[str]:
    """Returns what each of the two printed, once both have ended well."""
    processes = start_two(*arguments)
    outputs = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    return [output for output, _ in outputs]


def assert_same_training(one: Path, other: Path) -> None:
    first, second = ModelFolder(one / "model"), ModelFolder(other / "model")
    pairs = zip(first.load_model().get_weights(), second.load_model().get_weights(), strict=True)
    for weights, others in pairs:
        np.testing.assert_allclose(weights, others, atol=2e-5)
    assert len(first.history) == len(second.history)
    for row, other_row in zip(first.history, second.history, strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert row[name] == pytest.approx(other_row[name], abs=1e-4), name
    assert first.evaluation["top1"] == second.evaluation["top1"]


@pytest.mark.slow
def test_two_processes_arrive_where_one_does(tmp_path, small_dataset, tiny_run, run_command):
    """With augmentation, mixing, dropout and a teacher: everything that draws random numbers."""
    preset = tmp_path / "augmented.yaml"
    preset.write_text(AUGMENTED + f"teacher: {tiny_run}\n")
    arguments = ["--preset", preset, "--dataset", small_dataset, "--output"]
    alone = run_command("train.py", *arguments, tmp_path / "one", **JAX)
    assert alone.returncode == 0, alone.stderr

    leader, other = train_with_two(*arguments, tmp_path / "two")
    assert "process 1 of 2, 2 devices" in leader
    assert "Model folder:" in leader
    assert "process 2 of 2, 2 devices" in other
    assert "Epoch" not in other
    assert "Model folder:" not in other
    assert_same_training(tmp_path / "one", tmp_path / "two")
    training = json.loads((tmp_path / "two" / "model" / "training.json").read_text())
    assert training["distributed"] == {"processes": 2, "devices": 2}


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_the_best_epoch(tmp_path, small_dataset, run_command):
    arguments = [*CLASSIC, "--dataset", small_dataset, "--output"]
    alone = run_command("train.py", *arguments, tmp_path / "one", **JAX)
    assert alone.returncode == 0, alone.stderr
    train_with_two(*arguments, tmp_path / "two")
    assert_same_training(tmp_path / "one", tmp_path / "two")


def test_each_device_computes_its_part_of_the_batch(run_command):
    code = """
import jax, numpy as np
from classifier.training.distribution import read_process_group
from classifier.training.distribution import shard
read_process_group().join(batch_size=6)
divided = jax.jit(shard)(np.zeros((6, 4)))
print([shard.data.shape for shard in divided.addressable_shards])
uneven = jax.jit(shard)(np.zeros((5, 4)))
print([shard.data.shape for shard in uneven.addressable_shards])
"""
    flags = "--xla_force_host_platform_device_count=3"
    result = run_command("-c", code, **JAX, XLA_FLAGS=flags)
    assert result.stdout.splitlines() == ["[(2, 4), (2, 4), (2, 4)]", "[(5, 4)]"], result.stderr


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"KERAS_BACKEND": "tensorflow"}, "needs Keras on JAX, not on tensorflow"),
        ({"KERAS_DISTRIBUTION_NUM_PROCESSES": "2"}, "set all three"),
    ],
)
def test_a_team_that_cannot_be_is_refused_in_one_line(environment, message, tmp_path, run_command):
    output = tmp_path / "run"
    result = run_command("train.py", "--distributed", "--output", output, **environment)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not output.exists()


@pytest.mark.slow
def test_a_batch_that_cannot_be_divided_is_refused(tmp_path, small_dataset, run_command):
    arguments = [*CLASSIC, "--dataset", small_dataset, "--output", tmp_path / "run"]
    flags = "--xla_force_host_platform_device_count=3"
    result = run_command("train.py", *arguments, "--distributed", **JAX, XLA_FLAGS=flags)
    assert result.returncode == 2
    assert "32 images cannot be divided evenly among 3 devices" in result.stderr
    assert "--batch-size 33" in result.stderr
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.slow
def test_processes_with_different_commands_are_told_what_differs(tmp_path, small_dataset):
    arguments = [*CLASSIC, "--dataset", small_dataset, "--output", tmp_path / "run"]
    processes = start_two(*arguments, each=(["--seed", "0"], ["--seed", "1"]))
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 2, errors
        assert "error: the processes differ in seed (here: " in errors
    assert not (tmp_path / "run" / "run.json").exists()


def test_without_variables_a_process_is_its_own_team(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert read_process_group() == ProcessGroup(world_size=1, rank=0)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(InputError, match="not on torch"):
        read_process_group()
