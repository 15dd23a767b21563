"""Disks that are full or cannot be written to: one true line, and the last whole state stays."""

import contextlib
import errno
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from classifier import command_line
from conftest import TINY_SETTINGS, Run


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


@pytest.mark.slow
@pytest.mark.parametrize("size", ["64k", "1m"])
def test_a_full_disk_ends_a_training_with_one_line_that_says_how_to_resume(
    size, tmp_path, small_dataset, run_command: Callable[..., Run]
):
    """At the best weights or the model folder."""
    with mounted(tmp_path / "small", f"size={size}") as disk:
        result = run_command(
            *("train.py", "--dataset", small_dataset, "--output", disk / "run", *TINY_SETTINGS)
        )
        assert result.returncode == 1, result.stderr
        (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
        assert "free some space" in line
        assert f"--output {disk / 'run'} --resume" in line
        assert not (disk / "run" / "model").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_anywhere_is_one_line(number, capsys):
    def main(arguments: list[str]) -> None:
        raise OSError(number, "No space left on device", "/data/file")

    assert command_line.run(main, []) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the disk of /data/file is full: free some space")
