"""A cache of decoded splits on disk.

A split is stored in two parts under the user's cache folder: its arrays, named by the fingerprint
of their content, and a small index file per source. Two sources with equal data share the arrays.
Files are written atomically and checked against their fingerprint when they are read: a damaged
entry is rebuilt.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.lib.format import open_memmap

from classifier.data.labelled_images import LabelledImages, label_images
from classifier.files import write_atomically, write_text

FORMAT = 6  # part of every key: raise it when the preprocessing changes what is stored
MAX_SPLITS = 24  # beyond this many, the least recently used splits are evicted
LOCK_SECONDS = 900  # how long another process may take to download and decode the same data
ORPHAN_SECONDS = 3600  # younger arrays without an index may belong to a running process
STORED = (
    *("classes", "superclasses", "superclass_of", "dataset", "revision"),
    *("files", "remarks", "splits"),
)
# What a missing, damaged or unreadable cache raises (no home folder: RuntimeError; a lock's timeout
# is an OSError). None of these stops the program: the data can be read again from its source.
CACHE_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError)


def cache_folder() -> Path:
    """Returns the folder of the cache: `CIFAR100_MLP_CACHE`, else one in the user's cache."""
    if named := os.environ.get("CIFAR100_MLP_CACHE"):
        return Path(named).expanduser()
    if user_cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(user_cache).expanduser() / "cifar100-mlp"
    return Path("~/.cache/cifar100-mlp").expanduser()


def find(location: str, state: str | None = None) -> LabelledImages | None:
    """Returns the stored split of a location, memory-mapped and read-only, or None.

    Args:
        location: the key of the entry: the source, the split, the column and the size.
        state: the state of the source, as `load_or_build` stored it; None accepts any state (for
            a source that cannot be reached).
    """
    with contextlib.suppress(*CACHE_ERRORS):
        index_file = _index_file(location)
        index = json.loads(index_file.read_text(encoding="utf-8"))
        if index["location"] != location or state not in (None, index["state"]):
            return None
        split = _read(index)
        os.utime(index_file)  # marks the entry as used
        return split
    return None


def load_or_build(
    location: str, state: Callable[[], str], build: Callable[[], LabelledImages]
) -> LabelledImages:
    """Returns the stored split if its source has not changed, else builds and stores it.

    If two processes need the same split at once, one builds it and the other waits. If the cache
    cannot be written (no space, no permission), the split is returned without being stored.

    Args:
        location: the key of the entry: the source, the split, the column and the size.
        state: returns a string that changes whenever the source changes; must be fast.
        build: reads and decodes the data.
    """
    before = state()
    if split := find(location, before):
        return split
    with _lock(location):
        if split := find(location, before):
            return split
        split = build()
        if state() == before:  # else the data changed while it was read: do not store it
            with contextlib.suppress(*CACHE_ERRORS):
                _store(location, before, split)
        return split


def _index_file(location: str) -> Path:
    key = hashlib.sha256(f"{FORMAT}\n{location}".encode()).hexdigest()[:32]
    return cache_folder() / "index" / f"{key}.json"


def _array_files(fingerprint: str) -> tuple[Path, Path]:
    arrays = cache_folder() / "arrays"
    return arrays / f"{fingerprint}.images.npy", arrays / f"{fingerprint}.labels.npy"


def _read(index: dict[str, Any]) -> LabelledImages:
    """Raises ValueError or OSError if the stored arrays are missing or damaged."""
    # `open_memmap` reads only plain arrays; `np.load` also opens zips and pickles.
    images, labels = (open_memmap(file, mode="r") for file in _array_files(index["fingerprint"]))
    split = label_images(images, labels, **index["split"])
    if split.fingerprint != index["fingerprint"] or len(split.files) not in (0, len(images)):
        raise ValueError("the stored split is damaged")
    return split


def _store(location: str, state: str, split: LabelledImages) -> None:
    images_file, labels_file = _array_files(split.fingerprint)
    images_file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(images_file, lambda path: save_array(path, split.images))
    write_atomically(labels_file, lambda path: save_array(path, split.labels))
    index = {
        "location": location,
        "state": state,
        "fingerprint": split.fingerprint,
        "split": {name: getattr(split, name) for name in STORED},
    }
    write_text(_index_file(location), json.dumps(index, indent=1))  # `_lock` has made its folder
    _evict_oldest()


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes an array without pickled objects to a file of exactly this name."""
    with path.open("wb") as file:  # given a name, `np.save` would add its own suffix
        np.save(file, array, allow_pickle=False)


@contextlib.contextmanager
def _lock(location: str) -> Iterator[None]:
    """Holds the entry's lock; continues without it after a timeout of `LOCK_SECONDS`."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(*CACHE_ERRORS):
            path = _index_file(location).with_suffix(".lock")
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(path, timeout=LOCK_SECONDS))
        yield


def _evict_oldest() -> None:
    """Removes the least recently used splits, unreferenced arrays and temporary files."""
    indices, arrays = cache_folder() / "index", cache_folder() / "arrays"
    used = sorted(indices.glob("*.json"), key=lambda file: -file.stat().st_mtime)
    retained = {_read_fingerprint(file) for file in used[:MAX_SPLITS]}
    for file in used[MAX_SPLITS:]:
        file.unlink(missing_ok=True)
    for file in (*arrays.iterdir(), *indices.glob(".*")):
        unused = file.name.partition(".")[0] not in retained
        if unused and time.time() - file.stat().st_mtime > ORPHAN_SECONDS:
            file.unlink(missing_ok=True)


def _read_fingerprint(index_file: Path) -> str | None:
    with contextlib.suppress(*CACHE_ERRORS):
        return str(json.loads(index_file.read_text(encoding="utf-8"))["fingerprint"])
    return None
