"""A cache of decoded splits on disk: one file for each source, split, column and size.

A file holds the images and the labels in NumPy's format, then the rest as JSON. It is written
atomically and mapped into memory when it is read; if it is damaged, the split is built again.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from classifier.data.labelled_images import LabelledImages
from classifier.files import write_atomically

FORMAT = 7  # part of every key: raise it when the preprocessing changes what is stored
MAX_SPLITS = 24  # beyond this many, the least recently used splits are evicted
ORPHAN_SECONDS = 3600  # younger temporary files may belong to a running process
STORED = [field.name for field in fields(LabelledImages) if field.name not in ("images", "labels")]
# What a missing, damaged or unreadable cache raises (no home folder: RuntimeError). None of these
# stops the program: the data can be read again from its source.
CACHE_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError)


def cache_folder() -> Path:
    """Returns the folder of the cache: `CIFAR100_MLP_CACHE`, else one in the user's cache."""
    if named := os.environ.get("CIFAR100_MLP_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cifar100-mlp"


def find(location: str, state: str | None = None) -> LabelledImages | None:
    """Returns the stored split of a location, memory-mapped and read-only, or None.

    A `location` is the key of an entry: the source, the split, the column and the size. It has the
    `state` with which `load_or_build` stored it; None accepts any (of an unreachable source).
    """
    with contextlib.suppress(*CACHE_ERRORS):
        path = _file(location)
        # `open_memmap` reads only plain arrays; `np.load` also opens zips and pickles.
        images = open_memmap(path, mode="r")
        with path.open("rb") as file:
            file.seek(images.offset + images.nbytes)
            labels = np.lib.format.read_array(file, allow_pickle=False)
            index = json.loads(file.read())
        if index["location"] != location or state not in (None, index["state"]):
            return None
        labels.flags.writeable = False
        for name, value in index.items():
            index[name] = tuple(value) if isinstance(value, list) else value
        os.utime(path)  # marks the entry as used
        stored = {name: index[name] for name in STORED}
        return LabelledImages(images.view(np.ndarray), labels, **stored)
    return None


def load_or_build(
    location: str, state: Callable[[], str], build: Callable[[], LabelledImages]
) -> LabelledImages:
    """Returns the stored split if its source has not changed, else builds and stores it.

    If the cache cannot be written (no space, no permission), the split is returned without being
    stored.

    Args:
        location: as for `find`.
        state: returns a string that changes whenever the source changes; must be fast.
        build: reads and decodes the data.
    """
    before = state()
    if split := find(location, before):
        return split
    split = build()
    if state() == before:  # else the data changed while it was read: do not store it
        with contextlib.suppress(*CACHE_ERRORS):
            _store(location, before, split)
    return split


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes an array without pickled objects to a file of exactly this name."""
    with path.open("wb") as file:  # given a name, `np.save` would add its own suffix
        np.save(file, array, allow_pickle=False)


def _file(location: str) -> Path:
    key = hashlib.sha256(f"{FORMAT}\n{location}".encode()).hexdigest()[:32]
    return cache_folder() / f"{key}.split"


def _store(location: str, state: str, split: LabelledImages) -> None:
    index = {name: getattr(split, name) for name in STORED}
    index |= {"location": location, "state": state}

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, split.images, allow_pickle=False)
            np.save(file, split.labels, allow_pickle=False)
            file.write(json.dumps(index).encode())

    cache_folder().mkdir(parents=True, exist_ok=True)
    write_atomically(_file(location), write)
    keep_newest(cache_folder().glob("*.split"), MAX_SPLITS)
    for temporary in cache_folder().glob(".*.tmp"):  # of processes that have ended
        if time.time() - temporary.stat().st_mtime > ORPHAN_SECONDS:
            temporary.unlink(missing_ok=True)


def keep_newest(files: Iterable[Path], count: int) -> None:
    """Removes all but this many of the files: those that were used longest ago."""
    for file in sorted(files, key=lambda file: -file.stat().st_mtime)[count:]:
        file.unlink(missing_ok=True)
