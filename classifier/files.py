"""Files and folders written under a temporary name and renamed: whole, or not there."""

import errno
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from classifier.errors import DiskFullError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
    except OSError as error:
        if error.errno is not None and not error.filename:
            error.filename = str(path)  # of a full disk the system does not say which
        raise
    finally:
        _remove(temporary)


def require_space(folder: Path, size: int) -> None:
    """Raises `DiskFullError` unless the disk of a folder has so many bytes free.

    To be called before libraries write that do not survive a full disk: HDF5 and TensorFlow's
    event files end the process by a segmentation fault.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DiskFullError(
            f"the disk of {folder} has {_megabytes(free)} free, and about {_megabytes(size)} are "
            "needed: free some space"
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 10e6 else f"{size / 1e6:.1f} MB"


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
