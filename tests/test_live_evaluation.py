"""What the evaluation tab does with the test images: it finds them, shows mistakes, runs again."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier.data.loading import load_split
from classifier.errors import ClassifierError
from classifier.model_folder.folder import ModelFolder
from hub_server import Hub, files_of
from interface import mistakes, rerun
from interface.evaluated_images import EvaluatedImages, ImagesMissingError
from interface.rerun import Progress
from interface.serving import Models, Served, UnknownModelError


@pytest.fixture
def images() -> EvaluatedImages:
    return EvaluatedImages()


@pytest.fixture
def served(tiny_model_folder: Path, tmp_path: Path) -> Served:
    """A copy of the tiny model, whose files a test may change."""
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_model_folder, folder)
    return Served("tiny", ModelFolder(folder), "folder")


@pytest.fixture(scope="module")
def models(tiny_model_folder: Path) -> Iterator[Models]:
    started = Models([Served("tiny", ModelFolder(tiny_model_folder), "folder")])
    started.runtime.start()
    yield started
    started.stop()


def change(served: Served, **values: Any) -> None:
    """Changes what the model's evaluation says."""
    path = served.folder.path / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def reason(images: EvaluatedImages, served: Served) -> str:
    """Why the images cannot be had."""
    with pytest.raises(ImagesMissingError) as caught:
        asyncio.run(images.load(served))
    return caught.value.reason


def test_the_operators_copy_is_taken(images, served, small_dataset, monkeypatch):
    monkeypatch.setenv("DATASET", str(small_dataset))
    assert not images.is_cached(served)
    found = asyncio.run(images.load(served))
    np.testing.assert_array_equal(found, load_split(str(small_dataset), "test").images)
    assert images.is_cached(served)


def test_a_data_set_of_the_hub_is_fetched(images, served, small_dataset, hub: Hub):
    hub.put(hub.create("datasets", "user/shapes"), files_of(small_dataset))
    change(served, dataset="user/shapes")
    found = asyncio.run(images.load(served))
    np.testing.assert_array_equal(found, load_split(str(small_dataset), "test").images)


@pytest.mark.parametrize("name", ["shapes", "", "/etc/passwd", "../../etc", "a/b/c"])
def test_a_name_in_the_evaluation_opens_no_file(images, served, name):
    change(served, dataset=name)
    assert reason(images, served) == "local"


@pytest.mark.parametrize("what", ["fingerprint", "labels"])
def test_other_images_than_those_evaluated_are_not_shown(
    images, served, small_dataset, monkeypatch, what
):
    monkeypatch.setenv("DATASET", str(small_dataset))
    if what == "fingerprint":
        change(served, dataset_fingerprint="0" * 32)
    else:
        change(served, dataset_fingerprint=None)
        stored = served.predictions
        assert stored is not None
        np.savez(
            served.folder.path / "predictions.npz", probabilities=stored[0], labels=stored[1][::-1]
        )
    assert reason(images, Served("again", served.folder, "folder")) == "other"


def test_mistakes_are_sorted_by_confidence_and_filtered(served):
    probabilities, labels = served.predictions
    answers, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    every = mistakes.mistakes(served)
    assert set(every) == set(np.flatnonzero(answers != labels))
    assert (np.diff(sure[every]) <= 0).all()
    assert len(every) > 0
    for label in range(6):
        of_class = mistakes.mistakes(served, label)
        assert set(of_class) == {index for index in every if labels[index] == label}


def test_a_live_evaluation_gives_the_published_figures(models, images, small_dataset, monkeypatch):
    monkeypatch.setenv("DATASET", str(small_dataset))
    served = models.get()

    async def collect() -> list[Progress]:
        return [progress async for progress in rerun.evaluate(models, images, served, 10_000)]

    steps = asyncio.run(collect())
    assert [step.done for step in steps] == [0, 50, 60]
    last = steps[-1]
    assert last.right / last.total == pytest.approx(served.evaluation["top1"], abs=1e-6)
    assert last.same == last.done == last.total == 60


def test_a_live_evaluation_that_is_left_asks_nothing_more(
    models, images, small_dataset, monkeypatch
):
    monkeypatch.setenv("DATASET", str(small_dataset))
    monkeypatch.setattr(rerun, "BATCH_SIZE", 1)
    asked = []
    ask = models.runtime.predict
    monkeypatch.setattr(models.runtime, "predict", lambda *call: asked.append(call) or ask(*call))

    async def leave() -> None:
        running = rerun.evaluate(models, images, models.get(), 60)
        async for progress in running:
            if progress.done == 3:
                break
        await running.aclose()
        await asyncio.sleep(0.3)

    asyncio.run(leave())
    assert len(asked) == 3


def test_a_live_evaluation_ends_when_another_revision_takes_the_models_place(
    models, images, small_dataset, monkeypatch
):
    monkeypatch.setenv("DATASET", str(small_dataset))
    old = Served("tiny", models.get().folder, "hub", "0" * 40)

    async def run() -> None:
        async for _ in rerun.evaluate(models, images, old, 60):
            pass

    with pytest.raises(UnknownModelError):
        asyncio.run(run())


def test_a_revision_that_answers_no_numbers_does_not_take_the_models_place(models, monkeypatch):
    def no_numbers(model, images):
        return np.full((len(images), 6), np.nan, np.float32)

    monkeypatch.setattr("classifier.prediction.runtime.OnnxModel.probabilities", no_numbers)
    before = models.get().key
    with pytest.raises(ClassifierError, match="does not answer with probabilities"):
        models.replace(Served("tiny", models.get().folder, "hub", "1" * 40))
    assert models.get().key == before
