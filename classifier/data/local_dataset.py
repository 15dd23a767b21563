"""Data sets in local folders, read by the `datasets` library, with readable errors."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.data import image_folder
from classifier.data.data_files import printable
from classifier.data.labelled_images import LabelledImages
from classifier.data.source import DataSource
from classifier.data.split import split_of
from classifier.errors import ClassifierError, InputError
from classifier.hub_client import causes

if TYPE_CHECKING:
    from datasets import DatasetDict

GLOB = re.compile(r"[\[\]{}*?]|::")


def read(folder: Path, split: str, source: DataSource, *, size: int) -> LabelledImages:
    """Reads and decodes a split of a folder that `datasets.load_dataset` reads.

    Raises:
        InputError: the folder holds no data set of images, or as in `image_table.read_split`.
    """
    from classifier.data.image_table import read_split

    folder = folder.resolve()
    if GLOB.search(str(folder)):  # `load_dataset` would read other folders, or none
        raise InputError(
            f"{printable(str(folder))} holds tables, and its path one of the characters "
            "[]{}*? or '::': rename it"
        )
    tables = load_tables(str(folder), folder.name, source.config)
    kinds = {table.info.builder_name for table in tables.values()}
    if kinds == {"imagefolder"} and not image_folder.declares_data_files(folder):
        return image_folder.read(folder, split, source, size=size)
    return read_split(
        tables, split, dataset=folder.name, label_column=source.label_column, size=size
    )


def load_tables(path: str, name: str, config: str | None = None, **options: Any) -> DatasetDict:
    """Calls `datasets.load_dataset` without its log messages; its errors become one line.

    The path is that of a folder, absolute, or a repository on the Hub.

    Raises:
        InputError: there is no readable data set.
        ClassifierError: a connection broke.
    """
    import datasets

    if config is not None:
        options["name"] = config
    with _quiet():
        try:
            return datasets.load_dataset(path, **_with_exact_splits(path, name, options))
        except Exception as error:  # each file format has its own errors
            raise _readable_error(error, name) from error


def _with_exact_splits(path: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Adds the files of each split to the options where a file would be in two.

    Unless a README names the files of a split, `datasets` takes all that have its name anywhere in
    their path: `test/steam_train/1.png` would be both in the train and in the test split.
    """
    import datasets

    builder = datasets.load_dataset_builder(path, **options)
    files = [file for part in (builder.config.data_files or {}).values() for file in part]
    _check_parquet([Path(file) for file in files if file.endswith(".parquet")], name)
    if len(files) == len(set(files)):
        return options
    inner = {file.removeprefix(builder.base_path or "").strip("/") for file in files}
    exact: dict[str, list[str]] = {}
    loose = []  # such as metadata.csv
    for path in sorted(inner):
        *folders, _ = parts = path.split("/")
        place = next((place for place, name in enumerate(folders) if split_of(name)), None)
        if place is None:
            loose.append(path)
            continue
        patterns = exact.setdefault(str(split_of(parts[place])), [])
        pattern = "/".join([*parts[: place + 1], "**"])
        if pattern not in patterns:
            patterns.append(pattern)
    exact = {split: [*loose, *patterns] for split, patterns in exact.items()}
    return {**options, "data_files": exact} if exact else options


def _check_parquet(files: Sequence[Path], name: str) -> None:
    """Raises InputError for a file that numbers its classes differently.

    `datasets` reads the labels of all files by the names of the classes in the first. Files of the
    Hub, which are not here, are not checked.
    """
    import datasets
    import pyarrow.parquet

    numbered: dict[str, tuple[list[str] | None, str]] = {}
    for file in filter(Path.is_file, files):
        schema = pyarrow.parquet.read_schema(file)
        for column, feature in datasets.Features.from_arrow_schema(schema).items():
            names = getattr(feature, "names", None)  # of a ClassLabel
            first, other = numbered.setdefault(column, (names, file.name))
            if names and first and names != first:
                raise InputError(
                    f"the classes of the column {printable(column)} in {printable(file.name)} of "
                    f"{name} are others than in {printable(other)}, or in another order: write "
                    "both with the same names"
                )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the logs of the libraries: our own error says the same in one line.

    Progress bars are shown in a terminal: a first download takes minutes.
    """
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _readable_error(error: Exception, name: str) -> ClassifierError:
    if isinstance(error, ClassifierError):
        return error
    lost = any(isinstance(cause, (ConnectionError, TimeoutError)) for cause in causes(error))
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    reason = " ".join(str(root).split()) or type(root).__name__
    if lost:
        return ClassifierError(f"the connection was lost while downloading {name} ({reason})")
    return InputError(
        f"{name} cannot be read as a data set ({reason}): give a folder or Hub repository with "
        "images in folders by class or in tables; of several configurations, name one with --config"
    )
