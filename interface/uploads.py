"""Access control for files: the only place that reads the files that requests name.

Every file in a request of the page, the API or MCP becomes an `Upload` or is refused here; the
decoder only takes an `Upload`.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
import stat
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from classifier.data.images import MAX_BYTES
from classifier.errors import InputError
from classifier.files import write_atomically

FOLDER = "GRADIO_TEMP_DIR"  # the variable that names the upload folder, also for Gradio
MAX_REQUEST_BYTES = MAX_BYTES + 2**20  # of an upload: a picture and the form around it
# Seconds between two deletions of old uploads, and their age: less than the promised hour.
CLEANING, KEPT = 300, 3000
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


class AddressError(InputError):
    """A request names a picture by a URL."""

    def __init__(self) -> None:
        super().__init__("addresses are not fetched: upload the picture itself")


@dataclass(frozen=True)
class Upload:
    """The content of a file that a request may use, at most `MAX_BYTES` + 1; created by `read`."""

    content: bytes


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
    except (KeyError, OSError, RuntimeError, ValueError):  # missing, a link, not a valid path
        raise RefusedFileError from None
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
        os.close(descriptor)
        raise RefusedFileError
    with os.fdopen(descriptor, "rb") as file:
        return Upload(file.read(MAX_BYTES + 1))


def delete_old(ended: threading.Event) -> None:
    """Deletes old uploads until the app has ended; Gradio forgets those of requests that fail."""
    while not ended.wait(CLEANING):
        for path in Path(os.environ[FOLDER]).rglob("*"):
            with contextlib.suppress(OSError):  # a folder that is not empty
                if time.time() - path.stat().st_mtime > KEPT:
                    path.rmdir() if path.is_dir() else path.unlink()


def from_data_url(text: str) -> dict[str, Any]:
    """Writes the picture of a data URL to the upload folder; returns its description.

    Raises:
        RefusedFileError: it is not base64.
        OSError: it cannot be written.
    """
    head, comma, data = text.partition(",")
    try:
        if not comma or not head.lower().endswith(";base64"):
            raise ValueError(head)
        content = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RefusedFileError from None
    path = Path(os.environ[FOLDER], secrets.token_hex(16), "picture")
    path.parent.mkdir(mode=0o700)
    write_atomically(path, lambda part: part.write_bytes(content[: MAX_BYTES + 1]))
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
    """Opens a file of the upload folder, if the path to it is normalised and has no links."""
    folder = Path(os.environ[FOLDER])
    resolved = Path(path).resolve(strict=True)
    inside = resolved.relative_to(folder.resolve())
    if path not in (str(folder.absolute() / inside), str(resolved)):  # Gradio names it by either
        raise ValueError("a link, or a path that is not normalised")
    return os.open(resolved, _FLAGS)
