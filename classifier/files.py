"""Atomic writing of files and folders: they are written to a temporary path and renamed."""

import errno
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from classifier.errors import InputError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file or a folder atomically: the path never has incomplete content.

    A folder that is replaced is renamed to `.NAME….old` for the moment before the new one comes.

    Args:
        path: the file or folder, which is replaced if it exists.
        write: creates the content at a path that it is given, a temporary one in the same folder.

    Raises:
        Exception: whatever `write` raises; the temporary path is removed.
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        write(temporary)
        _flush(temporary)
        _replace(temporary, path)
    finally:
        _remove(temporary)


def temporary_path(path: Path) -> Path:
    """Returns a new path beside a file or folder, where it is written before it is renamed."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def write_text(path: Path, text: str) -> None:
    """Writes a text in UTF-8 atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def is_writable(folder: Path) -> bool:
    """Whether a folder can be written to or created; nothing is created."""
    try:
        path = folder.expanduser().absolute()
        existing = next(place for place in (path, *path.parents) if place.exists())
    except (OSError, RuntimeError):  # no home folder
        return False
    return existing.is_dir() and os.access(existing, os.W_OK)


def require_writable(folder: Path) -> None:
    """Raises `InputError`, before a long computation, if its results could not be written.

    They name their folder in UTF-8, which a path can break on Linux.
    """
    if str(folder).encode(errors="replace").decode() != str(folder):
        raise InputError(f"the path {str(folder)!a} is not UTF-8: choose another --output")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: choose another --output")
    if not is_writable(folder):
        raise InputError(f"cannot write to {folder}: choose another --output")


def remove_temporary(folder: Path) -> None:
    """Removes what `write_atomically` left below a folder in processes that were killed.

    No other process may be writing there.
    """
    for path in [*folder.rglob(".*.tmp")]:
        _remove(path)


def _replace(temporary: Path, path: Path) -> None:
    if not (temporary.is_dir() and path.is_dir()):
        temporary.replace(path)
        return
    # A folder cannot be renamed to a folder that is not empty: rename the old one first.
    backup = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
    path.rename(backup)
    try:
        temporary.rename(path)
    except BaseException:
        backup.rename(path)
        raise
    _remove(backup)


def _flush(path: Path) -> None:
    """Flushes files to disk: without it, a power failure can leave empty files."""
    for file in [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
