"""Access control for files: the only place that reads the files that requests name.

Every file in a request of the page, the API or MCP becomes an `Upload` or is refused here; the
decoder only takes an `Upload`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from classifier.data.images import MAX_BYTES
from classifier.errors import InputError
from classifier.files import DISK_FULL

FOLDER = "GRADIO_TEMP_DIR"  # the variable that names the upload folder, also for Gradio
MAX_REQUEST_BYTES = MAX_BYTES + 2**20  # of an upload: a picture and the form around it
MAX_FOLDER_BYTES = 500 * 2**20
MIN_CHARGE = 64 * 2**10  # bytes that small uploads count as, which limits the number of files
SECONDS_IN_USE = 120  # older uploads may be deleted for new ones
SCAN_SECONDS = 2  # between two scans of the folder
FULL = "the server's space for uploads is full: try again in a few minutes"
# Photographs that are part of Gradio, and not of the data set. Requests name them
# "examples/lion.jpg", which does not disclose their path.
EXAMPLES = ("lion.jpg", "bus.png", "cheetah1.jpg", "tower.jpg")
EXAMPLES_ROUTE = "examples"
# Devices and pipes do not block, links are not followed, and child processes do not inherit the
# file.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class RefusedFileError(InputError):
    """A file that a request names is not read.

    The message has no reason, so that it does not disclose whether a file exists.
    """

    def __init__(self) -> None:
        super().__init__("only a picture that was uploaded here is read: upload it")


class FolderFullError(InputError):
    """The upload folder is full, and all its files are in use."""

    def __init__(self) -> None:
        super().__init__(FULL)


class AddressError(InputError):
    """A request names a picture by a URL."""

    def __init__(self) -> None:
        super().__init__("addresses are not fetched: upload the picture itself")


@dataclass(frozen=True)
class Upload:
    """The content of a file that a request may use, at most `MAX_BYTES` + 1; created by `read`."""

    content: bytes


@dataclass
class _Space:
    """The space in the upload folder.

    Attributes:
        used: bytes: those of the last scan, and all uploads since.
        scanned: the time of the last scan.
    """

    used: int = 0
    scanned: float = -SCAN_SECONDS
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_known(self) -> bool:
        """Returns whether the last scan is recent."""
        return time.monotonic() - self.scanned < SCAN_SECONDS

    def take(self, size: int) -> bool:
        """Reserves bytes; returns False if there is no space, even without the oldest uploads."""
        with self.lock:
            if not self.is_known():
                self.used, self.scanned = _make_room(size), time.monotonic()
            fits = self.used + size <= MAX_FOLDER_BYTES
            self.used += size if fits else 0
            return fits


_space = _Space()


async def take_space(size: int) -> bool:
    """Reserves bytes in the upload folder, without the oldest uploads; returns whether they fit."""
    return _space.take(size) if _space.is_known() else await asyncio.to_thread(_space.take, size)


def _make_room(size: int) -> int:
    """Deletes the oldest unused uploads until `size` bytes fit; returns the used bytes."""
    found = sorted(_files(Path(os.environ[FOLDER])))
    used = sum(charge for _, charge, _ in found)
    for changed, charge, path in found:
        if used + size <= MAX_FOLDER_BYTES or time.time() - changed < SECONDS_IN_USE:
            break
        path.unlink(missing_ok=True)
        used -= charge
    return used


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Yields change time, charged bytes and path of each file in a folder."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            with contextlib.suppress(FileNotFoundError):  # it is deleted at this moment
                state = path.lstat()
                yield state.st_ctime, max(state.st_size, MIN_CHARGE), path


def read(value: Any) -> Upload:
    """Reads the file that a request names by `path` in Gradio's description.

    Raises:
        AddressError: it is a URL.
        RefusedFileError: it is neither an example nor a regular file in the upload folder that is
            reached without links.
    """
    path = value.get("path") if isinstance(value, dict) else None
    named = value if path is None else path
    if isinstance(named, dict):
        named = named.get("url")
    if isinstance(named, str) and named.strip().lower().startswith(("http:", "https:")):
        raise AddressError
    if not isinstance(path, str):
        raise RefusedFileError
    if path in (known := examples()):
        return Upload(known[path].read_bytes())
    try:
        descriptor = _open(path)
    except (KeyError, OSError, ValueError):  # missing, a link, or not a valid path
        raise RefusedFileError from None
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
        os.close(descriptor)
        raise RefusedFileError
    with os.fdopen(descriptor, "rb") as file:
        return Upload(file.read(MAX_BYTES + 1))


def from_data_url(text: str) -> dict[str, Any]:
    """Writes the picture of a data URL to the upload folder; returns its description.

    Raises:
        RefusedFileError: it is not base64.
        FolderFullError: there is no space for it, in the folder or on the disk.
    """
    head, comma, data = text.partition(",")
    try:
        if not comma or not head.lower().endswith(";base64"):
            raise ValueError(head)
        content = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RefusedFileError from None
    if not _space.take(max(len(content), MIN_CHARGE)):
        raise FolderFullError
    path = Path(os.environ[FOLDER], secrets.token_hex(16), "picture")
    try:
        path.parent.mkdir(mode=0o700)
        path.write_bytes(content[: MAX_BYTES + 1])
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno in DISK_FULL:
            raise FolderFullError from None
        raise
    return {"path": str(path)}


@cache
def examples() -> dict[str, Path]:
    """Returns the paths of the example photographs by their names in requests."""
    import gradio as gr  # slow, and not needed by the processes that decode

    paths = [Path(gr.get_image(name)) for name in EXAMPLES]
    return {str(path): path for path in paths} | {
        f"{EXAMPLES_ROUTE}/{path.name}": path for path in paths
    }


def _open(path: str) -> int:
    """Opens a file of the upload folder component by component, without following links.

    The whole path cannot be opened at once: between a check and the opening, a folder could be
    replaced by a link, and opening some devices has side effects.
    """
    folder = os.environ[FOLDER]
    roots = (Path(folder).absolute(), Path(folder).resolve())  # Gradio names uploads by either
    root = next((root for root in roots if Path(path).is_relative_to(root)), None)
    if root is None or path != str(Path(path)):
        raise ValueError("not a normalised path in the upload folder")
    *folders, name = Path(path).relative_to(root).parts
    if ".." in (*folders, name):
        raise ValueError("a path with ..")
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folders:
            inner = os.open(part, _FLAGS | os.O_DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = inner
        return os.open(name, _FLAGS, dir_fd=directory)
    finally:
        os.close(directory)
