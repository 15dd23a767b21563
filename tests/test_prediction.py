"""One Classifier for the app, the evaluation and the tests: what it says of a picture."""

from pathlib import Path

import numpy as np
import pytest

from classifier.data.images import to_model_input
from classifier.errors import InputError
from classifier.model_folder.folder import ModelFolder
from classifier.prediction.classifier import Classifier
from model_folders import make_model_folder
from pictures import encoded, scene


@pytest.fixture(scope="module")
def classifier(tiny_model_folder: Path) -> Classifier:
    return Classifier.load(tiny_model_folder)


def test_probabilities_are_those_of_the_keras_model(
    classifier: Classifier, tiny_model_folder: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    expected = np.asarray(ModelFolder(tiny_model_folder).load_model()(images.astype("float32")))
    found = classifier.probabilities(images)
    assert found.dtype == np.float32
    assert found.shape == (5, 6)
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-5


def test_batches_and_number_formats_do_not_change_the_answer(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(1).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    whole = classifier.probabilities(images)
    monkeypatch.setattr(classifier, "batch_size", 3)
    assert np.abs(classifier.probabilities(images) - whole).max() < 1e-5
    assert np.abs(classifier.probabilities(images.astype(np.float64)) - whole).max() < 1e-5


@pytest.mark.parametrize("size", [8, 33, 96])
def test_a_picture_is_brought_to_the_size_that_the_model_takes(tmp_path: Path, size: int) -> None:
    classifier = Classifier.load(make_model_folder(tmp_path / "model", size=size))
    assert classifier.image_size == size
    prediction = classifier.classify(scene())
    np.testing.assert_array_equal(prediction.model_input, to_model_input(scene(), size))
    with pytest.raises(InputError, match=rf"must be \(N, {size}, {size}, 3\)"):
        classifier.probabilities(np.zeros((2, size + 1, size + 1, 3)))


def test_a_picture_gets_its_likeliest_classes_and_superclasses(classifier: Classifier) -> None:
    prediction = classifier.classify(encoded(scene(), "PNG"), top=3)
    everything = classifier.probabilities(to_model_input(scene())[None])[0]
    assert len(prediction.labels) == 3
    assert prediction.labels[0] == classifier.labels.classes[int(everything.argmax())]
    assert list(prediction.probabilities) == sorted(prediction.probabilities, reverse=True)
    assert set(prediction.superclasses) == {"animals", "things"}
    assert sum(prediction.superclass_probabilities) == pytest.approx(1, abs=1e-5)
    assert prediction.superclass == prediction.superclasses[0]
    assert prediction.model_input.shape == (32, 32, 3)
    assert prediction.confidences == dict(
        zip(prediction.labels, prediction.probabilities, strict=True)
    )
