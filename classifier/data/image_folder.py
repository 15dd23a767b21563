"""Data sets of image files: a folder or a ZIP with a folder per class, or with a metadata file.

Where folders at the top name splits (`train`, `test`, in any case), a split is exactly what lies
below its folder; where none does, everything is the split `train`. Below that, the first folder
names the class, unless a metadata file labels the images. No other name means anything.
"""

from __future__ import annotations

import hashlib
import mimetypes
import unicodedata
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from classifier.data.data_files import (
    DataFile,
    is_control,
    list_files,
    printable,
    split_named,
    walk,
)
from classifier.data.images import READABLE, ImageError, open_image, to_model_input
from classifier.data.metadata_file import FILE_NAME, Label, is_metadata, read_labels
from classifier.data.split import Split, group_classes, make_split
from classifier.errors import InputError

FORMAT = 1  # part of every state: raise it when the same files come to give other rows
TABLES = (".parquet", ".arrow")
# What `datasets` reads where there are no images.
OTHER_DATA = (*TABLES, ".csv", ".tsv", ".json", ".jsonl", ".txt", ".tar", ".py")
DATASETS_FILES = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
ADVICE = (
    "sort them into a folder for each class, or label them in a metadata.csv with the columns "
    "file_name and label"
)


def recognises(place: Path) -> bool:
    """Tells whether a path is a ZIP, or a folder of images rather than of tables."""
    if place.is_file():
        with place.open("rb") as file:
            return place.suffix.lower() == ".zip" or file.read(4) in (b"PK\3\4", b"PK\5\6")
    if any((place / name).is_file() for name in DATASETS_FILES) or _lists_its_data(place):
        return False
    files = [file for file in walk(place) if not is_metadata(file)]
    images = [file for file in files if file.named_as_image]
    tables = [file for file in files if file.kind in TABLES]
    if tables:  # a picture beside tables illustrates them; a table beside split folders is astray
        return any(map(_in_a_split, images)) and not any(map(_in_a_split, tables))
    return (
        bool(images)
        or any(file.kind in (".zip", "loop") for file in files)
        or any(file.is_image for file in files if file.kind not in OTHER_DATA)
    )


def state(place: Path) -> str:
    """Returns a hash of the names, sizes and times of the files, without opening them."""
    digest = hashlib.sha256(f"images {FORMAT}\n".encode())
    if place.is_file():
        status = place.stat()
        digest.update(f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode())
        return digest.hexdigest()
    for file in walk(place):
        line = "\0".join((*file.parts, file.kind, file.state, ""))
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def read(place: Path, split: str, *, label_column: str | None = None, size: int) -> Split:
    """Reads and decodes a split.

    Args:
        place: the folder or the ZIP.
        split: "train" or another that a folder at the top names.
        label_column: the column of the metadata files with the target; by default `fine_label`,
            else `label`. Where no metadata has it, the class is the name of the folder.
        size: the side of the images in pixels.

    Raises:
        InputError: there is no such split or column, an image has no label or does not decode, a
            class has no image that can be read, or a name will not do.
        OSError: a file or folder cannot be read.
    """
    place = place.resolve()
    dataset = printable(place.name)
    with ExitStack() as archives:
        files = list_files(place, archives)
        labels, columns = read_labels(files, dataset, label_column)
        if label_column not in (None, "label", *columns):
            would_do = ["label", *(name for name in columns if name not in ("label", FILE_NAME))]
            raise InputError(
                f"{dataset} has no column named {printable(str(label_column))!r}; the columns that "
                f"would do: {printable(', '.join(would_do))}"
            )
        files = [file for file in files if not is_metadata(file)]
        division = _divide(files, labels, dataset)
        parts = {
            name: _label(members, division.depth, labels)
            for name, members in division.splits.items()
        }
        if split not in parts:
            raise InputError(
                f"{dataset} has no split named {split!r}: choose one of "
                f"{', '.join(sorted(parts))}. Folders named train and test at the top, with the "
                "folders of the classes in them, make splits"
            )
        part = parts[split]
        if split == ("train" if "train" in parts else min(parts)):  # told once
            part.unread += [(file, file.kind) for file in division.outside]
        _check_labelled(part, f"the {split} split of {dataset}", columns)
        classes = _classes(parts, dataset)
        superclasses, superclass_of = _superclasses(parts, classes)
        images, rows = _decode_all(part, size, dataset)
    return make_split(
        images,
        np.array([classes[row.label.name] for row in rows], np.int32),
        list(classes),
        superclasses,
        superclass_of,
        dataset=dataset,
        files=[row.file.path for row in rows],
        remarks=_remarks(part, rows, f"the {split} split of {dataset}"),
    )


