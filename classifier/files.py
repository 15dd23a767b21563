"""Files and folders written under a temporary name and renamed: whole, or not there."""

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file or a folder so that under its name there is always a whole one, or none.

    Args:
        path: where the file or folder is to be; what is there is replaced.
        write: writes the content to the path that it is given: a temporary sibling, which it makes.

    Raises:
        Whatever `write` raises; nothing is left behind then.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        write(temporary)
        _flush(temporary)
        _replace(temporary, path)
    finally:
        _remove(temporary)


def _replace(temporary: Path, path: Path) -> None:
    if not (temporary.is_dir() and path.is_dir()):
        temporary.replace(path)
        return
    # A folder cannot be renamed onto one that holds something: step the old one aside first.
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
    path.rename(aside)
    try:
        temporary.rename(path)
    except BaseException:
        aside.rename(path)
        raise
    _remove(aside)


def _flush(path: Path) -> None:
    """Brings what was written to the disk, so that a power cut cannot leave an empty new file."""
    for file in [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
