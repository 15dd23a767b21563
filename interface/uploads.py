"""The one place that decides which files a request may have read, and that reads them.

Whatever a request names — an event of the page, an endpoint, a tool of MCP — becomes an `Upload`
here or is refused here, and what decodes pictures takes nothing but an `Upload`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from classifier.data.images import MAX_BYTES
from classifier.errors import InputError

FOLDER = "GRADIO_TEMP_DIR"  # the variable that names the upload folder, also for Gradio
MAX_REQUEST_BYTES = MAX_BYTES + 2**20  # of an upload: a picture and the form around it
MAX_FOLDER_BYTES = 500 * 2**20
MIN_CHARGE = 64 * 2**10  # bytes that the smallest upload counts as: files and folders are limited
# A visitor's question follows the upload within seconds: what is older may give way to new uploads.
SECONDS_IN_USE = 120
SECONDS_BETWEEN_LOOKS = 2
FULL = "the server's space for uploads is full: try again in a few minutes"
# Photographs that come with Gradio: no network, and none of the data set. Requests call them
# "examples/lion.jpg", which says nothing of where they lie.
EXAMPLES = ("lion.jpg", "bus.png", "cheetah1.jpg", "tower.jpg")
EXAMPLES_ROUTE = "examples"
# A device or a pipe would be opened without waiting, a link is not followed, and programs that are
# started meanwhile do not inherit the file.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class RefusedFileError(InputError):
    """A file that a request names is not read.

    The reason is not told: whoever asks for `/etc/passwd` does not learn whether it exists.
    """

    def __init__(self) -> None:
        super().__init__("only a picture that was uploaded here is read: upload it")


class FolderFullError(InputError):
    """The upload folder has no more space, and all that lies in it is still in use."""

    def __init__(self) -> None:
        super().__init__(FULL)


class AddressError(InputError):
    """A request names a picture by an address of another server."""

    def __init__(self) -> None:
        super().__init__("addresses are not fetched: upload the picture itself")


@dataclass(frozen=True)
class Upload:
    """The content of a file that a request may have read; made by `read` only.

    Attributes:
        content: at most one byte more than the largest picture that is decoded.
    """

    content: bytes


@dataclass
class _Space:
    """How much of the upload folder is in use.

    Attributes:
        used: bytes: what was found at the last look, and all that came since.
        looked: when that was.
    """

    used: int = 0
    looked: float = -SECONDS_BETWEEN_LOOKS
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_known(self) -> bool:
        """Tells whether the folder was looked at just now."""
        return time.monotonic() - self.looked < SECONDS_BETWEEN_LOOKS

    def take(self, size: int) -> bool:
        """Counts so many bytes more; False if they do not fit, even without the oldest uploads."""
        with self.lock:
            if not self.is_known():
                self.used, self.looked = _make_room(size), time.monotonic()
            fits = self.used + size <= MAX_FOLDER_BYTES
            self.used += size if fits else 0
            return fits


_space = _Space()


async def take_space(size: int) -> bool:
    """Counts bytes that are about to be written to the upload folder.

    Returns:
        Whether there is room for them; the oldest uploads are deleted for it.
    """
    return _space.take(size) if _space.is_known() else await asyncio.to_thread(_space.take, size)


def _make_room(size: int) -> int:
    """Deletes the oldest uploads that are not in use, where so many bytes do not fit beside them.

    Returns:
        How many bytes the folder holds now.
    """
    found = sorted(_files(Path(os.environ[FOLDER])))
    used = sum(charge for _, charge, _ in found)
    for changed, charge, path in found:
        if used + size <= MAX_FOLDER_BYTES or time.time() - changed < SECONDS_IN_USE:
            break
        path.unlink(missing_ok=True)
        used -= charge
    return used


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Yields a folder's files: when each was changed, as how many bytes it counts, its path."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            with contextlib.suppress(FileNotFoundError):  # it is deleted at this moment
                state = path.lstat()
                yield state.st_ctime, max(state.st_size, MIN_CHARGE), path


def read(value: Any) -> Upload:
    """Reads the file that a request names.

    Args:
        value: what a request holds in the place of a picture: Gradio's description of a file, of
            which only `path` counts.

    Raises:
        AddressError: it is an address.
        RefusedFileError: it is anything else than a regular file of the upload folder, not reached
            through a link, or an example.
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
    except (
        KeyError,
        OSError,
        ValueError,
    ):  # not there, a link, no file name at all: one answer for all
        raise RefusedFileError from None
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
        os.close(descriptor)
        raise RefusedFileError
    with os.fdopen(descriptor, "rb") as file:
        return Upload(file.read(MAX_BYTES + 1))


def from_data_url(text: str) -> dict[str, Any]:
    """Keeps the picture of a data URL as an upload, and returns how a request names it.

    Raises:
        RefusedFileError: it is not in base64.
        FolderFullError: there is no space for it.
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
    path = Path(mkdtemp(dir=os.environ[FOLDER])) / "picture"
    path.write_bytes(content[: MAX_BYTES + 1])
    return {"path": str(path)}


@cache
def examples() -> dict[str, Path]:
    """Returns where the example photographs lie, by the names that requests may call them."""
    import gradio as gr  # not for the processes that decode: they only need to know `Upload`

    paths = [Path(gr.get_image(name)) for name in EXAMPLES]
    return {str(path): path for path in paths} | {
        f"{EXAMPLES_ROUTE}/{path.name}": path for path in paths
    }


def _open(path: str) -> int:
    """Opens a file of the upload folder, step by step, so that no step can lead out of it.

    Nothing is opened by its whole path: between a check and the opening a folder could be exchanged
    for a link, and the mere opening of some devices does something.
    """
    folder = os.environ[FOLDER]
    roots = (Path(folder).absolute(), Path(folder).resolve())  # Gradio names uploads by either
    root = next((root for root in roots if Path(path).is_relative_to(root)), None)
    if root is None or path != str(Path(path)):
        raise ValueError("it lies elsewhere, or is written as nobody here writes it")
    *folders, name = Path(path).relative_to(root).parts
    if ".." in (*folders, name):
        raise ValueError("it leads out again")
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folders:
            inner = os.open(part, _FLAGS | os.O_DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = inner
        return os.open(name, _FLAGS, dir_fd=directory)
    finally:
        os.close(directory)
