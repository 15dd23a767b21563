"""The loaded models: who is answered when, together with whom, and by what."""

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier.convert import sample_images
from classifier.errors import ClassifierError, InputError
from classifier.model_folder.folder import ClassNames, ModelFolder
from classifier.prediction import runtime as prediction
from classifier.prediction.classifier import Classifier
from classifier.prediction.runtime import OnnxModel
from interface.runtime import Runtime
from model_folders import CLASSES, LABELS

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3)).astype("uint8")
PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    started = Runtime()
    started.start()
    yield started
    started.stop()


class Halted:
    """Halts the models while it is entered, and counts the images of each answer after that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: list[int] = []
        self._go_on = threading.Event()
        self._go_on.set()
        answer = OnnxModel.probabilities

        def halt(model: OnnxModel, images: np.ndarray) -> np.ndarray:
            self._go_on.wait(60)
            self.counts.append(len(images))
            return answer(model, images)

        monkeypatch.setattr(OnnxModel, "probabilities", halt)

    def __enter__(self) -> None:
        self._go_on.clear()

    def __exit__(self, *_: object) -> None:
        self._go_on.set()


def keep_busy(runtime: Runtime) -> None:
    """Asks a question, and returns when it is being answered."""
    first = runtime.predict("tiny", IMAGES[:1])
    while not first.running():
        time.sleep(0.01)


@pytest.fixture
def halted(monkeypatch: pytest.MonkeyPatch) -> Halted:
    return Halted(monkeypatch)


@pytest.mark.parametrize("name", ["mlp", "mlp-alone", "mlp-baseline", "cnn"])
def test_the_embedded_models_answer_as_in_keras(name: str) -> None:
    folder = ModelFolder(PROJECT / "pretrained" / name)
    images = sample_images(folder.image_size)[:40]
    expected = Classifier.load(folder).probabilities(images)
    model = prediction.load(folder)
    assert isinstance(model, OnnxModel)
    np.testing.assert_allclose(model.probabilities(images), expected, atol=1e-4)
    np.testing.assert_allclose(model.probabilities(images[:1]), expected[:1], atol=1e-4)


def test_a_layer_that_onnx_runtime_does_not_take_is_answered_by_keras(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import keras

    images = keras.Input((32, 32, 3))
    features = keras.layers.GroupNormalization(3)(images)
    answer = keras.layers.Dense(len(CLASSES), activation="softmax")(
        keras.layers.Flatten()(features)
    )
    folder = ModelFolder(tmp_path / "grouped")
    keras.Model(images, answer).save(folder.path, zipped=False)
    LABELS.write(folder.path)
    with caplog.at_level(logging.WARNING):
        model = prediction.load(folder)
    assert [record.message for record in caplog.records if "grouped" in record.message] == [
        "grouped is answered by Keras: the model uses GroupNormalization, which is not translated "
        "to ONNX: convert to litert"
    ]
    expected = Classifier.load(folder).probabilities(IMAGES)
    np.testing.assert_allclose(model.probabilities(IMAGES), expected, atol=1e-6)


def test_load_refuses_outputs_that_are_not_the_classes(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    ClassNames("shapes", CLASSES[:5]).write(folder)
    with pytest.raises(InputError, match=r"to \(None, 5\)"):
        prediction.load(ModelFolder(folder))


def test_questions_that_wait_are_answered_together_and_each_gets_its_own(
    runtime: Runtime, tiny_model_folder: Path, halted: Halted
) -> None:
    runtime.load("tiny", tiny_model_folder).result(60)
    sizes = [1, 3, 1, 2, 5, 1, 1, 9]
    parts = np.split(IMAGES, np.cumsum(sizes))[: len(sizes)]
    with halted:
        keep_busy(runtime)
        answers = [runtime.predict("tiny", part) for part in parts]
    expected = Classifier.load(tiny_model_folder).probabilities(IMAGES)
    start = 0
    for part, answer in zip(parts, answers, strict=True):
        found = answer.result(60)
        np.testing.assert_allclose(found, expected[start : start + len(part)], atol=1e-5)
        start += len(part)
    assert halted.counts[-2:] == [1, sum(sizes)]


def test_a_question_waits_for_its_model_and_for_no_other(
    runtime: Runtime, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    load = prediction.load

    def slow(folder: ModelFolder) -> Any:
        assert folder.path == tiny_model_folder or go_on.wait(60)
        return load(ModelFolder(tiny_model_folder))

    monkeypatch.setattr(prediction, "load", slow)
    runtime.load("first", tiny_model_folder)
    runtime.load("second", tiny_model_folder.parent)
    second = runtime.predict("second", IMAGES[:1])
    assert runtime.predict("first", IMAGES[:1]).result(60).shape == (1, 6)
    assert not second.done()
    go_on.set()
    assert second.result(60).shape == (1, 6)


def test_a_folder_that_is_no_model_fails_alone(
    runtime: Runtime, tiny_model_folder: Path, tmp_path: Path
) -> None:
    bad = runtime.load("bad", tmp_path)
    runtime.load("tiny", tiny_model_folder)
    with pytest.raises(ClassifierError):
        bad.result(60)
    with pytest.raises(ClassifierError, match="cannot answer"):
        runtime.predict("bad", IMAGES[:1]).result(60)
    assert runtime.predict("tiny", IMAGES[:1]).result(60).shape == (1, 6)


def test_an_error_of_a_model_is_told_and_the_next_question_is_answered(
    runtime: Runtime, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.load("tiny", tiny_model_folder).result(60)
    with monkeypatch.context() as patched:

        def fail(model: OnnxModel, images: np.ndarray) -> np.ndarray:
            raise MemoryError("of /somewhere")

        patched.setattr(OnnxModel, "probabilities", fail)
        with pytest.raises(ClassifierError, match=r"cannot answer: MemoryError$"):
            runtime.predict("tiny", IMAGES[:1]).result(60)
    assert runtime.predict("tiny", IMAGES[:1]).result(60).shape == (1, 6)


def test_whoever_waits_at_the_end_is_told(
    runtime: Runtime, tiny_model_folder: Path, halted: Halted
) -> None:
    runtime.load("tiny", tiny_model_folder).result(60)
    with halted:
        keep_busy(runtime)
        waiting = runtime.predict("tiny", IMAGES[:1])
        runtime.stop()
        assert waiting.cancelled()
        with pytest.raises(ClassifierError):
            runtime.predict("tiny", IMAGES[:1])
