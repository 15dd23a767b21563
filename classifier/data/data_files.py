"""The files below a folder, or in a ZIP: links followed, in the order of their paths, as streams.

ZIPs are read entry by entry and never unpacked: no path in them means anything to the file system.
"""

from __future__ import annotations

import functools
import io
import os
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from classifier.data.images import MAX_BYTES, is_image
from classifier.errors import InputError

# Suffixes of the formats that are read. A file that has one of them is taken for an image, and an
# error if it is none; of any other file the content decides.
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp"}
IMAGE_SUFFIXES |= {".avif", ".avifs", ".bmp", ".dib", ".tif", ".tiff"}
IMAGE_SUFFIXES |= {".ppm", ".pgm", ".pbm", ".pnm"}
SYSTEM_FILES = frozenset((".ds_store", "thumbs.db", "desktop.ini"))  # of macOS and Windows
# Folders that a tool keeps, where they hold the named entry: their files are not of the data set.
TOOL_FOLDERS = {".git": "HEAD", ".cache": "huggingface", ".ipynb_checkpoints": "."}
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
MAX_METADATA_BYTES = 2**30
MAX_ENTRIES = 5_000_000  # of a ZIP


SPLIT_WORDS = {
    word: split
    for split, words in {
        "train": ("train", "training"),
        "validation": ("validation", "valid", "val", "dev"),
        "test": ("test", "testing", "eval", "evaluation"),
    }.items()
    for word in words
}


@dataclass(frozen=True, eq=False)
class DataFile:
    """A file of a data set.

    Attributes:
        parts: its path below the data set, "train", "cat", "1.png".
        kind: what the summary of files that were not read calls it: the suffix in lower case, or
            what else it is.
        state: changes when the file does.
        open: opens it for reading; None where it is nothing that can be read.
        identity: the same for two paths that lead to one file by links; None where not known.
    """

    parts: tuple[str, ...]
    kind: str
    state: str = ""
    open: Callable[[], BinaryIO] | None = None
    identity: tuple[int, int] | None = None

    @property
    def path(self) -> str:
        """The path below the data set, printable."""
        return printable("/".join(self.parts))

    @property
    def named_as_image(self) -> bool:
        """Whether the suffix is that of a format that is read."""
        return self.open is not None and self.kind in IMAGE_SUFFIXES

    @functools.cached_property
    def is_image(self) -> bool:
        """Whether the file is to be read as an image, by its suffix or else its content."""
        if self.open is None or self.named_as_image:
            return self.named_as_image
        with self.open() as stream:
            return is_image(stream)


def printable(text: str) -> str:
    """Returns text in one line that any terminal takes: what is not printable as an escape."""
    return "".join(
        letter.encode("unicode_escape").decode() if is_control(letter) else letter
        for letter in text
    )


def is_control(letter: str) -> bool:
    """Tells whether a character is a control character, a line break, or half of a character.

    Bytes of a file's name that are no UTF-8 are such halves.
    """
    return unicodedata.category(letter) in ("Cc", "Zl", "Zp", "Cs")


def walk(folder: Path) -> Iterator[DataFile]:
    """Gives every file below a folder, ZIPs closed, but those of the system and of tools.

    A link to a folder above itself comes as a file of the kind "loop", a link to nowhere as a
    "broken link", a pipe, socket or device as a "special file".

    Raises:
        OSError: a folder cannot be read.
    """
    yield from _walk(folder, (), (), folder.resolve())


def list_files(place: Path, archives: ExitStack) -> list[DataFile]:
    """Returns the files of a folder or of a ZIP, in the order of their paths.

    A ZIP in a folder stands for a folder of its name, unless it lies beside what may have come out
    of it: beside a folder of its name or, if its name is no split's, beside images or folders.

    Args:
        place: the folder or the ZIP.
        archives: closes the ZIPs: the files can be read as long as it is open.

    Raises:
        InputError: a link leads in a circle, or a ZIP cannot be read.
        OSError: a folder cannot be read.
    """
    if place.is_file():
        return sorted(_entries(place, (), archives), key=lambda file: file.parts)
    files = list(walk(place))
    beside: dict[tuple[str, ...], set[str]] = {}  # folders and images in each folder
    for file in files:
        if file.kind == "loop":
            raise InputError(
                f"{printable(place.name)}/{file.path} is a link to a folder above it: remove it"
            )
        for depth in range(1, len(file.parts)):
            beside.setdefault(file.parts[: depth - 1], set()).add(file.parts[depth - 1])
        if file.named_as_image:
            beside.setdefault(file.parts[:-1], set()).add(file.parts[-1])
    found = []
    for file in files:
        above, stem = file.parts[:-1], Path(file.parts[-1]).stem
        neighbours = beside.get(above, set())
        stands_for_folder = stem not in neighbours if split_named(stem) else not neighbours
        if file.kind == ".zip" and stands_for_folder:
            found += _entries(place.joinpath(*file.parts), (*above, stem), archives)
        else:
            found.append(file)
    return sorted(found, key=lambda file: file.parts)


