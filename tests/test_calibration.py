"""Temperature scaling: found where the validation images determine it, else near 1."""

import keras
import numpy as np
import pytest

from classifier.architectures import build_network
from classifier.settings import Settings
from classifier.training import calibration, saving
from classifier.training.calibration import (
    Calibration,
    calibrate,
    fit_temperature,
    fold_temperature,
)
from classifier.training.distillation import soften

MEAN, DEVIATION = np.full(3, 120.0, "float32"), np.full(3, 65.0, "float32")
MLP = Settings(hidden_units=(24, 16))
CNN = Settings(architecture="cnn", channels=(4, 6, 8), tta_flip=True, tta_zoom=0.7)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3)).astype("uint8")


def exported(settings: Settings) -> tuple[keras.Model, keras.Model]:
    network = build_network(settings, classes=7, mean=MEAN, deviation=DEVIATION)
    return network, saving.exportable(network, settings, mean=MEAN, deviation=DEVIATION)


def answers(count: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities, (N, 10), of logits times the sharpness, and labels drawn at 1."""
    random = np.random.default_rng(0)
    true = soften(np.exp(random.normal(0, 2, (count, 10))), 1.0)
    labels = np.array([random.choice(10, p=row) for row in true])
    return soften(true, 1 / sharpness), labels


def loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def test_fold_temperature_changes_probabilities_and_not_their_order(images):
    model, _ = exported(MLP)
    before = model.predict(images, verbose=0)
    fold_temperature(model, 2.5)
    after = model.predict(images, verbose=0)
    np.testing.assert_allclose(after, soften(before, 2.5), atol=1e-5)
    np.testing.assert_array_equal(before.argsort(axis=1), after.argsort(axis=1))


@pytest.mark.parametrize("sharpness", [1, 3])
def test_fit_temperature_finds_what_many_images_determine(sharpness):
    probabilities, labels = answers(4000, sharpness)
    fitted = fit_temperature(probabilities[None], labels)
    assert fitted.temperature == pytest.approx(sharpness, rel=0.08)
    assert fitted.interval[0] < fitted.temperature < fitted.interval[1]
    assert fitted.interval[1] / fitted.interval[0] < 1.1
    assert fitted.determined


def test_views_that_disagree_are_not_sharpened_without_end():
    views = np.full((2, 500, 10), 0.005)
    views[0, :, 3] = views[1, :250, 3] = views[1, 250:, 4] = 0.955
    assert fit_temperature(views, np.full(500, 3)).temperature > 0.3


@pytest.mark.parametrize("views", [1, 4])
@pytest.mark.parametrize("count", [1, 4, 10, 20])
def test_fit_temperature_stays_near_1_with_few_images_all_right(count, views):
    probabilities = np.full((count, 10), 0.02)
    probabilities[:, 3] = 0.82
    fitted = fit_temperature(np.stack([probabilities] * views), np.full(count, 3))
    assert 0.6 < fitted.temperature <= 1
    assert not fitted.determined


@pytest.mark.parametrize("count", [1, 3, 10, 30, 100])
def test_fit_temperature_never_makes_the_loss_of_others_much_worse(count):
    test, test_labels = answers(4000, 1)
    for start in range(0, 20 * count, count):
        part = slice(start, start + count)
        fitted = fit_temperature(test[None, part], test_labels[part])
        softened = soften(test, fitted.temperature)
        assert loss(softened, test_labels) < 1.05 * loss(test, test_labels)


def test_the_mean_of_views_is_as_confident_as_it_is_right():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (4000, 10))
    labels = np.array([random.choice(10, p=row) for row in soften(np.exp(logits), 1.0)])
    noise = random.normal(0, 1, (4, 4000, 10))  # each view sees it a little differently
    views = np.stack([soften(np.exp(logits + more), 1 / 3) for more in noise])
    fitted = fit_temperature(views, labels)
    mean = np.mean([soften(view, fitted.temperature) for view in views], axis=0)
    right = np.mean(mean.argmax(axis=1) == labels)
    assert fitted.temperature > 1.5
    assert mean.max(axis=1).mean() == pytest.approx(right, abs=0.01)


def test_calibrate_sees_every_view_of_every_image_in_its_place(images, monkeypatch):
    monkeypatch.setattr(calibration, "BATCH_SIZE", 20)  # 50 images: the last batch is smaller
    received = []
    found = Calibration(2.0, (1.9, 2.1), 50, True)
    monkeypatch.setattr(
        calibration, "fit_temperature", lambda views, labels: received.append(views) or found
    )
    plain, model = exported(CNN)
    before = model.predict(images, verbose=0)
    targets = np.eye(7, dtype="float32")[np.zeros(len(images), int)]
    assert calibrate(model, (images, targets)) == found
    assert received[0].shape == (4, 50, 7)
    np.testing.assert_allclose(received[0][0], plain.predict(images, verbose=0), atol=1e-5)
    mirrored = plain.predict(images[:, :, ::-1], verbose=0)
    np.testing.assert_allclose(received[0][2], mirrored, atol=1e-5)
    np.testing.assert_allclose(received[0].mean(axis=0), before, atol=1e-5)
    expected = np.mean([soften(view, 2.0) for view in received[0]], axis=0)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)
