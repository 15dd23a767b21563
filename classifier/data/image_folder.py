"""Data sets of image files: a folder or ZIP with a folder per class, or with a metadata file.

If top-level folders are named after splits (`train`, `test`, in any letter case), each contains
exactly that split; otherwise all images form the split `train`. The next level of folders gives the
classes, unless a metadata file labels the images. No other name has a meaning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from classifier.data.columns import refuse_config
from classifier.data.data_files import DataFile, list_files, printable, walk
from classifier.data.images import READABLE, decode
from classifier.data.labelled_images import LabelledImages, group_classes, label_images
from classifier.data.metadata_file import Label, is_metadata, read_labels
from classifier.data.source import DataSource
from classifier.data.split import require_split, split_of
from classifier.errors import InputError

TABLES = (".parquet", ".arrow")
ADVICE = (
    f"give images, as {READABLE}, in a folder for each class, or label them in a metadata.csv with "
    "the columns file_name and label"
)

Rows = list[tuple[DataFile, Label]]


def recognises(place: Path) -> bool:
    """Returns whether a path is a ZIP, or a folder of images rather than of tables."""
    if place.is_file():
        with place.open("rb") as file:
            return place.suffix.lower() == ".zip" or file.read(4) in (b"PK\3\4", b"PK\5\6")
    if declares_data_files(place):
        return False
    files = [file for file in walk(place) if not is_metadata(file)]
    tables = [file for file in files if file.kind in TABLES]
    if tables:  # decide by which of the two lie in folders of splits
        images = [file for file in files if file.named_as_image]
        return any(map(_is_in_split, images)) and not any(map(_is_in_split, tables))
    return any(file.is_image for file in files)


def read(place: Path, split: str, source: DataSource, *, size: int) -> LabelledImages:
    """Reads and decodes a split of a folder or ZIP, as `loading.load_split`.

    Raises:
        InputError: there is no such split or column, an image has no label or cannot be decoded, a
            class has no readable image, or a name is invalid.
    """
    place = place.resolve()
    dataset = printable(place.name)
    refuse_config(source, dataset)
    with ExitStack() as archives:
        labels, files = read_labels(list_files(place, archives), dataset, source.label_column)
        splits, outside, depth = _find_layout(files, labels, dataset)
        split = require_split(split, splits, dataset)
        parts = {name: _label(members, depth, labels) for name, members in splits.items()}
        rows, skipped = parts[split]
        if split == ("train" if "train" in parts else min(parts)):  # reported only once
            skipped += outside
        where = f"the {split} split of {dataset}"
        if not rows:
            fraction = "" if split == "train" else ", or test on some of train: --test-fraction 0.2"
            raise InputError(
                f"{where} has no labelled image ({_summary(skipped) or 'no files'}): "
                f"{ADVICE}{fraction}"
            )
        classes = _classes([row for found, _ in parts.values() for row in found], dataset)
        skipped += [file for file, _ in rows if not file.is_image]
        rows = [row for row in rows if row[0].is_image]
        images = np.empty((len(rows), size, size, 3), np.uint8)
        for index, (file, _) in enumerate(rows):
            assert file.open is not None
            with file.open() as stream:
                images[index] = decode(stream, size, name=f"{file.path} of {dataset}")
    return label_images(
        images,
        np.array([classes[label.name] for _, label in rows], np.int32),
        list(classes),
        *_superclasses([label for found, _ in parts.values() for _, label in found], classes),
        dataset=dataset,
        files=[file.path for file, _ in rows],
        remarks=[f"Not read in {where}: {_summary(skipped)}."] if skipped else [],
        splits=sorted(parts),
    )


def _find_layout(
    files: list[DataFile], labels: Mapping[tuple[str, ...], Label], dataset: str, depth: int = 0
) -> tuple[dict[str, list[DataFile]], list[DataFile], int]:
    """Finds the folders of splits: at the top, or in the only top-level folder with images.

    Returns:
        The files of each split, the files outside of all splits, and the depth of class folders.
    """
    folders, loose = _by_folder(files, depth)
    named = {name: split for name in folders if (split := split_of(name))}
    with_images = [name for name, members in folders.items() if _holds_image(members)]
    # If there are other folders with images, `train` and `test` are classes too, unless their
    # images are in subfolders or labelled.
    has_classes = any(
        file.is_image and (len(file.parts) > depth + 2 or file.parts in labels)
        for name in named
        for file in folders[name]
    )
    only_splits = named.keys() >= set(with_images)
    if named and not only_splits and len(set(named.values())) == 1 and not labels:
        (name, *_), others = named, sorted(set(with_images) - named.keys())
        if any(file.is_image and len(file.parts) > depth + 2 for file in folders[name]):
            raise InputError(
                f"{printable(name)} of {dataset} is a split with folders of classes, or a class as "
                f"{printable(others[0])}: move one elsewhere, or its images out of inner folders"
            )
    splits: dict[str, list[DataFile]] = {}
    inner: list[DataFile] = []
    if named and (only_splits or (has_classes and len(set(named.values())) > 1)):
        for name, split in named.items():
            if split in splits:
                raise InputError(
                    f"{dataset} has two folders for the split {split}, one of them "
                    f"{printable(name)}: keep one, or move the files of one into the other"
                )
            splits[split] = folders.pop(name)
        depth += 1
    else:
        only = with_images[0] if len(with_images) == 1 and not _holds_image(loose) else None
        if only is None or _holds_image(_by_folder(folders[only], depth + 1)[1]):
            return {"train": files}, [], depth
        splits, inner, depth = _find_layout(folders.pop(only), labels, dataset, depth + 1)
    outside = [file for members in folders.values() for file in members]
    return splits, [*loose, *outside, *inner], depth


def _by_folder(
    files: list[DataFile], depth: int
) -> tuple[dict[str, list[DataFile]], list[DataFile]]:
    """Groups files by their folder at a depth; returns files that are in none separately."""
    folders: dict[str, list[DataFile]] = {}
    loose = []
    for file in files:
        if len(file.parts) > depth + 1:
            folders.setdefault(file.parts[depth], []).append(file)
        else:
            loose.append(file)
    return folders, loose


def _holds_image(files: list[DataFile]) -> bool:
    return any(file.is_image for file in files)


def _is_in_split(file: DataFile) -> bool:
    return split_of(file.parts[0]) is not None and len(file.parts) > 1


def declares_data_files(folder: Path) -> bool:
    """Returns whether a README declares the files of the data set, as `datasets` reads them."""
    from huggingface_hub import metadata_load

    readme = folder / "README.md"
    try:
        header = metadata_load(readme) if readme.is_file() else None
    except Exception:  # `datasets` reports what is wrong with it
        return True
    configs = (header or {}).get("configs")
    return isinstance(configs, list) and any(
        isinstance(config, dict) and "data_files" in config for config in configs
    )


def _label(
    files: list[DataFile], depth: int, labels: Mapping[tuple[str, ...], Label]
) -> tuple[Rows, list[DataFile]]:
    """Assigns classes to the files of a split: by metadata if it labels any, else by folder.

    Returns:
        The files with a class, and the others, whose kind says why they are skipped.
    """
    rows: Rows = []
    skipped = []
    labelled = any(file.parts in labels for file in files)
    for file in files:
        label = labels.get(file.parts)
        if not labelled and len(file.parts) > depth + 1:
            label = Label(file.parts[depth])
        if label is not None:
            rows.append((file, label))
        elif file.is_image:
            reason = "without a row in the metadata" if labelled else "outside of class folders"
            skipped.append(replace(file, kind=f"image {reason}"))
        else:
            skipped.append(file)
    return rows, skipped


def _classes(rows: Rows, dataset: str) -> dict[str, int]:
    """Returns the classes, sorted, with their indices."""
    files: dict[str, list[DataFile]] = {}
    for file, label in rows:
        files.setdefault(label.name, []).append(file)
    for name, members in files.items():
        if not _holds_image(members):
            raise InputError(
                f"the class {printable(name)!r} of {dataset} has no image that can be read "
                f"({_summary(members)}): save them as {READABLE}, or move them elsewhere"
            )
    return {name: index for index, name in enumerate(sorted(files))}


def _superclasses(
    labels: Sequence[Label], classes: Mapping[str, int]
) -> tuple[Sequence[str] | None, tuple[int, ...] | None]:
    """Returns the superclasses and the index of each class into them, if all images have one."""
    pairs = {(label.name, label.superclass or "") for label in labels}
    names = sorted({superclass for _, superclass in pairs})
    if "" in names:
        return None, None
    found = np.array([classes[name] for name, _ in pairs])
    groups = np.array([names.index(superclass) for _, superclass in pairs])
    return group_classes(found, groups, len(classes), names)


def _summary(files: list[DataFile]) -> str:
    """Returns the number of files of each kind, with the first of them as an example."""
    first = {file.kind: file.path for file in reversed(files)}
    numbers = Counter(file.kind for file in files)
    return ", ".join(f"{numbers[kind]} {printable(kind)} ({first[kind]})" for kind in numbers)
