"""Converts tables of the `datasets` library, with images and a `ClassLabel`, to arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from classifier.data.columns import SUPERCLASS_COLUMN, find_image_column, find_label_column
from classifier.data.images import decode
from classifier.data.labelled_images import (
    LabelledImages,
    check_labels,
    group_classes,
    label_images,
)
from classifier.data.split import require_split
from classifier.errors import InputError

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset, DatasetDict


def read_split(
    tables: DatasetDict,
    split: str,
    *,
    dataset: str,
    revision: str | None = None,
    label_column: str | None = None,
    size: int,
) -> LabelledImages:
    """Decodes one split.

    Args:
        tables: all splits, as `datasets.load_dataset` returns them.
        split: the split to read; from the others only superclasses are read.
        dataset: the name of the data set, for messages and the result.
        revision: the commit, for a data set from the Hub.
        label_column: the target, as in `columns.find_label_column`.
        size: the side of the images in pixels.

    Raises:
        InputError: the split does not exist or is empty, there is no image or target column, an
            image cannot be decoded, or a label is out of range.
    """
    split = require_split(split, tables, dataset)
    table, where = tables[split], f"the {split} split of {dataset}"
    image_column = find_image_column(table, dataset)
    label_column = find_label_column(table, dataset, label_column)
    if not len(table):
        raise InputError(f"{where} has no rows: give a data set with images")
    labels = _labels(table, label_column, image_column, where)
    files = _files(table, image_column)
    images = np.empty((len(table), size, size, 3), np.uint8)
    for row, stored in enumerate(_column(table, image_column)):
        value = stored.as_py() or {}
        source = value.get("bytes")
        if source is None:
            source = Path(value["path"]) if value.get("path") else b""
        file = f" ({files[row]})" if files[row] else ""
        images[row] = decode(source, size, name=f"in row {row}{file} of {where}")
    return label_images(
        images,
        labels,
        table.features[label_column].names,
        *_superclasses(tables, label_column, image_column, dataset),
        dataset=dataset,
        revision=revision,
        files=files if all(files) else [],
        splits=sorted(tables),
    )


def _column(table: Dataset, name: str) -> pyarrow.ChunkedArray:
    return table.with_format("arrow")[:][name]


def _files(table: Dataset, image_column: str) -> list[str]:
    """Returns the name of each row's image file; empty where there is none."""
    from pyarrow.compute import struct_field

    paths = struct_field(_column(table, image_column), "path").to_pylist()
    return [Path(path or "").name for path in paths]


def _labels(table: Dataset, column: str, image_column: str, where: str) -> np.ndarray:
    """Returns int64 labels, (N,), all of them in range."""
    stored, files = _column(table, column), _files(table, image_column)
    missing = np.flatnonzero(stored.is_null().to_numpy())
    if missing.size:
        file = f" ({files[missing[0]]})" if files[missing[0]] else ""
        raise InputError(
            f"row {missing[0]}{file} of column {column} in {where} has "
            f"no label ({missing.size} in all): add one, or remove the row"
        )
    labels = stored.to_numpy().astype(np.int64)
    number = table.features[column].num_classes
    check_labels(labels, number, where=f"column {column} in {where}", files=files)
    return labels


def _superclasses(
    tables: DatasetDict, label_column: str, image_column: str, dataset: str
) -> tuple[Sequence[str] | None, tuple[int, ...] | None]:
    """Returns the superclasses and the index of each class into them, if the tables have them."""
    from datasets import ClassLabel

    features = next(iter(tables.values())).features
    superclasses = features.get(SUPERCLASS_COLUMN)
    if label_column == SUPERCLASS_COLUMN or not isinstance(superclasses, ClassLabel):
        return None, None
    labels, groups = (
        np.concatenate(
            [
                _labels(table, column, image_column, f"the {split} split of {dataset}")
                for split, table in tables.items()
            ]
        )
        for column in (label_column, SUPERCLASS_COLUMN)
    )
    classes = features[label_column].num_classes
    return group_classes(labels, groups, classes, superclasses.names)
