"""The original CIFAR-100 files: the archive from the University of Toronto, or its unpacked folder.

The files are Python 2 pickles. A pickle can call anything that its reader resolves, so only the
four globals that arrays and lists of numbers need are resolved. Archives are read member by member
and never unpacked: paths and links in them have no effect on the file system.
"""

import gzip
import lzma
import pickle
import tarfile
import zlib
from collections.abc import Sequence
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
PIXELS = CHANNELS * SIDE * SIDE
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
    files = _from_archive(path) if path.is_file() else _from_folder(path)
    for needed in (split, "meta"):
        if needed not in files:
            raise InputError(
                f"{path.name} holds no file {needed} of CIFAR-100: {ADVICE}, or the folder of your "
                "images, unpacked"
            )
    try:
        meta = files.pop("meta")
        names = {column: [_text(name) for name in meta[f"{column}_names"]] for column in COLUMNS}
        labels = {name: _labels(content, names, name) for name, content in files.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path.name} does not hold what CIFAR-100 does ({error}): {ADVICE}"
        ) from error
    images = files[split]["data"].reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
    if size != SIDE:
        images = np.stack([to_model_input(Image.fromarray(image), size) for image in images])
    superclasses: Sequence[str] | None = None
    superclass_of = None
    if column != SUPERCLASS_COLUMN:
        fine, coarse = (
            np.concatenate([part[name] for part in labels.values()]) for name in COLUMNS
        )
        superclasses, superclass_of = group_classes(
            fine, coarse, len(names[column]), names[SUPERCLASS_COLUMN]
        )
    return label_images(
        images,
        labels[split][column],
        names[column],
        superclasses,
        superclass_of,
        dataset=path.name,
        splits=SPLITS,
    )


def _from_folder(folder: Path) -> dict[str, dict[str, Any]]:
    contents = {}
    for name in FILES:
        if (folder / name).is_file():
            with (folder / name).open("rb") as stream:
                contents[name] = _unpickle(stream, f"{folder.name}/{name}")
    return contents


def _from_archive(path: Path) -> dict[str, dict[str, Any]]:
    """Reads an archive to its end, so that its checksum is verified."""
    contents: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name in FILES and member.isreg():
                    stream = cast(IO[bytes], archive.extractfile(member))
                    contents[name] = _unpickle(stream, f"{path.name}/{name}")
            while cast(IO[bytes], archive.fileobj).read(CHUNK_BYTES):
                pass
    except (EOFError, OSError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{path.name} is not a folder, a ZIP of images or a complete tar archive ({reason}): "
            f"{ADVICE}, or the folder of your images"
        ) from error
    return contents


def _labels(
    content: dict[str, Any], names: dict[str, list[str]], split: str
) -> dict[str, np.ndarray]:
    """Returns the labels of each column, (N,), of a file with N images, all checked.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: the file holds something else.
        InputError: a label is out of range.
    """
    data = content["data"]
    if not (data.dtype == np.uint8 and data.shape[1:] == (PIXELS,) and len(data)):
        raise ValueError(f"{split} has no images, uint8, N × {PIXELS}")
    labels = {}
    for column in COLUMNS:
        key = f"{column}s"
        labels[column] = np.asarray(content[key])
        if labels[column].shape != (len(data),) or labels[column].dtype.kind not in "iu":
            raise ValueError(f"{split} has no {key} with an integer for each image")
        check_labels(labels[column], len(names[column]), where=f"column {key} in {split}")
    return labels


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _unpickle(stream: IO[bytes], source: str) -> dict[str, Any]:
    """Returns the dictionary in a file, its keys decoded to text."""
    try:
        content = _Unpickler(stream, encoding="bytes").load()
    except (tarfile.ReadError, zlib.error, lzma.LZMAError, gzip.BadGzipFile):
        raise  # a fault of the archive, not of the pickle
    except Exception as error:  # a manipulated pickle can raise anything
        reason = str(error) or type(error).__name__
        raise InputError(
            f"{source} is truncated or not a file of CIFAR-100 ({reason}): {ADVICE}"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{source} holds no dictionary of CIFAR-100: {ADVICE}")
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


def _encode(text: str, encoding: str | bytes = "latin1") -> bytes:
    """Replaces `_codecs.encode`, with which Python 3 writes bytes in protocol 2."""
    if _text(encoding) not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it encodes text as {encoding!r}")
    return text.encode("latin1")


_ALLOWED_GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    # Only an argument of `_reconstruct`: a string in its place cannot be called.
    ("numpy", "ndarray"): "numpy.ndarray",
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
}
