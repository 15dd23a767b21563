"""Reads the labels of images from a `metadata.csv`, `.jsonl` or `.parquet`, as text."""

from __future__ import annotations

import codecs
import csv
import io
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from classifier.data.columns import SUPERCLASS_COLUMN, choose_label_column
from classifier.data.data_files import METADATA_FILES, DataFile, printable
from classifier.errors import InputError

FILE_NAME = "file_name"


class Label(NamedTuple):
    """The class of an image, and its superclass if there is one."""

    name: str
    superclass: str | None = None


def is_metadata(file: DataFile) -> bool:
    """Returns whether a file is named as a metadata file."""
    return file.parts[-1].lower() in METADATA_FILES and file.open is not None


def read_labels(
    files: Sequence[DataFile], dataset: str, label_column: str | None
) -> tuple[dict[tuple[str, ...], Label], list[DataFile]]:
    """Reads the labels of these files from the metadata files among them.

    Returns:
        The label of each file by its path, from the column as in `columns.choose_label_column`; and
        all files but the metadata that was used. Metadata without labels (with captions, for
        instance) has the kind "metadata without labels".

    Raises:
        InputError: a metadata file cannot be read, has a column twice, or one with labels names no
            file, a missing file, a file twice, or no label; or none has the label column.
    """
    labels: dict[tuple[str, ...], Label] = {}
    columns: dict[str, None] = {}
    others = []
    known = {_normal(*file.parts): file.parts for file in files}
    for file in files:
        if not is_metadata(file):
            others.append(file)
            continue
        header, rows = _read_rows(file, dataset)
        columns |= dict.fromkeys(header)
        column = choose_label_column(header, label_column)
        if column is None or FILE_NAME not in header or not rows:
            others.append(replace(file, kind="metadata without labels", open=None))
            continue
        for line, row in rows:
            where = f"line {line} of {file.path} in {dataset}"
            name, label = (_text(row.get(key)) for key in (FILE_NAME, column))
            path = _find(name, file.parts[:-1], known)
            if path is None or path in labels or not label.strip():
                fault = "does not exist below its folder" if path is None else "has no label"
                fault = "is named twice" if path in labels else fault
                raise InputError(
                    f"the file {printable(name)!r} in {where} {fault}: correct or remove the row"
                )
            superclass = None if column == SUPERCLASS_COLUMN else row.get(SUPERCLASS_COLUMN)
            labels[path] = Label(label, _text(superclass) or None)
    if label_column not in (None, "label", *columns):
        available = ["label", *(name for name in columns if name not in ("label", FILE_NAME))]
        raise InputError(
            f"{dataset} has no column named {printable(str(label_column))!r}: choose one of "
            f"{printable(', '.join(available))}"
        )
    return labels, others


def _find(
    name: str, folder: tuple[str, ...], known: dict[str, tuple[str, ...]]
) -> tuple[str, ...] | None:
    """Returns the file that a row names, also as Windows writes it."""
    spellings = (_normal(*folder, spelling) for spelling in (name, name.replace("\\", "/")))
    return next((known[path] for path in spellings if path in known), None)


def _normal(*parts: str) -> str:
    """Returns a path without `.`; names from another system may have another normal form."""
    return unicodedata.normalize("NFC", str(PurePosixPath(*parts)))


def _read_rows(
    file: DataFile, dataset: str
) -> tuple[Sequence[str], list[tuple[int, dict[str, Any]]]]:
    """Returns the names of the columns, and each row with its line number."""
    assert file.open is not None
    with file.open() as stream:
        content = stream.read()
    header: Sequence[str]
    try:
        if file.kind == ".parquet":
            import pyarrow.parquet

            table = pyarrow.parquet.read_table(io.BytesIO(content))
            header, rows = table.column_names, list(enumerate(table.to_pylist(), start=1))
        elif file.kind == ".csv":
            reader = _csv(_decode(content))
            rows = [(reader.line_num, row) for row in reader]
            for line, row in rows:  # blank ones, after the last separator, are no fault
                if any(map(str.strip, row.get(None, ()))):
                    raise ValueError(f"line {line} has more fields than the header: quote commas")
            header = reader.fieldnames or ()
        else:
            lines = enumerate(_decode(content).split("\n"), start=1)
            rows = [(number, dict(json.loads(line))) for number, line in lines if line.strip()]
            header = list(dict.fromkeys(key for _, row in rows for key in row))
        if repeated := [name for name in header if header.count(name) > 1]:
            raise ValueError(f"it has several columns named {printable(repeated[0])!r}")
    except Exception as error:  # each library has its own for content that it cannot read
        raise InputError(
            f"{file.path} in {dataset} cannot be read ({error}): save it as UTF-8, with one row "
            "per image"
        ) from error
    return header, rows


def _decode(content: bytes) -> str:
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig")


def _csv(text: str) -> csv.DictReader[str]:
    """Returns a reader with the separator that finds the column `file_name`.

    Spreadsheets write semicolons or tabs where the comma is the decimal sign.
    """
    for delimiter in (";", "\t", ","):
        lines = io.StringIO(text, newline="")
        reader = csv.DictReader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
        if FILE_NAME in (reader.fieldnames or ()):
            break
    return reader


def _text(value: Any) -> str:
    """Returns a value as text; a missing one (None, not a number) as an empty string."""
    if value is None or value != value:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
