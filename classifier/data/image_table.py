"""Converts tables of the `datasets` library, with images and a `ClassLabel`, to arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from classifier.data.columns import (
    SUPERCLASS_COLUMN,
    find_image_column,
    find_label_column,
    holds_labels,
)
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
    """Decodes one split to images of `size` pixels a side.

    Args:
        tables: all splits, as `datasets.load_dataset` returns them.
        split: the split to read; from the others only names are read.
        dataset: its name, for messages and the result.
        revision: the commit, for a data set from the Hub.
        label_column: the target, as in `columns.find_label_column`.

    Raises:
        InputError: the split does not exist or is empty, there is no image or target column, an
            image cannot be decoded, or a label is out of range.
    """
    from pyarrow import compute

    split = require_split(split, tables, dataset)
    table, where = tables[split], f"the {split} split of {dataset}"
    image_column = find_image_column(table, dataset)
    label_column = find_label_column(table, dataset, label_column)
    if not len(table):
        raise InputError(f"{where} has no rows: give a data set with images")
    stored = _column(table, image_column)
    files = [Path(path or "").name for path in compute.struct_field(stored, "path").to_pylist()]
    names = _class_names(tables, label_column)
    labels = _indices(table, label_column, names)
    check_labels(labels, len(names), where=f"column {label_column} in {where}", files=files)
    remarks = []
    if getattr(table.features[label_column], "names", None) is None:
        remarks.append(
            f"The column {label_column} of {dataset} names no classes: its {len(names):,} values "
            f"are the classes, sorted, from {names[0]} to {names[-1]}."
        )
    images = np.empty((len(table), size, size, 3), np.uint8)
    for row, item in enumerate(stored):
        value = item.as_py() or {}
        source = value.get("bytes")
        if source is None:
            source = Path(value["path"]) if value.get("path") else b""
        file = f" ({files[row]})" if files[row] else ""
        images[row] = decode(source, size, name=f"in row {row}{file} of {where}")
    return label_images(
        images,
        labels,
        names,
        *_superclasses(tables, label_column, names),
        dataset=dataset,
        revision=revision,
        files=files if all(files) else [],
        remarks=remarks,
        splits=sorted(tables),
    )


def _column(table: Dataset, name: str) -> pyarrow.ChunkedArray:
    return table.with_format("arrow")[:][name]


def _class_names(tables: DatasetDict, column: str) -> list[str]:
    """Returns the names of a column: as declared, else its values in all splits, sorted."""
    names = getattr(next(iter(tables.values())).features[column], "names", None)
    if names is not None:
        return list(names)
    values = {value for table in tables.values() for value in _column(table, column).unique()}
    found = sorted(value.as_py() for value in values if value.is_valid)
    return [value if isinstance(value, str) else json.dumps(value) for value in found]


def _indices(table: Dataset, column: str, names: Sequence[str]) -> np.ndarray:
    """Returns the index of each row's label into the names, int64, (N,); -1 where it has none."""
    from pyarrow import array, compute, string

    stored = _column(table, column)
    if getattr(table.features[column], "names", None) is None:
        stored = compute.index_in(compute.cast(stored, string()), value_set=array(names, string()))
    return compute.fill_null(stored, -1).to_numpy().astype(np.int64)


def _superclasses(
    tables: DatasetDict, label_column: str, names: Sequence[str]
) -> tuple[Sequence[str] | None, tuple[int, ...] | None]:
    """Returns the superclasses and the index of each class into them, if the tables have them."""
    features = next(iter(tables.values())).features
    feature = features.get(SUPERCLASS_COLUMN)
    if label_column == SUPERCLASS_COLUMN or not holds_labels(feature):
        return None, None
    superclasses = _class_names(tables, SUPERCLASS_COLUMN)
    labels, groups = (
        np.concatenate([_indices(table, column, values) for table in tables.values()])
        for column, values in ((label_column, names), (SUPERCLASS_COLUMN, superclasses))
    )
    labelled = (labels >= 0) & (groups >= 0)  # a test split may have no labels
    return group_classes(labels[labelled], groups[labelled], len(names), superclasses)
