"""Lists the files of a folder or ZIP, sorted by path; links are followed.

ZIPs are read entry by entry and never unpacked: paths in them have no effect on the file system.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from classifier.data.image_formats import IMAGE_SUFFIXES
from classifier.data.images import is_image

SYSTEM_FILES = frozenset((".ds_store", "thumbs.db", "desktop.ini"))  # of macOS and Windows
# Folders of tools and of the system: `@eaDir` holds the thumbnails of a NAS, `__MACOSX` in a ZIP a
# file of the system for each other file.
TOOL_FOLDERS = frozenset((".git", ".cache", ".ipynb_checkpoints", "@eaDir", "__MACOSX"))
READ_ELSEWHERE, EMPTY = "link to a folder above it or read elsewhere", "empty folder"  # kinds
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


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


def walk(
    folder: Path, *, on_error: Callable[[OSError], object] | None = None
) -> Iterator[DataFile]:
    """Yields every file below a folder, except those of the system and of tools, sorted by name.

    Links are followed, but each folder is read once: at its own place if it lies below `folder`,
    else at the first link to it. A further link, or one to a folder above, has the kind
    `READ_ELSEWHERE`. ZIPs are not opened. A dangling link has the kind "broken link", a pipe,
    socket or device the kind "special file". A folder with nothing but files of the system and of
    tools has the kind `EMPTY`.

    Args:
        folder: is read recursively, links to folders after all else.
        on_error: takes the error of each folder that cannot be read; by default it is raised.
    """
    seen = {identity(above.stat()) for above in folder.resolve().parents}
    waiting: deque[tuple[Path, tuple[str, ...], bool]] = deque([(folder, (), True)])
    while waiting:
        place, parts, follow = waiting.popleft()
        try:
            status = place.stat()
        except OSError:  # a dangling link, or a cycle of links
            yield DataFile(parts, "broken link")
            continue
        if not stat.S_ISDIR(status.st_mode):
            yield _file(place, parts, status)
        elif not follow and place.is_symlink():
            waiting.append((place, parts, True))
        elif identity(status) in seen:
            yield DataFile(parts, READ_ELSEWHERE)
        else:
            seen.add(identity(status))
            try:
                with os.scandir(place) as entries:
                    names = sorted(entry.name for entry in entries if _belongs(entry))
            except OSError as error:
                if on_error is None:
                    raise
                on_error(error)
                continue
            if parts and not names:
                yield DataFile(parts, EMPTY)
            follow = follow and bool(parts)  # below a link there are only links left to wait for
            waiting.extendleft((place / name, (*parts, name), follow) for name in reversed(names))


def _belongs(entry: os.DirEntry[str]) -> bool:
    """Returns whether an entry of a folder is part of the data set, not of the system or a tool."""
    try:
        return not (entry.name in TOOL_FOLDERS if entry.is_dir() else _is_system_file(entry.name))
    except OSError:  # a cycle of links
        return True


def list_files(place: Path, archives: ExitStack) -> list[DataFile]:
    """Returns the files of a folder or ZIP, sorted by path.

    Those of a ZIP can be read until it is closed by `archives`.
    """
    if place.is_dir():
        return sorted(walk(place), key=lambda file: file.parts)
    # macOS writes names in UTF-8 without the flag that says so.
    archive = archives.enter_context(zipfile.ZipFile(place, metadata_encoding="utf-8"))
    files = {}
    for entry in archive.infolist():
        parts = tuple(part for part in entry.filename.split("/") if part not in ("", "."))
        if entry.is_dir() or not parts:
            continue
        if TOOL_FOLDERS.isdisjoint(parts[:-1]) and not _is_system_file(parts[-1]):
            opening = functools.partial(archive.open, entry)
            files[parts] = DataFile(parts, _kind(parts[-1]), open=opening)  # type: ignore[arg-type]
    return [files[parts] for parts in sorted(files)]


def _file(path: Path, parts: tuple[str, ...], status: os.stat_result) -> DataFile:
    if not stat.S_ISREG(status.st_mode):
        return DataFile(parts, "special file")
    return DataFile(parts, _kind(path.name), _state(status), lambda: path.open("rb"))


def identity(status: os.stat_result) -> tuple[int, int]:
    """Returns device and inode, which identify a file or folder on this machine."""
    return status.st_dev, status.st_ino


def _state(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _kind(name: str) -> str:
    return Path(name).suffix.lower() or "without a suffix"


def _is_system_file(name: str) -> bool:
    return name.lower() in SYSTEM_FILES or name.startswith("._")
