"""Lists the files of a folder or ZIP, sorted by path; links are followed.

ZIPs are read entry by entry and never unpacked: paths in them have no effect on the file system.
"""

from __future__ import annotations

import functools
import hashlib
import io
import lzma
import os
import stat
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from classifier.data.image_formats import IMAGE_SUFFIXES
from classifier.data.images import OWN_DATA, is_image
from classifier.data.split import split_of
from classifier.errors import InputError

SYSTEM_FILES = frozenset((".ds_store", "thumbs.db", "desktop.ini"))  # of macOS and Windows
# Folders of tools and of the system: `@eaDir` holds the thumbnails of a NAS, `__MACOSX` in a ZIP a
# file of the system for each other file.
TOOL_FOLDERS = frozenset((".git", ".cache", ".ipynb_checkpoints", "@eaDir", "__MACOSX"))
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
MAX_METADATA_BYTES = 2**30
MAX_ENTRIES = 5_000_000  # of a ZIP
# What the methods of compression raise; that of bzip2 is an OSError.
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)


@dataclass(frozen=True, eq=False)
class DataFile:
    """A file of a data set.

    Attributes:
        parts: the components of its path in the data set: "train", "cat", "1.png".
        kind: its name in the summary of skipped files: the suffix in lower case, or for instance
            "broken link".
        state: changes when the file changes.
        open: opens it for reading; None if it cannot be read.
    """

    parts: tuple[str, ...]
    kind: str
    state: str = ""
    open: Callable[[], BinaryIO] | None = None

    @property
    def path(self) -> str:
        """The path in the data set, printable."""
        return printable("/".join(self.parts))

    @property
    def named_as_image(self) -> bool:
        """Whether the suffix is one of `IMAGE_SUFFIXES`."""
        return self.open is not None and self.kind in IMAGE_SUFFIXES

    @functools.cached_property
    def is_image(self) -> bool:
        """Whether to read the file as an image: by its suffix, otherwise by its content."""
        if self.open is None or self.named_as_image:
            return self.named_as_image
        with self.open() as stream:
            return is_image(stream)


