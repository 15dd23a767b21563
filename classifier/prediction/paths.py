"""Finds the files to classify, in arguments, in folders and on standard input."""

from __future__ import annotations

import codecs
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from classifier.data.data_files import EMPTY, READ_ELSEWHERE, identity, walk

STANDARD_INPUT = "-"

Identity = tuple[int, int]  # of a file, from `data_files.identity`


@dataclass(frozen=True)
class InputFile:
    """A file to classify.

    Attributes:
        path: the argument, or a path that starts with the folder in the argument; bytes that
            are not UTF-8 are surrogate escapes.
        error: why it cannot be read, if that is known.
    """

    path: str
    error: str | None = None


def find_files(names: Iterable[str], *, exclude: Iterable[Identity] = ()) -> Iterator[InputFile]:
    """Yields files and the files in folders, whatever their suffix, as they are found.

    Folders are searched as in data sets (`data_files.walk`). Files that cannot be found, and
    folders that cannot be read, are yielded with their error.

    Args:
        names: files and folders; `-` reads paths from standard input, as `read_names`.
        exclude: files to skip, such as the command's output.
    """
    excluded = frozenset(exclude)
    for name in names:
        if name != STANDARD_INPUT:
            yield from _search(name, excluded)
            continue
        for path in read_names(sys.stdin.buffer.read()):
            if os.path.realpath(path) == os.path.realpath("/"):  # of a list that is misread
                yield InputFile(path, "is the whole disk: name it as an argument")
            else:
                yield from _search(path, excluded)


def read_names(content: bytes) -> Iterator[str]:
    """Yields the paths in a list.

    They are separated by NUL characters, as from `find -print0`, if there are any, else by line
    ends, also those of Windows. The text is UTF-8 or, as PowerShell writes it, UTF-16.
    """
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if wide else "utf-8-sig"
    text = content.decode(encoding, "surrogateescape" if encoding == "utf-8-sig" else "replace")
    names = text.split("\0" if "\0" in text else "\n")
    yield from filter(None, (name.removesuffix("\r") for name in names))


def _search(path: str, excluded: frozenset[Identity]) -> Iterator[InputFile]:
    """Yields a file, or those in a folder; then what could not be searched."""
    failed: list[OSError] = []
    start = path if path.endswith("/") else f"{path}/"
    try:
        status = Path(path).stat()
        if not stat.S_ISDIR(status.st_mode):
            if identity(status) not in excluded:
                yield InputFile(path)
            return
    except (OSError, ValueError) as error:  # a ValueError for a NUL character
        yield InputFile(path, f"cannot be read: {getattr(error, 'strerror', None) or error}")
        return
    for file in walk(Path(path), on_error=failed.append):
        found = start + "/".join(file.parts)
        if file.kind in (READ_ELSEWHERE, EMPTY):
            continue
        if excluded and file.open and identity(Path(found).stat()) in excluded:
            continue
        yield InputFile(found)
    yield from (InputFile(str(e.filename), f"cannot be read: {e.strerror}") for e in failed)
