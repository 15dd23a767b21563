"""Converts tables of the `datasets` library, with images and a `ClassLabel`, to arrays."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.data.columns import SUPERCLASS_COLUMN, find_image_column, find_label_column
from classifier.data.images import open_image, to_model_input
from classifier.data.split import Split, check_labels, group_classes, make_split
from classifier.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

BATCH_ROWS = 1000


def read_split(
    tables: DatasetDict,
    split: str,
    *,
    dataset: str,
    revision: str | None = None,
    label_column: str | None = None,
    size: int,
) -> Split:
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
    if split not in tables:
        raise InputError(
            f"{dataset} has no split named {split!r}: choose one of {', '.join(sorted(tables))}"
        )
    table = tables[split]
    image_column = find_image_column(table, dataset)
    label_column = find_label_column(table, dataset, label_column)
    if not len(table):
        raise InputError(f"the {split} split of {dataset} has no rows: give a data set with images")
    classes = table.features[label_column].names
    labels = _labels(table, label_column, f"the {split} split of {dataset}")
    images, files = _images(table, image_column, size, f"the {split} split of {dataset}")
    superclasses, superclass_of = _superclasses(tables, label_column, dataset)
    return make_split(
        images,
        labels,
        classes,
        superclasses,
        superclass_of,
        dataset=dataset,
        revision=revision,
        files=files,
    )


def _labels(table: Dataset, column: str, where: str) -> np.ndarray:
    """Returns int64 labels, (N,), all of them in range."""
    stored = table.select_columns(column).with_format("arrow")[:].column(0)
    missing = np.flatnonzero(stored.is_null().to_numpy())
    if missing.size:
        raise InputError(
            f"row {missing[0]}{_file_of(table, int(missing[0]))} of column {column} in {where} has "
            f"no label ({missing.size} in all): add one, or remove the row"
        )
    labels = stored.to_numpy().astype(np.int64)
    check_labels(
        labels,
        table.features[column].num_classes,
        where=f"column {column} in {where}",
        file_of=functools.partial(_file_of, table),
    )
    return labels


def _file_of(table: Dataset, row: int) -> str:
    """Returns the name of a row's image file in brackets; an empty string if it has none."""
    from datasets import Image

    for column, feature in table.features.items():
        if isinstance(feature, Image):
            stored = table.select_columns(column).cast_column(column, Image(decode=False))
            path = (stored[row][column] or {}).get("path")
            return f" ({Path(path).name})" if path else ""
    return ""


def _superclasses(
    tables: DatasetDict, label_column: str, dataset: str
) -> tuple[list[str] | None, tuple[int, ...] | None]:
    """Returns the superclasses and the index of each class into them, if the table has them."""
    from datasets import ClassLabel

    required = {label_column, SUPERCLASS_COLUMN}
    pairs = []
    names: list[str] | None = None
    if label_column == SUPERCLASS_COLUMN:
        return None, None
    for split, table in tables.items():
        features = table.features
        if not all(isinstance(features.get(name), ClassLabel) for name in required):
            continue
        names = features[SUPERCLASS_COLUMN].names
        where = f"the {split} split of {dataset}"
        pairs.append([_labels(table, name, where) for name in (label_column, SUPERCLASS_COLUMN)])
    if names is None:
        return None, None
    labels, groups = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    superclass_of = group_classes(labels, groups, features[label_column].num_classes)
    return (None, None) if superclass_of is None else (names, superclass_of)


def _images(table: Dataset, column: str, size: int, where: str) -> tuple[np.ndarray, list[str]]:
    """Returns uint8, (N, size, size, 3), and the file names; no names if any is missing."""
    from datasets import Image

    images = np.empty((len(table), size, size, 3), np.uint8)
    stored = table.select_columns(column).cast_column(column, Image(decode=False))
    files = []
    row = 0
    for batch in stored.iter(batch_size=BATCH_ROWS):
        for value in batch[column]:
            images[row] = _decode(value, row, size, where)
            files.append(Path((value or {}).get("path") or "").name)
            row += 1
    return images, files if all(files) else []


def _decode(value: dict[str, Any] | None, row: int, size: int, where: str) -> np.ndarray:
    """Returns the image of a row, uint8, (size, size, 3), preprocessed as in the app."""
    value = value or {}
    data, path = value.get("bytes"), value.get("path")
    file = f" ({Path(path).name})" if path else ""
    try:
        if data is None and path is None:
            raise InputError("the row holds no image")
        return to_model_input(open_image(Path(str(path)) if data is None else data), size)
    except InputError as error:
        reason = str(error).partition(":")[0]
        raise InputError(
            f"the image in row {row}{file} of {where} cannot be decoded ({reason}): replace or "
            "remove it"
        ) from error