def printable(text: str) -> str:
    """Returns text on one line, with characters escaped that are not printable."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def state(place: Path) -> str:
    """Returns a hash of the names, sizes and times of all files, without opening them."""
    if place.is_file():
        return _state(place.stat())
    digest = hashlib.sha256()
    for file in walk(place):
        line = "\0".join((*file.parts, file.kind, file.state, ""))
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def walk(folder: Path) -> Iterator[DataFile]:
    """Yields every file below a folder, except those of the system and of tools.

    Links are followed, but each folder is read once: at its own place if it lies below `folder`,
    else at the first link to it. A further link, or one to a folder above, has the kind "link to a
    folder above it or read elsewhere". ZIPs are not opened. A dangling link has the kind "broken
    link", a pipe, socket or device the kind "special file". A folder with nothing but files of the
    system and of tools has the kind "empty folder".

    Raises:
        OSError: a folder cannot be read.
    """
    seen = {_identity(above.stat()) for above in folder.resolve().parents}
    places: deque[tuple[Path, tuple[str, ...], bool]] = deque([(folder, (), False)])
    while places:
        place, parts, is_link = places.popleft()
        if _identity(place.stat()) in seen:
            yield DataFile(parts, "link to a folder above it or read elsewhere")
            continue
        seen.add(_identity(place.stat()))
        with os.scandir(place) as entries:
            found = sorted(filter(belongs, entries), key=lambda entry: entry.name)
        if parts and not found:
            yield DataFile(parts, "empty folder")
        for entry in reversed(found):
            below = (*parts, entry.name)
            try:
                status = entry.stat()
            except OSError:  # a dangling link, or a cycle of links
                yield DataFile(below, "broken link")
                continue
            if not stat.S_ISDIR(status.st_mode):
                yield _file(entry, below, status)
            elif is_link or entry.is_symlink():
                places.append((Path(entry.path), below, True))  # after all that are no links
            else:
                places.appendleft((Path(entry.path), below, False))


def belongs(entry: os.DirEntry[str]) -> bool:
    """Returns whether an entry of a folder is part of the data set, not of the system or a tool."""
    try:
        return not (entry.name in TOOL_FOLDERS if entry.is_dir() else _is_system_file(entry.name))
    except OSError:  # a cycle of links
        return True


def list_files(place: Path, archives: ExitStack) -> list[DataFile]:
    """Returns the files of a folder or ZIP, sorted by path.

    A ZIP in a folder is treated as a folder of its name, unless it seems to have been unpacked next
    to it: if there is a folder of its name or, for a ZIP that is not named after a split, any image
    or folder.

    Args:
        place: the folder or the ZIP.
        archives: closes the ZIPs; the files can be read while it is open.

    Raises:
        InputError: a ZIP cannot be read.
        OSError: a folder cannot be read.
    """
    if place.is_file():
        return sorted(_entries(place, (), archives), key=lambda file: file.parts)
    files = list(walk(place))
    siblings: dict[tuple[str, ...], set[str]] = {}  # folders and images in each folder
    for file in files:
        for depth in range(len(file.parts) - (not file.named_as_image)):
            siblings.setdefault(file.parts[:depth], set()).add(file.parts[depth])
    found = []
    for file in files:
        above, stem = file.parts[:-1], Path(file.parts[-1]).stem
        found_here = siblings.get(above, set())
        is_packed_folder = stem not in found_here if split_of(stem) else not found_here
        if file.kind == ".zip" and is_packed_folder:
            found += _entries(place.joinpath(*file.parts), (*above, stem), archives)
        else:
            found.append(file)
    return sorted(found, key=lambda file: file.parts)


def _file(entry: os.DirEntry[str], parts: tuple[str, ...], status: os.stat_result) -> DataFile:
    if not stat.S_ISREG(status.st_mode):
        return DataFile(parts, "special file")
    path = Path(entry.path)
    return DataFile(parts, _kind(entry.name), _state(status), lambda: path.open("rb"))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _state(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _entries(path: Path, prefix: tuple[str, ...], archives: ExitStack) -> list[DataFile]:
    """Returns the files in a ZIP with paths as if it were a folder."""
    name = printable(path.name)
    try:
        # macOS writes names in UTF-8 without the flag that says so.
        archive = archives.enter_context(zipfile.ZipFile(path, metadata_encoding="utf-8"))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise InputError(
            f"{name} is not a complete ZIP with names in UTF-8 ({error}): download or create it "
            "again"
        ) from error
    files: dict[tuple[str, ...], DataFile] = {}
    folders: set[tuple[str, ...]] = set()
    for entry in archive.infolist():
        inner = entry.filename
        parts = tuple(part for part in inner.split("/") if part not in ("", "."))
        if ".." in parts or inner.startswith("/"):
            raise InputError(
                f"{name} holds a path outside of it ({printable(inner)}): it may be "
                "malicious; do not use it"
            )
        if not parts or not TOOL_FOLDERS.isdisjoint(parts[: len(parts) - (not entry.is_dir())]):
            continue
        if entry.is_dir() or _is_system_file(parts[-1]):
            folders.add(parts if entry.is_dir() else parts[:-1])
            continue
        if parts in files or len(files) >= MAX_ENTRIES:
            raise InputError(
                f"{name} holds {printable(inner)} twice or too many files: create it again"
            )
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            files[parts] = DataFile(parts, "link or special file in a ZIP")
        else:
            files[parts] = DataFile(
                parts, _kind(parts[-1]), open=functools.partial(_open_entry, archive, entry, name)
            )
    not_empty = {parts[:depth] for parts in (*files, *folders) for depth in range(len(parts))}
    for parts in folders - not_empty - {()}:
        files[parts] = DataFile(parts, "empty folder")
    # A ZIP of a folder often has that folder as its only entry.
    skip = bool(prefix) and all(
        len(parts) > 1 and parts[0].casefold() == prefix[-1].casefold() for parts in files
    )
    return [replace(file, parts=(*prefix, *file.parts[skip:])) for file in files.values()]


def _open_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> BinaryIO:
    """Returns the content of an entry, of an image at most what `open_image` accepts."""
    is_metadata = entry.filename.lower().endswith(METADATA_FILES)
    try:
        with archive.open(entry) as stream:
            return io.BytesIO(
                stream.read(MAX_METADATA_BYTES if is_metadata else OWN_DATA.bytes + 1)
            )
    except (*DAMAGED, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{printable(entry.filename)} in {name} cannot be unpacked "
            f"({error}): create the ZIP again, or unpack it and give the folder"
        ) from error


def _kind(name: str) -> str:
    return Path(name).suffix.lower() or "without a suffix"


def _is_system_file(name: str) -> bool:
    return name.lower() in SYSTEM_FILES or name.startswith("._")
