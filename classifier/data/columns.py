"""Which columns of a data set hold the images, the target and the superclasses."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from classifier.data.source import DataSource
from classifier.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("fine_label", "label")
SUPERCLASS_COLUMN = "coarse_label"


def choose_label_column(columns: Collection[str], name: str | None) -> str | None:
    """Returns the target: the named column, else `fine_label`, else `label`; None if none is there.

    >>> choose_label_column(["img", "label"], None), choose_label_column(["label"], "kind")
    ('label', None)
    """
    return next((c for c in (LABEL_COLUMNS if name is None else (name,)) if c in columns), None)


def refuse_config(source: DataSource, dataset: str) -> None:
    """Raises InputError if a configuration is named of a data set that has none."""
    if source.config is not None:
        raise InputError(f"{dataset} has no configurations: leave out --config {source.config}")


def find_label_column(table: Dataset, dataset: str, name: str | None = None) -> str:
    """Returns the target of a table: as `choose_label_column`, else the only `ClassLabel`.

    Raises:
        InputError: there is no such column, or several could be meant.
    """
    columns = [column for column in table.column_names if holds_labels(table.features[column])]
    chosen = choose_label_column(columns, name)
    if chosen is None and name is None:
        named = [column for column in columns if getattr(table.features[column], "names", None)]
        chosen = named[0] if len(named) == 1 else None
    if chosen is None:
        raise InputError(
            f"{dataset} has no column of labels named {name or 'fine_label or label'}: name one "
            f"with --label-column (columns of labels: {', '.join(columns) or 'none'})"
        )
    return chosen


def holds_labels(feature: object) -> bool:
    """Returns whether a column holds labels: classes with names, texts or integers."""
    from datasets import ClassLabel, Value

    if isinstance(feature, ClassLabel):
        return bool(feature.names)
    kinds = ("string", "large_string", "int", "uint", "bool")
    return isinstance(feature, Value) and feature.dtype.startswith(kinds)


def find_image_column(table: Dataset, dataset: str) -> str:
    """Returns the image column; of several, the one named `img` or `image`.

    Raises:
        InputError: there is no such column, or several could be meant.
    """
    from datasets import Image

    columns = [name for name, feature in table.features.items() if isinstance(feature, Image)]
    chosen = columns if len(columns) == 1 else [name for name in columns if name in IMAGE_COLUMNS]
    if len(chosen) != 1:
        raise InputError(
            f"{dataset} needs one image column, of the `datasets` type Image, or one of them named "
            f"img or image (image columns: {', '.join(columns) or 'none'})"
        )
    return chosen[0]
