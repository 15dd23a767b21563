"""The figures of the page: what each shows, and where they are kept."""

import asyncio
import io
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    models: Models, tmp_path: Path
) -> None:
    served = models.get()
    look = next(figures.looks())
    wanted = list(figures.drawings_of(served, [look]))
    assert {found.figure for found in wanted} == set(figures.DRAWN) - set(figures.CHOSEN)
    kept = tmp_path / "cache" / "figures"
    kept.mkdir(parents=True)
    (kept / "unused.png").write_bytes(b"")
    os.utime(kept / "unused.png", (0, 0))
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


def test_a_point_of_the_matrix_belongs_to_the_class_that_is_drawn_there(models: Models) -> None:
    """Draws matrices of one dark cell, finds the cell in the picture, and asks whose it is."""
    path = models.get().folder.path / "evaluation.json"
    for chosen in (0, 2, 5):
        matrix = np.zeros((6, 6), int)
        matrix[chosen, chosen] = 10
        changed = {**json.loads(path.read_text()), "confusion_matrix": matrix.tolist()}
        path.write_text(json.dumps(changed))
        cache = models.figures = FigureCache()
        try:
            content = cache.get(Drawing(path.parent, "confusion_matrix")).result(60)
            pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
            colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
            large = colours[counts > 9000]  # no letters
            darkest = large[large.sum(axis=1).argmin()]
            rows, columns = np.nonzero((pixels == darkest).all(axis=2))
            x, y = columns.mean() / pixels.shape[1], rows.mean() / pixels.shape[0]
            matrix_url = "figures/confusion_matrix.png?model=tiny"

            def class_at(x: float, y: float, url: str = matrix_url) -> int | None:
                return asyncio.run(figures.class_at(models, url, x, y))

            assert class_at(x, y) == chosen
            assert class_at(0.02, y) == chosen  # the name beside the row
            assert class_at(x, 0.01) is None
            assert class_at(x, y, "figures/training.png?model=tiny") is None
        finally:
            cache.stop()
