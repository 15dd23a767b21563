"""The figures of the page: what each shows, and where they are kept."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from classifier.model_folder.folder import ModelFolder
from evaluation import plots
from interface import drawing, figures
from interface.drawing import Drawing, FigureCache
from interface.serving import Models, Served
from interface.translations import LANGUAGES, words


@pytest.fixture
def models(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Models]:
    """A copy of the tiny model, whose files a test may change, and an empty cache."""
    monkeypatch.setenv("CIFAR100_MLP_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(tiny_model_folder, tmp_path / "tiny")
    started = Models([Served("tiny", ModelFolder(folder), "folder")])
    yield started
    started.stop()


def test_every_figure_can_be_requested_and_has_an_alternative_text() -> None:
    assert set(figures.DRAWN) == set(plots.FIGURES)
    for name in figures.DRAWN:
        assert set(words().get(f"alt_{name}", ())) == set(LANGUAGES), name


def test_prepared_figures_are_kept_and_drawn_again_when_the_data_change(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = models.get()
    look = figures.LOOKS[0]
    wanted = list(figures.drawings_of(served, [look]))
    assert {found.figure for found in wanted} == set(figures.DRAWN) - set(figures.CHOSEN)
    kept = tmp_path / "cache" / "figures"
    kept.mkdir(parents=True)
    (kept / "unused.png").write_bytes(b"")
    os.utime(kept / "unused.png", (0, 0))
    monkeypatch.setattr(drawing, "MAX_FILES", len(wanted))
    models.figures.prepare(wanted)
    while len(list(kept.glob("[!.]*.png"))) < len(wanted) or (kept / "unused.png").exists():
        time.sleep(0.1)
    again = FigureCache()  # of an app that is started later
    try:
        for found in wanted:
            assert again.get(found).done(), found.figure
        chosen = Drawing(served.folder.path, "roc", choice=(1, 2))
        assert again.get(chosen).result(60).startswith(b"\x89PNG")
        assert len(list(kept.glob("[!.]*.png"))) == len(wanted)  # a visitor's choice is not kept
    finally:
        again.stop()
    before = wanted[0].digest
    evaluation = served.folder.path / "evaluation.json"
    evaluation.write_text(evaluation.read_text() + " ")
    drawing.content_of.cache_clear()
    assert wanted[0].digest != before
