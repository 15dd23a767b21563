"""Draws the figures of the page in processes of their own, and keeps them in the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pebble import ProcessPool

from classifier.data.array_cache import CACHE_ERRORS, cache_folder, keep_newest
from classifier.errors import InputError
from classifier.files import write_atomically
from classifier.model_folder.folder import EVALUATION, HISTORY, LABELS, PREDICTIONS, ModelFolder
from evaluation.curves import Records
from evaluation.themes import THEMES
from interface.translations import LANGUAGES, locale

FORMS = ("wide", "narrow")  # the second for phones
PROCESSES = 2  # for two cores
NICENESS = 10  # answers to visitors come first
MAX_FILES = 2000  # of the figures on disk; beyond this many, those that were used longest ago go
IN_MEMORY = 200  # figures of about 150 KB
_PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Drawing:
    """What a figure shows; the same drawing gives the same file.

    Attributes:
        source: a model folder, or a file of measurements.
        figure: of `evaluation.plots`.
        theme: a key of `THEMES`.
        language: one of `LANGUAGES`.
        form: one of `FORMS`.
        choice: the classes, by index, or the models, by name, that it is about.
    """

    source: Path
    figure: str
    theme: str = "light"
    language: str = LANGUAGES[0]
    form: str = FORMS[0]
    choice: tuple[Any, ...] = ()

    @property
    def digest(self) -> str:
        """Identifies the content of the file: the data, the choice and the code that draws."""
        look = (self.figure, self.theme, self.language, self.form, self.choice)
        return hashlib.sha256(f"{content_of(self.source)} {_code()} {look}".encode()).hexdigest()


class FigureCache:
    """Draws figures when they are asked for, or in the background before that."""

    def __init__(self, niceness: int = NICENESS) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPool(
            PROCESSES, initializer=_prepare, initargs=(niceness,), context=context
        )
        self._figures: dict[Drawing, Future[bytes]] = {}  # the last used at the end
        self._lock = threading.Lock()
        self._stopped = False

    def get(self, drawing: Drawing, *, keep: bool = False) -> Future[bytes]:
        """Returns a figure as a PNG file's content; the result raises what `draw` raises.

        Args:
            drawing: the figure.
            keep: whether it is kept on disk: visitors' choices would fill it.
        """
        with self._lock:
            found = self._figures.pop(drawing, None)
            if found is None or (found.done() and (found.cancelled() or found.exception())):
                found = self._find(drawing, keep)
            self._figures[drawing] = found
            while len(self._figures) > IN_MEMORY:
                del self._figures[next(iter(self._figures))]
        return found

    def prepare(self, drawings: Iterable[Drawing]) -> None:
        """Draws figures in the background, and keeps them on disk."""

        def draw_next(drawing: Drawing) -> None:
            # What fails here is told to who asks for the figure.
            with contextlib.suppress(Exception):
                if (file := _file(drawing)).exists():
                    os.utime(file)  # it is in use
                elif not self._stopped:
                    self.get(drawing, keep=True).result()

        def draw_all() -> None:
            # As many at once as there are processes: what visitors ask for comes next.
            with ThreadPoolExecutor(PROCESSES) as threads:
                list(threads.map(draw_next, drawings))
            with contextlib.suppress(*CACHE_ERRORS):
                keep_newest((cache_folder() / "figures").glob("*.png"), MAX_FILES)

        threading.Thread(target=draw_all, name="figures", daemon=True).start()

    def stop(self) -> None:
        """Kills the processes, and cancels the figures that they were to draw."""
        with self._lock:
            self._stopped = True
            self._pool.stop()
            for figure in self._figures.values():
                figure.cancel()  # otherwise those who wait for it keep the app from ending
        self._pool.join()

    def _find(self, drawing: Drawing, keep: bool) -> Future[bytes]:
        with contextlib.suppress(*CACHE_ERRORS):
            found: Future[bytes] = Future()
            found.set_result(_file(drawing).read_bytes())
            return found
        return self._pool.schedule(_draw_and_keep if keep else draw, (drawing,))


def draw(drawing: Drawing) -> bytes:
    """Draws a figure, and returns it as a PNG file's content.

    Raises:
        InputError: the source has no data for it.
    """
    from evaluation import plots  # matplotlib: slow, and not needed by the app itself

    style = {
        "theme": THEMES[drawing.theme],
        "locale": locale(drawing.language),
        "narrow": drawing.form == FORMS[1],
    }
    if drawing.source.is_dir():
        classes = [drawing.choice] if drawing.choice else []
        figure = plots.FIGURES[drawing.figure](_records(drawing.source), *classes, **style)
    else:
        draw_comparison, field = plots.COMPARISONS[drawing.figure]
        measured = json.loads(drawing.source.read_text(encoding="utf-8"))
        figure = draw_comparison(measured[field], *drawing.choice, **style)
    return plots.png(figure)


@lru_cache(4)
def _records(source: Path) -> Records:
    folder = ModelFolder(source)
    evaluation, predictions = folder.evaluation, folder.predictions()
    if evaluation is None or predictions is None:
        raise InputError("the model is not evaluated")
    return Records(folder.labels, evaluation, predictions, folder.history)


@lru_cache(64)
def content_of(source: Path) -> str:
    """Returns a hash of what is drawn of a model folder or a file of measurements."""
    found = hashlib.sha256()
    names = (EVALUATION, PREDICTIONS, LABELS, HISTORY)
    for path in [source / name for name in names] if source.is_dir() else [source]:
        found.update(path.read_bytes() if path.exists() else b"")
        found.update(b"/")
    return found.hexdigest()


def _file(drawing: Drawing) -> Path:
    return cache_folder() / "figures" / f"{drawing.digest}.png"


def _prepare(niceness: int) -> None:
    os.nice(niceness)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends it at once, also while it draws


def _draw_and_keep(drawing: Drawing) -> bytes:
    content = draw(drawing)
    with contextlib.suppress(*CACHE_ERRORS):
        file = _file(drawing)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, lambda path: path.write_bytes(content))
    return content


@cache
def _code() -> str:
    """Returns a hash of the code and the texts of figures."""
    found = hashlib.sha256(version("matplotlib").encode())
    texts = [Path(__file__), _PROJECT / "interface" / "class_names.yaml"]
    for path in [*sorted((_PROJECT / "evaluation").rglob("*.[py]*")), *texts]:
        if path.suffix in (".py", ".yaml"):
            found.update(path.read_bytes())
    return found.hexdigest()