def split_named(folder: str) -> str | None:
    """Returns the split that a folder's name stands for, in any case; None for other names."""
    return SPLIT_WORDS.get(folder.casefold())


def _walk(
    folder: Path, parts: tuple[str, ...], above: tuple[tuple[int, int], ...], top: Path
) -> Iterator[DataFile]:
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        yield DataFile(parts, "loop")
        return
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path, below = Path(entry.path), (*parts, entry.name)
        try:
            status = entry.stat()
        except OSError:  # leads nowhere, or in a circle of links
            yield DataFile(below, "broken link")
            continue
        if stat.S_ISDIR(status.st_mode):
            sign = TOOL_FOLDERS.get(entry.name)
            if entry.is_symlink() and top.is_relative_to(path.resolve()):
                yield DataFile(below, "loop")  # and much else on its way
            elif sign is None or not (path / sign).exists():
                yield from _walk(path, below, (*above, identity), top)
        elif not stat.S_ISREG(status.st_mode):
            yield DataFile(below, "special file")
        elif not _of_the_system(entry.name):
            yield DataFile(
                below,
                _kind(entry.name),
                f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}",
                lambda path=path: path.open("rb"),  # type: ignore[misc]
                (status.st_dev, status.st_ino) if status.st_nlink == 1 else None,
            )


def _entries(path: Path, prefix: tuple[str, ...], archives: ExitStack) -> list[DataFile]:
    """Returns the files in a ZIP as if it were a folder."""
    name = printable(path.name)
    try:
        archive = archives.enter_context(zipfile.ZipFile(path))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise InputError(f"{name} is no whole ZIP ({error}): fetch or make it again") from error
    files: dict[tuple[str, ...], DataFile] = {}
    for entry in archive.infolist():
        # Old programs of Windows write its separator.
        path_in_zip = (
            entry.filename.replace("\\", "/") if entry.create_system == 0 else entry.filename
        )
        parts = tuple(part for part in path_in_zip.split("/") if part not in ("", "."))
        if ".." in parts or path_in_zip.startswith("/"):
            raise InputError(
                f"{name} holds a path that leads out of it ({printable(entry.filename)}): it was "
                "not made by an honest program; do not use it"
            )
        if not parts or entry.is_dir() or _of_the_system(parts[-1]):
            continue
        if parts in files or len(files) >= MAX_ENTRIES:
            raise InputError(
                f"{name} holds {printable(entry.filename)} twice or too many files: make it again"
            )
        mode = entry.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            files[parts] = DataFile(parts, "link or special file in a ZIP")
        elif entry.flag_bits & 1:
            raise InputError(f"{name} is encrypted: unpack it, and give the folder")
        else:
            files[parts] = DataFile(
                parts,
                _kind(parts[-1]),
                open=lambda entry=entry: _open_entry(archive, entry, name),  # type: ignore[misc]
            )
    own = {parts[0].casefold() for parts in files if len(parts) > 1}
    skip = 0
    # A ZIP of a folder often holds the folder itself.
    if prefix and own == {prefix[-1].casefold()} and all(len(parts) > 1 for parts in files):
        skip = 1
    return [
        DataFile((*prefix, *file.parts[skip:]), file.kind, file.state, file.open)
        for file in files.values()
    ]


def _open_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> BinaryIO:
    """Returns the content of an entry, an image's as far as `open_image` reads one."""
    is_metadata = entry.filename.lower().endswith(METADATA_FILES)
    try:
        with archive.open(entry) as stream:
            return io.BytesIO(stream.read(MAX_METADATA_BYTES if is_metadata else MAX_BYTES + 1))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise InputError(
            f"{printable(entry.filename)} in {name} is damaged or packed in a way that is not "
            f"known ({error}): make the ZIP again, or unpack it and give the folder"
        ) from error


def _kind(name: str) -> str:
    return Path(name).suffix.lower() or "without a suffix"


def _of_the_system(name: str) -> bool:
    return name.lower() in SYSTEM_FILES or name.startswith("._")
