"""Augmentation keeps shape, range and label mass, and moves pixels as it says."""

import math

import keras
import numpy as np
import pytest

from classifier.settings import Settings
from classifier.training.augmentation import Augmentation, affine_matrix, sampling_matrix

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


def test_without_settings_nothing_changes(batch):
    images, targets = augment(Settings(), batch)
    np.testing.assert_array_equal(images, batch[0])
    np.testing.assert_array_equal(targets, batch[1])


def test_a_flip_mirrors_columns_exactly(batch):
    images, targets = augment(Settings(flip=1.0), batch)
    np.testing.assert_allclose(images, batch[0][:, :, ::-1], atol=1e-3)
    np.testing.assert_array_equal(targets, batch[1])


def test_half_of_the_images_are_flipped_at_one_half(batch):
    images, _ = augment(Settings(flip=0.5), batch)
    flipped = [np.allclose(a, b[:, ::-1], atol=1e-3) for a, b in zip(images, batch[0], strict=True)]
    same = [np.allclose(a, b, atol=1e-3) for a, b in zip(images, batch[0], strict=True)]
    assert sum(flipped) + sum(same) == len(images)
    assert 15 <= sum(flipped) <= 49


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


def test_a_shift_is_the_same_share_of_the_side_at_any_size():
    images = np.random.default_rng(1).integers(0, 256, (64, 64, 64, 3)).astype("uint8")
    shifted, _ = augment(Settings(shift=2, image_size=64), (images, np.ones((64, 1), "float32")))
    moved = {
        (down, right)
        for image, original in zip(shifted, images, strict=True)
        for down in range(-6, 7)
        for right in range(-6, 7)
        if np.allclose(image, _shifted(original, down, right), atol=1e-3)
    }
    assert {abs(step) for pair in moved for step in pair} == {0, 1, 2, 3, 4}


def test_the_sampling_matrix_zooms_into_the_stretch_it_is_given():
    matrix = keras.ops.convert_to_numpy(
        sampling_matrix(np.float32([8]), np.float32([0.5]), np.float32([0]), 32)
    )[0]
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    places = matrix @ np.arange(32)
    np.testing.assert_allclose(places, 8 + (np.arange(32) + 0.5) * 0.5 - 0.5, atol=1e-4)


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


def test_rotation_by_nothing_crops_as_without_it(batch):
    top, left, height, width = (keras.ops.full((64,), value) for value in (3.0, 5.0, 0.7, 0.8))
    mirrored = keras.ops.cast(keras.ops.arange(64) % 2, "float32")
    zero = keras.ops.zeros((64,))
    crop = affine_matrix(top, left, height, width, mirrored, zero, 32)
    images = keras.ops.cast(batch[0], "float32")
    cropped = keras.ops.image.affine_transform(images, crop, fill_mode="nearest")
    rows = sampling_matrix(top, height, zero, 32)
    columns = sampling_matrix(left, width, mirrored, 32)
    expected = keras.ops.einsum("nij,njkc,nlk->nilc", rows, images, columns)
    np.testing.assert_allclose(cropped, expected, atol=1e-2)


def test_rotation_turns_images_around_their_middle(batch):
    zero, one = keras.ops.zeros((64,)), keras.ops.ones((64,))
    quarter = affine_matrix(zero, zero, one, one, zero, zero + math.pi / 2, 32)
    images = keras.ops.cast(batch[0], "float32")
    turned = keras.ops.image.affine_transform(images, quarter, fill_mode="nearest")
    np.testing.assert_allclose(turned, np.rot90(images, axes=(1, 2)), atol=1e-2)


def test_rotation_and_noise_change_images_but_no_targets(batch):
    for settings in (Settings(rotation=15), Settings(noise=20)):
        images, targets = augment(settings, batch)
        assert not np.allclose(images, batch[0])
        assert images.min() >= 0
        assert images.max() <= 255
        np.testing.assert_array_equal(targets, batch[1])
