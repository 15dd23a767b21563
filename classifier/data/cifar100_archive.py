"""The original CIFAR-100 files: the archive from the University of Toronto, or its unpacked folder.

The files are Python 2 pickles. A pickle can call anything that its reader resolves, so only the
four globals that arrays and lists of numbers need are resolved. Archives are read member by member
and never unpacked: paths and links in them have no effect on the file system.
"""

import codecs
import io
import pickle
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import numpy as np
from PIL import Image

from classifier.data.columns import SUPERCLASS_COLUMN, choose_label_column, refuse_config
from classifier.data.images import to_model_input
from classifier.data.labelled_images import (
    LabelledImages,
    check_labels,
    group_classes,
    label_images,
)
from classifier.data.source import DataSource
from classifier.data.split import require_split
from classifier.errors import InputError
from classifier.settings import DEFAULT_IMAGE_SIZE

SPLITS = ("train", "test")
FILES = (*SPLITS, "meta")
COLUMNS = ("fine_label", SUPERCLASS_COLUMN)
CHANNELS, SIDE = 3, 32
CHUNK_BYTES = 2**20
ADVICE = "give the cifar-100-python.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html"


def recognises(path: Path) -> bool:
    """Returns whether a path is a file, or a folder with `meta`, `train` or `test` in it."""
    return path.is_file() or any((path / name).is_file() for name in FILES)


def read(
    path: Path, split: str, source: DataSource, *, size: int = DEFAULT_IMAGE_SIZE
) -> LabelledImages:
    """Reads a split of the archive or of the unpacked folder, as `loading.load_split`.

    Raises:
        InputError: a file is missing, truncated or has unexpected content; the split or the column
            does not exist; a label is out of range.
    """
    path = path.resolve()
    refuse_config(source, path.name)
    column = choose_label_column(COLUMNS, source.label_column)
    if column is None:
        raise InputError(
            f"{path.name} has no column named {source.label_column!r}: choose one of "
            f"{', '.join(COLUMNS)}"
        )
    split = require_split(split, SPLITS, path.name)
    try:
        files = _from_archive(path) if path.is_file() else _from_folder(path)
        meta, content = files["meta"], files[split]
        images = content["data"].reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
        names = {name: [_text(item) for item in meta[f"{name}_names"]] for name in COLUMNS}
        labels = {name: np.array(content[f"{name}s"], np.int64) for name in COLUMNS}
        for name, values in labels.items():
            if values.shape != (len(images),):
                raise ValueError(f"{name}s has no integer for each of {len(images)} images")
    except Exception as error:  # a damaged archive or a manipulated pickle can raise anything
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(
            f"{path.name} is not the complete CIFAR-100 with {split} and meta ({reason}): "
            f"{ADVICE}, or a folder or ZIP of images"
        ) from error
    for name, values in labels.items():
        check_labels(values, len(names[name]), where=f"column {name} in {split}")
    if size != SIDE:
        images = np.stack([to_model_input(Image.fromarray(image), size) for image in images])
    groups: tuple[Any, Any] = (None, None)
    if column != SUPERCLASS_COLUMN:
        groups = group_classes(
            labels[column], labels[SUPERCLASS_COLUMN], len(names[column]), names[SUPERCLASS_COLUMN]
        )
    return label_images(
        images, labels[column], names[column], *groups, dataset=path.name, splits=SPLITS
    )


def _from_folder(folder: Path) -> dict[str, dict[str, Any]]:
    files = [folder / name for name in FILES if (folder / name).is_file()]
    return {file.name: _unpickle(io.BytesIO(file.read_bytes())) for file in files}


def _from_archive(path: Path) -> dict[str, dict[str, Any]]:
    """Reads an archive to its end, so that its checksum is verified."""
    contents: dict[str, dict[str, Any]] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if name in FILES and member.isreg():
                contents[name] = _unpickle(cast(IO[bytes], archive.extractfile(member)))
        while cast(IO[bytes], archive.fileobj).read(CHUNK_BYTES):
            pass
    return contents


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _unpickle(stream: IO[bytes]) -> dict[str, Any]:
    """Returns the dictionary in a file, its keys decoded to text."""
    content = _Unpickler(stream, encoding="bytes").load()
    return {_text(key): value for key, value in content.items()}


class _Unpickler(pickle.Unpickler):
    """Builds only dictionaries, lists, numbers, strings and integer arrays."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = _ALLOWED_GLOBALS.get((module, name))
        if allowed is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")
        return allowed


def _reconstruct(array_type: object, shape: object, type_code: object) -> np.ndarray:
    """Replaces `numpy.core.multiarray._reconstruct`; the shape follows in the pickled state."""
    return np.ndarray((0,), np.uint8)


def _dtype(code: str | bytes, align: object = False, copy: object = True) -> np.dtype:
    """Replaces `numpy.dtype`, for integer types."""
    name = _text(code)
    if name not in ("u1", "i4", "i8"):
        raise pickle.UnpicklingError(f"it holds an array of type {name!r}")
    return np.dtype(name, copy=True)


_ALLOWED_GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    # Only an argument of `_reconstruct`: called, it could read any memory.
    ("numpy", "ndarray"): "numpy.ndarray",
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): codecs.encode,  # with which Python 3 writes bytes in protocol 2
}
