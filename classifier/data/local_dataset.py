"""Data sets in folders of this machine, read by the `datasets` library, and its errors in words."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.data.data_files import walk
from classifier.data.split import Split, check_labels
from classifier.errors import ClassifierError, InputError

if TYPE_CHECKING:
    from datasets import DatasetDict


PATTERN = re.compile(r"[\[\]{}*?]|::")


def state(folder: Path) -> str:
    """Returns a hash of the names, sizes and times of a folder's files, which it does not open."""
    digest = hashlib.sha256()
    for file in walk(folder):
        line = "\0".join((*file.parts, file.state, ""))
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def read(folder: Path, split: str, *, label_column: str | None = None, size: int) -> Split:
    """Reads and decodes a split of a folder that `datasets.load_dataset` reads.

    Raises:
        InputError: the folder holds no data set of images, or what `image_table.read_split` says.
    """
    from classifier.data.image_table import read_split

    folder = folder.resolve()
    with _plainly_named(folder) as (path, options):
        tables = load_tables(path, folder.name, **options)
        return read_split(tables, split, dataset=folder.name, label_column=label_column, size=size)


@contextlib.contextmanager
def _plainly_named(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Gives a path of a folder that `load_dataset` takes literally, and options that go with it.

    In the folder's own path it takes brackets, asterisks and "::" for patterns, and reads other
    folders, or nothing.
    """
    if not PATTERN.search(str(folder)):
        yield str(folder), {}
        return
    with tempfile.TemporaryDirectory() as place:
        plain = Path(place, "data")
        plain.mkdir()
        for entry in folder.iterdir():
            (plain / entry.name).symlink_to(entry)
        yield str(plain), {"cache_dir": str(Path(place, "cache"))}


def load_tables(path: str, name: str, **options: Any) -> DatasetDict:
    """Calls `datasets.load_dataset` without its messages, and gives its errors as one line.

    Args:
        path: a folder, absolute, or a repository of the Hub.
        name: what messages call the data set.
        options: further arguments of `load_dataset`.

    Raises:
        InputError: there is nothing there that can be read as a data set.
        ClassifierError: the disk is full or a connection broke.
    """
    import datasets

    with _quiet():
        try:
            return datasets.load_dataset(path, **options)
        except Exception as error:  # every reader of a format has its own errors
            if "Class label" in str(_origin(error)):
                _name_the_wrong_label(path, name, **options)
            raise _in_one_line(error, name) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the libraries' logs: what they have to say, our own error says in one line.

    Progress bars stay in a terminal: a first download takes minutes.
    """
    import datasets

    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars = datasets.are_progress_bars_disabled()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Gives an error and those that caused it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _origin(error: BaseException) -> BaseException:
    """Returns the error that a general error of `datasets` wraps, or the error itself."""
    from datasets.exceptions import DatasetGenerationError

    wrapped = error.__cause__ or error.__context__
    return wrapped if isinstance(error, DatasetGenerationError) and wrapped else error


def _in_one_line(error: Exception, name: str) -> ClassifierError:
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError

    for cause in _chain(error):
        if isinstance(cause, ClassifierError):
            return cause
        if isinstance(cause, (ConnectionError, TimeoutError)):
            return ClassifierError(
                f"the connection broke while fetching {name} ({first_line(cause)}): try again"
            )
        if getattr(cause, "errno", None) == errno.ENOSPC or "disk space" in str(cause):
            return ClassifierError(
                f"no space left on the disk to prepare {name}: free some, or set HF_HOME to a "
                "folder on another disk"
            )
    if isinstance(error, (DataFilesNotFoundError, EmptyDatasetError)):
        return InputError(
            f"{name} holds no data files: give a folder or Hub repository with images in folders "
            "by class, or with Parquet files"
        )
    reason = first_line(_origin(error))
    if reason.startswith("Config name is missing"):
        reason = "it holds several configurations; keep one, in a folder of its own"
    if reason.startswith("BatchSize must be greater than 0"):
        reason = "a Parquet file without rows"
    return InputError(
        f"{name} cannot be read as a data set ({reason}): check that `datasets.load_dataset` "
        "reads it"
    )


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__


def _name_the_wrong_label(path: str, name: str, **options: Any) -> None:
    """Raises InputError with the row of a label that `datasets` refuses without saying where."""
    import datasets

    features = datasets.load_dataset_builder(path, **options).info.features or {}
    classes = {
        column: feature.num_classes
        for column, feature in features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    plain = {column: datasets.Value("int64") for column in classes}
    with contextlib.suppress(datasets.exceptions.DatasetsError):  # labels that are text
        tables = datasets.load_dataset(
            path, features=datasets.Features(features | plain), **options
        )
        for split, table in tables.items():
            for column, number in classes.items():
                values = table.with_format("numpy", columns=[column])[:][column]
                check_labels(
                    values, number, where=f"column {column} in the {split} split of {name}"
                )
