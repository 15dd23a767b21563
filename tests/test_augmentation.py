"""Augmentation keeps shape, range and label mass, and moves pixels as it says."""

import keras
import numpy as np
import pytest

from classifier.settings import Settings
from classifier.training.augmentation import Augmentation

STRONG = Settings(
    flip=0.5,
    crop_area=0.3,
    crop_aspect=1.5,
    shift=4,
    brightness=0.3,
    contrast=0.5,
    erasing=0.5,
    cutmix=0.5,
    mixup=0.8,
    seed=3,
)


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (64, 32, 32, 3)).astype("uint8")
    targets = np.eye(10, dtype="float32")[random.integers(0, 10, 64)]
    return images, targets


def augment(settings: Settings, batch: tuple) -> tuple[np.ndarray, np.ndarray]:
    images, targets = Augmentation(settings)(*batch)
    return keras.ops.convert_to_numpy(images), keras.ops.convert_to_numpy(targets)


def test_shape_range_and_label_mass_stay(batch):
    images, targets = augment(STRONG, batch)
    assert images.shape == batch[0].shape
    assert images.dtype == targets.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 255.001  # rounding
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    assert (targets >= 0).all()
    assert not np.allclose(images, batch[0])


def test_a_flip_mirrors_columns_exactly(batch):
    images, targets = augment(Settings(flip=1.0), batch)
    np.testing.assert_allclose(images, batch[0][:, :, ::-1], atol=1e-3)
    np.testing.assert_array_equal(targets, batch[1])


def test_a_shift_moves_by_whole_pixels_and_repeats_the_edge(batch):
    images, _ = augment(Settings(shift=2), batch)
    moved = set()
    for image, original in zip(images, batch[0], strict=True):
        matches = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.allclose(image, _shifted(original, down, right), atol=1e-3)
        ]
        assert len(matches) == 1
        moved.add(matches[0])
    assert len(moved) > 10


@pytest.mark.parametrize("size", [8, 20, 33, 64])
def test_images_of_any_size_are_augmented(size):
    images = np.random.default_rng(1).integers(0, 256, (16, size, size, 3)).astype("uint8")
    targets = np.eye(16, dtype="float32")
    changed, _ = augment(STRONG.replace(image_size=size), (images, targets))
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 255


@pytest.fixture
def alternating() -> tuple[np.ndarray, np.ndarray]:
    """Bright images of class 0 and black ones of class 1, in turn."""
    images = np.zeros((64, 32, 32, 3), "float32")
    images[::2] = 200.0
    targets = np.zeros((64, 2), "float32")
    targets[::2, 0] = targets[1::2, 1] = 1
    return images, targets


def test_mixup_mixes_images_and_targets_by_the_same_share(alternating):
    mixed, shares = augment(Settings(mixup=0.5), alternating)
    np.testing.assert_allclose(mixed[:, 0, 0, 0] / 200, shares[:, 0], atol=1e-5)
    assert shares[:, 0].std() > 0.01


def test_cutmix_pastes_a_rectangle_and_moves_as_much_of_the_target(alternating):
    mixed, shares = augment(Settings(cutmix=0.75), alternating)
    assert set(np.unique(mixed)) == {0.0, 200.0}
    np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)) / 200, shares[:, 0], atol=1e-5)
    foreign = mixed != alternating[0]
    assert 0.5 < foreign.any(axis=(1, 2, 3)).mean() < 0.95
    for one in foreign.any(axis=3):
        rows, columns = one.any(axis=1), one.any(axis=0)
        np.testing.assert_array_equal(one, rows[:, None] & columns[None, :])


def test_erasing_greys_a_rectangle_in_the_chosen_share_of_images(batch):
    images, _ = augment(Settings(erasing=1.0), batch)
    changed = (images != batch[0]).any(axis=3)
    assert changed.any(axis=(1, 2)).mean() > 0.95
    assert changed.mean() < 0.35
    assert (images[changed] == 127.5).all()


def _shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    rows, columns = (
        np.clip(np.arange(len(image)) + offset, 0, len(image) - 1) for offset in (down, right)
    )
    return image[rows][:, columns].astype("float32")


def test_rotation_and_noise_change_images_but_no_targets(batch):
    for settings in (Settings(rotation=15), Settings(noise=20)):
        images, targets = augment(settings, batch)
        assert not np.allclose(images, batch[0])
        assert images.min() >= 0
        assert images.max() <= 255
        np.testing.assert_array_equal(targets, batch[1])
