"""Finds the files to classify, in arguments, in folders and on standard input."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from classifier.errors import InputError

STANDARD_INPUT = "-"
CHUNK = 2**16  # bytes of standard input that are read at a time
MAX_PATH_BYTES = 2**16  # Linux allows 4,096: longer input is not a list of paths

Identity = tuple[int, int]  # device and inode, which identify a file or folder


@dataclass(frozen=True)
class Found:
    """A file to classify.

    Attributes:
        path: the argument, or a path that starts with the folder in the argument; bytes that
            are not UTF-8 are surrogate escapes.
        error: why it cannot be read, if that is known.
    """

    path: str
    error: str | None = None


def find_files(names: Iterable[str], *, exclude: Iterable[Identity] = ()) -> Iterator[Found]:
    """Yields files and the files in folders, whatever their suffix, as they are found.

    Folders are searched recursively, sorted by name; links are followed, except to a parent folder.
    Unreadable files are yielded with their error. Only the names in the current folder and its
    parents are in memory.

    Args:
        names: files and folders; `-` reads paths from standard input, one per line, or separated
            by NUL characters as from `find -print0`.
        exclude: files to skip in folders, such as the command's output.

    Raises:
        InputError: standard input is not a list of paths.
    """
    excluded = frozenset(exclude)
    for name in names:
        for path in read_names(0) if name == STANDARD_INPUT else (name,):
            yield from _search(path, excluded)


def read_names(descriptor: int) -> Iterator[str]:
    """Yields the paths in a file descriptor as soon as they are read.

    They are separated by NUL characters if the first chunk contains one, else by line ends.

    Raises:
        InputError: a path is too long.
    """
    separator, rest = b"", b""
    while chunk := os.read(descriptor, CHUNK):
        rest += chunk
        separator = separator or next((mark for mark in (b"\0", b"\n") if mark in rest), b"")
        if separator:
            *names, rest = rest.split(separator)
            yield from (os.fsdecode(name) for name in names if name)
        if len(rest) > MAX_PATH_BYTES:
            raise InputError("standard input is not a list of paths: give one path a line")
    if rest:
        yield os.fsdecode(rest)


def identity(status: os.stat_result) -> Identity:
    """Returns the identity of a file on this machine."""
    return status.st_dev, status.st_ino


def _search(start: str, excluded: frozenset[Identity]) -> Iterator[Found]:
    # A list instead of recursion: folders may be nested deeper than Python's recursion limit.
    levels: list[tuple[Iterator[str], Identity | None]] = [(iter((start,)), None)]
    while levels:
        path = next(levels[-1][0], None)
        if path is None:
            levels.pop()
            continue
        try:
            status = Path(path).stat()
            if not stat.S_ISDIR(status.st_mode):
                if len(levels) == 1 or identity(status) not in excluded:
                    yield Found(path)
            elif identity(status) in (level[1] for level in levels):
                yield Found(path, "the folder is a link to one of its parents: skipped")
            else:
                levels.append((_entries(path), identity(status)))
        except (OSError, ValueError) as error:  # a ValueError for a NUL character
            yield Found(path, f"cannot be read: {getattr(error, 'strerror', None) or error}")


def _entries(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    start = folder if folder.endswith("/") else f"{folder}/"
    return (start + name for name in names)
