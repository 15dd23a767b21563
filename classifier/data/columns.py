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
    from datasets import ClassLabel

    columns = [
        column
        for column, feature in table.features.items()
        if isinstance(feature, ClassLabel) and feature.names
    ]
    chosen = choose_label_column(columns, name)
    if chosen is not None:
        return chosen
    available = f"ClassLabel columns: {', '.join(columns) or 'none'}"
    if name is not None:
        missing = "no column" if name not in table.column_names else "no ClassLabel column"
        raise InputError(f"{dataset} has {missing} named {name!r}; {available}")
    if len(columns) == 1:
        return columns[0]
    if columns:
        raise InputError(
            f"{dataset} has no column fine_label or label and more than one ClassLabel: name the "
            f"target with --label-column; {available}"
        )
    raise InputError(
        f"{dataset} has no label column (of type ClassLabel; its columns: "
        f"{', '.join(table.column_names)}): give a data set whose labels `datasets` reads "
        "as ClassLabel, such as images in folders by class"
    )


def find_image_column(table: Dataset, dataset: str) -> str:
    """Returns the image column; of several, the one named `img` or `image`.

    Raises:
        InputError: there is no such column, or several could be meant.
    """
    from datasets import Image

    columns = [name for name, feature in table.features.items() if isinstance(feature, Image)]
    preferred = [name for name in columns if name in IMAGE_COLUMNS]
    for choice in (columns, preferred):
        if len(choice) == 1:
            return choice[0]
    if columns:
        raise InputError(
            f"{dataset} has several image columns ({', '.join(columns)}) and not one named img or "
            "image: keep one of them"
        )
    raise InputError(
        f"{dataset} has no image column (its columns: {', '.join(table.column_names)}): give an "
        "image-classification data set, with a column of the `datasets` type Image"
    )