class _Row(NamedTuple):
    file: DataFile
    label: Label


@dataclass
class _Part:
    """The files of a split: those with a class, and others with what they are."""

    rows: list[_Row] = field(default_factory=list)
    unread: list[tuple[DataFile, str]] = field(default_factory=list)


class _Division(NamedTuple):
    """The files of each split, those outside of all, and how deep the folders of classes lie."""

    splits: dict[str, list[DataFile]]
    outside: list[DataFile]
    depth: int


def _divide(
    files: list[DataFile], labels: Mapping[tuple[str, ...], Label], dataset: str
) -> _Division:
    """Finds the folders of splits: at the top, or in the only folder there with images."""
    outside: list[DataFile] = []
    depth = 0
    while True:
        folders, loose = _by_folder(files, depth)
        named = [name for name in folders if split_named(name)]
        pictured = [name for name, members in folders.items() if _holds_image(members)]
        others = [name for name in pictured if name not in named]
        # Beside other folders with images, `train` and `test` may be classes like these: they are
        # unless they are sorted further, or labelled.
        sorted_further = any(
            file.is_image and (len(file.parts) > depth + 2 or file.parts in labels)
            for name in named
            for file in folders[name]
        )
        if named and (not others or (sorted_further and len(set(map(split_named, named))) > 1)):
            splits: dict[str, list[DataFile]] = {}
            for name in named:
                split = str(split_named(name))
                if split in splits:
                    raise InputError(
                        f"{dataset} has two folders for the split {split}, one of them "
                        f"{printable(name)}: keep one, or move the files of one into the other"
                    )
                splits[split] = folders.pop(name)
            outside += loose + [file for members in folders.values() for file in members]
            return _Division(splits, outside, depth + 1)
        only = pictured[0] if len(pictured) == 1 and not _holds_image(loose) else None
        if only is None or _holds_image(_by_folder(folders[only], depth + 1)[1]):
            return _Division({"train": files}, outside, depth)
        files = folders.pop(only)
        outside += loose + [file for members in folders.values() for file in members]
        depth += 1


def _by_folder(
    files: list[DataFile], depth: int
) -> tuple[dict[str, list[DataFile]], list[DataFile]]:
    """Groups files by the folder in which they lie so deep, and those that lie in none."""
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


def _in_a_split(file: DataFile) -> bool:
    return split_named(file.parts[0]) is not None and len(file.parts) > 1


def _lists_its_data(folder: Path) -> bool:
    """Tells whether a README names the files of a data set, for `datasets` to read."""
    from huggingface_hub import metadata_load

    readme = folder / "README.md"
    try:
        header = metadata_load(readme) if readme.is_file() else None
    except Exception:  # written by anyone: `datasets` says what is wrong with it
        return True
    configs = (header or {}).get("configs")
    return isinstance(configs, list) and any(
        isinstance(config, dict) and "data_files" in config for config in configs
    )


def _label(files: list[DataFile], depth: int, labels: Mapping[tuple[str, ...], Label]) -> _Part:
    """Gives each file of a split its class: by metadata if that labels any, else by its folder."""
    part = _Part()
    labelled = any(file.parts in labels for file in files)
    for file in files:
        label = labels.get(file.parts)
        if not labelled and len(file.parts) > depth + 1:
            label = Label(file.parts[depth], None, "")
        if label is not None:
            part.rows.append(_Row(file, label))
        elif file.is_image:
            lacking = "without a line in the metadata" if labelled else "outside of class folders"
            part.unread.append((file, f"image {lacking}"))
        else:
            part.unread.append((file, file.kind))
    return part


def _check_labelled(part: _Part, where: str, columns: list[str]) -> None:
    """Refuses a split without labels, and an image whose label is empty."""
    if not part.rows:
        images = [file for file, _ in part.unread if file.is_image]
        if not images:
            others = _summary(part.unread) or "no files at all"
            raise InputError(
                f"{where} holds no image that can be read ({others}): give folders of images for "
                f"each class, as {READABLE}"
            )
        metadata = f" (the metadata has the columns {printable(', '.join(columns))})"
        raise InputError(
            f"{where} has no labels: its images ({len(images)}; the first is {images[0].path}) lie "
            f"in no class folder{metadata * bool(columns)}; {ADVICE}"
        )
    for file, label in part.rows:
        if not label.name.strip() and label.source:
            raise InputError(
                f"{file.path} in {where} has no label in {label.source}: write one, or remove "
                "the line"
            )


