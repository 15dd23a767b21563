"""Data sets through the `datasets` library: folders of this machine and repositories of the Hub."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.errors import ClassifierError, InputError
from classifier.split import Split

if TYPE_CHECKING:
    from datasets import DatasetDict


def load_from_hub(dataset: str, split: str, *, label_column: str | None = None) -> Split:
    """Reads a split of a repository on the Hub, `user/name` or `user/name@revision`."""
    from classifier.image_table import read_split

    name, _, revision = dataset.partition("@")
    tables = _load(name, dataset, revision=revision or "main")
    return read_split(tables, split, dataset=name, revision=revision, label_column=label_column)


def state(folder: Path) -> str:
    """Returns a hash of the names, sizes and times of a folder's files, read or not."""
    digest = hashlib.sha256()
    for path, status in sorted(_files(folder)):
        digest.update(f"{path}\0{status}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def read(folder: Path, split: str, *, label_column: str | None = None) -> Split:
    """Reads a split of a folder that `datasets.load_dataset` reads, and decodes it."""
    from classifier.image_table import read_split

    folder = folder.resolve()
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give a folder with a data set, or a Hub id")
    tables = _load(str(folder), folder.name)
    return read_split(tables, split, dataset=folder.name, label_column=label_column)


def _files(folder: Path, seen: frozenset[int] = frozenset()) -> Iterator[tuple[str, str]]:
    """Gives each file's path and what changes when the file does; hidden ones are not data."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            status = entry.stat()
            if entry.is_file():
                yield entry.path, f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
            elif entry.is_dir() and status.st_ino not in seen:  # a link may lead back up
                yield from _files(Path(entry.path), seen | {status.st_ino})


def _load(path: str, name: str, **options: str) -> DatasetDict:
    """Calls `datasets.load_dataset`, quietly, and gives its errors as one line."""
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(path, **options)
    except Exception as error:
        raise ClassifierError(f"{name} cannot be read as a data set: {error}") from error
