"""Disks that are full or cannot be written to: one true line, and the last whole state stays."""

import contextlib
import errno
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from classifier import command_line
from classifier.errors import DiskFullError
from classifier.files import write_atomically
from conftest import TINY_SETTINGS, Run
from test_train_command import assert_one_line

Usage = namedtuple("Usage", "total used free")


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own in this folder; skips where we may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("size", ["8k", "2m", "6m"])
def test_a_disk_that_is_too_small_is_told_before_the_first_epoch(
    size, tmp_path, small_dataset, run_command: Callable[..., Run]
):
    with mounted(tmp_path / "small", f"size={size}") as disk:
        result = run_command(
            *("train.py", "--dataset", small_dataset, "--output", disk / "run", *TINY_SETTINGS)
        )
        assert_one_line(result, 1, str(disk / "run"), "free some space")
        assert "Epoch" not in result.stdout


def test_a_disk_that_fills_up_meanwhile_ends_the_training_after_its_last_whole_state(
    tmp_path, monkeypatch
):
    from test_training import TINY, Images, train

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    data = Images(images, np.eye(5, dtype="float32")[random.integers(0, 5, 32)])

    def usage(folder: Path) -> Usage:
        full = (tmp_path / "state.npz").exists()
        return Usage(1 << 40, 0, 1000 if full else 1 << 39)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(DiskFullError, match=r"has 0\.0 MB free, and about"):
        train(TINY, (data, data), tmp_path)
    with np.load(tmp_path / "state.npz") as state:
        assert '"epoch": 1' in str(state["memory"])
        assert '"epoch": 2' not in str(state["memory"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_anywhere_is_one_line(number, capsys):
    def main(arguments: list[str]) -> None:
        raise OSError(number, "No space left on device", "/data/file")

    assert command_line.run(main, []) == 1
    expected = "error: the disk of /data/file is full: free some space and run again\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("{{node x}} OOM when allocating tensor with shape[3072,9] [Op:Y]"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes."),
    ],
)
def test_too_little_memory_is_told_in_words(error, capsys):
    def main(arguments: list[str]) -> None:
        raise error

    assert command_line.run(main, []) == 1
    expected = "error: there is not enough memory: lower batch_size, or choose a smaller network."
    assert capsys.readouterr().err == f"{expected} Run again with --debug for details.\n"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_file_that_cannot_be_written_is_named_by_its_own_name(number, tmp_path, capsys):
    def write(path: Path) -> None:
        raise OSError(number, "it is not allowed", str(path))

    def main(arguments: list[str]) -> None:
        write_atomically(tmp_path / "model.onnx", write)

    assert command_line.run(main, []) == 1
    expected = f"error: cannot use {tmp_path / 'model.onnx'} (it is not allowed). Run again with "
    assert capsys.readouterr().err == expected + "--debug for details.\n"


def test_an_output_that_cannot_be_written_to_is_named(tmp_path, run_command):
    with mounted(tmp_path / "fixed", "size=1m,ro") as disk:
        for output in (disk, disk / "run"):
            result = run_command("train.py", "--output", output)
            assert_one_line(result, 2, f"cannot write to {output}", "choose another --output")


@pytest.mark.slow
def test_training_and_evaluation_need_no_cache_that_can_be_written_to(
    tmp_path, small_dataset, run_command: Callable[..., Run]
):
    dataset = shutil.copytree(small_dataset, tmp_path / "uncached")
    with mounted(tmp_path / "fixed", "size=1m,ro") as disk:
        names = ("HF_HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE", "CIFAR100_MLP_CACHE")
        caches = {name: str(disk) for name in names}
        trained = run_command(
            *("train.py", "--dataset", dataset, "--output", tmp_path / "run", *TINY_SETTINGS),
            **caches,
        )
        evaluated = run_command(
            "-m", "evaluation", tmp_path / "run", "--dataset", dataset, **caches
        )
    for result in (trained, evaluated):
        assert result.returncode == 0, result.stderr