def _classes(parts: Mapping[str, _Part], dataset: str) -> dict[str, int]:
    """Returns the classes of all splits, sorted, with their indices.

    A folder whose name begins with a dot or two underscores and that holds no image is none.
    """
    names: set[str] = set()
    for split, part in parts.items():
        members: dict[str, list[DataFile]] = {}
        for file, label in part.rows:
            members.setdefault(label.name, []).append(file)
        for name, files in members.items():
            if _holds_image(files):
                names.add(name)
            elif name.startswith((".", "__")) and not any(map(_is_picture, files)):
                part.rows = [row for row in part.rows if row.label.name != name]
                part.unread += [(file, file.kind) for file in files]
            else:
                raise InputError(
                    f"the class {printable(name)!r} has no image that can be read in the {split} "
                    f"split of {dataset} ({_summary([(file, file.kind) for file in files])}): "
                    f"save them as {READABLE}, or move them elsewhere"
                )
    spellings: dict[str, str] = {}
    for name in sorted(names):
        if any(map(is_control, name)):
            raise InputError(
                f"the name of the class {printable(name)!r} in {dataset} holds a line break, a "
                "control character or bytes that are no UTF-8: rename it"
            )
        other = spellings.setdefault(unicodedata.normalize("NFC", name), name)
        if other != name:
            raise InputError(
                f"the class {name!r} has two spellings in {dataset} that differ in their Unicode "
                f"normal form ({other!a} and {name!a}): use one of them"
            )
    return {name: index for index, name in enumerate(sorted(names))}


def _is_picture(file: DataFile) -> bool:
    """Tells whether a file's name says that it is an image, of whatever format."""
    kind = mimetypes.guess_type(f"file{file.kind}")[0] or ""
    return kind.startswith("image/") or file.kind in (".heic", ".heif")


def _superclasses(
    parts: Mapping[str, _Part], classes: Mapping[str, int]
) -> tuple[list[str] | None, tuple[int, ...] | None]:
    """Returns the superclasses' names and each class's index, if every image has one."""
    pairs = {(row.label.name, row.label.superclass) for part in parts.values() for row in part.rows}
    names = sorted({superclass for _, superclass in pairs if superclass is not None})
    if not names or any(superclass is None for _, superclass in pairs):
        return None, None
    known = [(classes[name], names.index(str(group))) for name, group in pairs if name in classes]
    labels, groups = np.array(known).T
    superclass_of = group_classes(labels, groups, len(classes))
    return (None, None) if superclass_of is None else (names, superclass_of)


def _decode_all(part: _Part, size: int, dataset: str) -> tuple[np.ndarray, list[_Row]]:
    """Returns the images of a split, uint8, (N, size, size, 3), and the N rows that hold them."""
    rows = [row for row in part.rows if row.file.is_image]
    part.unread += [(row.file, row.file.kind) for row in part.rows if not row.file.is_image]
    images = np.empty((len(rows), size, size, 3), np.uint8)
    for index, row in enumerate(rows):
        images[index] = _decode(row.file, size, dataset)
    return images, rows


def _decode(file: DataFile, size: int, dataset: str) -> np.ndarray:
    """Returns an image, uint8, (size, size, 3), as the app would show it to a model."""
    assert file.open is not None
    try:
        with file.open() as stream:
            return to_model_input(open_image(stream), size)
    except ImageError as error:
        reason = str(error).partition(":")[0]
        raise InputError(
            f"the image {file.path} of {dataset} does not decode ({reason}): replace or remove it"
        ) from error


def _remarks(part: _Part, rows: list[_Row], where: str) -> list[str]:
    """Returns what a user should know of the reading, a sentence each."""
    remarks = []
    if part.unread:
        remarks.append(f"Not read in {where}: {_summary(part.unread)}.")
    times = Counter(row.file.identity for row in rows if row.file.identity)
    again = [row.file for row in rows if row.file.identity and times[row.file.identity] > 1]
    if again:
        remarks.append(
            f"In {where} {len(again)} images are the same files, by links ({again[0].path} is the "
            "first)."
        )
    return remarks


def _summary(files: list[tuple[DataFile, str]]) -> str:
    """Counts files by kind, with the first of each."""
    kinds: dict[str, list[DataFile]] = {}
    for file, kind in files:
        kinds.setdefault(kind, []).append(file)
    return ", ".join(
        f"{len(members)} {printable(kind)} ({members[0].path})" for kind, members in kinds.items()
    )
