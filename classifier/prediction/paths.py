"""Finds the files to classify: those that are named, those in folders, those that are listed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from classifier.errors import InputError

STANDARD_INPUT = "-"
CHUNK = 2**16  # bytes of a list of paths that are read at a time
LONGEST_PATH = 2**16  # bytes; systems allow 4,096 at most: what is longer is no list of paths

Identity = tuple[int, int]  # device and inode: one for each file or folder, whatever its name


@dataclass(frozen=True)
class Found:
    """Something to classify.

    Attributes:
        path: as it was named, or the named folder's path and the way from there; bytes that are
            no UTF-8 are surrogates, as everywhere in Python.
        error: why it cannot be read, if that is known already.
    """

    path: str
    error: str | None = None


def find_files(names: Iterable[str], *, leave_out: Iterable[Identity] = ()) -> Iterator[Found]:
    """Gives all files of the named files and folders, whatever their suffix, as they are found.

    Folders are searched to any depth, each in the order of its names; links are followed, but not
    back into a folder that is being searched. What cannot be read is given with its error. Of a
    folder no more than its own names and those of the folders above it are in memory.

    Args:
        names: files and folders; `-` stands for paths on standard input, a line each, or separated
            by NUL characters as `find -print0` does.
        leave_out: files that are not given when a folder holds them, such as the command's output.

    Raises:
        InputError: standard input holds no list of paths.
    """
    left_out = frozenset(leave_out)
    for name in names:
        for path in read_names(0) if name == STANDARD_INPUT else (name,):
            yield from _search(path, left_out)


def read_names(descriptor: int) -> Iterator[str]:
    """Gives the paths that a file descriptor lists, each as soon as it has come.

    They are separated by NUL characters if there is one in what is read first, else by line ends.

    Raises:
        InputError: something is longer than any path.
    """
    separator, rest = b"", b""
    while chunk := os.read(descriptor, CHUNK):
        rest += chunk
        separator = separator or next((mark for mark in (b"\0", b"\n") if mark in rest), b"")
        if separator:
            *names, rest = rest.split(separator)
            yield from (os.fsdecode(name) for name in names if name)
        if len(rest) > LONGEST_PATH:
            raise InputError("standard input is no list of paths: give one path a line")
    if rest:
        yield os.fsdecode(rest)


def identity(status: os.stat_result) -> Identity:
    """Returns what tells a file from all others on this machine."""
    return status.st_dev, status.st_ino


def _search(start: str, left_out: frozenset[Identity]) -> Iterator[Found]:
    # A list in the place of recursion: folders may be nested deeper than Python's stack.
    levels: list[tuple[Iterator[str], Identity | None]] = [(iter((start,)), None)]
    while levels:
        path = next(levels[-1][0], None)
        if path is None:
            levels.pop()
            continue
        try:
            status = Path(path).stat()
            if not stat.S_ISDIR(status.st_mode):
                if len(levels) == 1 or identity(status) not in left_out:
                    yield Found(path)
            elif identity(status) in (level[1] for level in levels):
                yield Found(path, "the folder leads back to one that it lies in: left out")
            else:
                levels.append((_entries(path), identity(status)))
        except (OSError, ValueError) as error:  # a ValueError for a NUL character
            yield Found(path, f"cannot be read: {getattr(error, 'strerror', None) or error}")


def _entries(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    start = folder if folder.endswith("/") else f"{folder}/"
    return (start + name for name in names)
