"""Augmentation of training images, written with `keras.ops` so that it runs in the graph.

`Geometric` moves the pixels of each image, `Photometric` changes their values, and `Mixing`
combines images and their targets; `Augmentation` is one after the other.

Crops, zooms, shifts and flips are separable: the image is multiplied with a matrix over its rows
and one over its columns. On CPUs two small matrix products per image are faster than gathering
pixels, and the same code runs on every Keras backend.
"""

import math
from typing import Any

import keras
from keras import ops

from classifier.settings import DEFAULT_IMAGE_SIZE, Settings

GREY = 127.5
MAX_ERASED_SIDE = 0.5  # of the image's side; Zhong et al., "Random Erasing", 2020


class RandomLayer(keras.layers.Layer):
    """A layer with random draws, whose state is a variable: resumed, it continues the sequence."""

    def __init__(self, settings: Settings, seed: int) -> None:
        super().__init__(dtype="float32", autocast=False)
        self.settings = settings
        self.size = settings.image_size
        self.random = keras.random.SeedGenerator(seed)

    def uniform(self, count: Any, low: float, high: float) -> Any:
        """Draws a number for each image, (N,)."""
        return keras.random.uniform((count,), low, high, seed=self.random)

    def rectangles(self, probability: float, sides: list[Any]) -> Any:
        """Draws a random rectangle in each image, clipped at the edges.

        Args:
            probability: that an image has one.
            sides: height and width, each float32, (N,), as fractions of the image's side.

        Returns:
            bool, (N, S, S, 1): whether a pixel lies inside.
        """
        size, count = self.size, ops.shape(sides[0])[0]
        inside = ops.reshape(self.uniform(count, 0.0, 1.0) < probability, (-1, 1, 1, 1))
        positions = ops.arange(size, dtype="float32")
        for side, shape in zip(sides, ((-1, size, 1, 1), (-1, 1, size, 1)), strict=True):
            centre = self.uniform(count, 0.0, size - 1.0)
            distance = ops.abs(positions[None, :] - centre[:, None])
            within = distance < side[:, None] * size / 2
            inside = ops.logical_and(inside, ops.reshape(within, shape))
        return inside


class Geometric(RandomLayer):
    """Random crops, shifts, rotations and flips: float32, (N, S, S, 3) → the same shape."""

    def call(self, images: Any) -> Any:
        """Moves the pixels; outside of the image, those at the edge are repeated."""
        settings, count, size = self.settings, ops.shape(images)[0], self.size
        moves = settings.crop_area < 1 or settings.crop_aspect > 1 or settings.shift
        if not (moves or settings.flip or settings.rotation):
            return images
        height = width = ops.ones((count,))
        top = left = mirrored = ops.zeros((count,))
        if moves:
            area = self.uniform(count, settings.crop_area, 1.0)
            limit = math.log(settings.crop_aspect) / 2
            stretch = ops.exp(self.uniform(count, -limit, limit))
            height = ops.minimum(ops.sqrt(area) * stretch, 1.0)
            width = ops.minimum(ops.sqrt(area) / stretch, 1.0)
            top, left = self._offset(count, height), self._offset(count, width)
        if settings.flip:
            mirrored = ops.cast(self.uniform(count, 0.0, 1.0) < settings.flip, "float32")
        if settings.rotation:
            limit = math.radians(settings.rotation)
            angle = self.uniform(count, -limit, limit)
            crop = affine_matrix(top, left, height, width, mirrored, angle, size)
            return ops.image.affine_transform(images, crop, fill_mode="nearest")
        rows = sampling_matrix(top, height, ops.zeros((count,)), size)
        columns = sampling_matrix(left, width, mirrored, size)
        return resample(images, rows, columns)

    def _offset(self, count: Any, extent: Any) -> Any:
        """Draws positions of crops inside the image, shifted by whole pixels."""
        offset = self.uniform(count, 0.0, 1.0) * (1.0 - extent) * self.size
        shift = round(self.settings.shift * self.size / DEFAULT_IMAGE_SIZE)  # pixels
        if shift:
            offset = offset + ops.floor(self.uniform(count, -shift, shift + 1))
        return offset


class Photometric(RandomLayer):
    """Random noise, contrast, brightness and erasing: float32, (N, S, S, 3) → the same shape."""

    def call(self, images: Any) -> Any:
        """Changes the values of the pixels, which stay within 0–255."""
        settings, count = self.settings, ops.shape(images)[0]
        if settings.noise:
            deviation = ops.reshape(self.uniform(count, 0.0, settings.noise), (-1, 1, 1, 1))
            images = images + deviation * keras.random.normal(ops.shape(images), seed=self.random)
        if settings.contrast:
            factor = self.uniform(count, 1 - settings.contrast, 1 + settings.contrast)
            mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
            images = mean + (images - mean) * ops.reshape(factor, (-1, 1, 1, 1))
        if settings.brightness:
            change = self.uniform(count, -settings.brightness, settings.brightness)
            images = images + 255.0 * ops.reshape(change, (-1, 1, 1, 1))
        if settings.contrast or settings.brightness or settings.noise:
            images = ops.clip(images, 0.0, 255.0)
        if settings.erasing:
            sides = [self.uniform(count, 0.1, MAX_ERASED_SIDE) for _ in range(2)]
            images = ops.where(self.rectangles(settings.erasing, sides), GREY, images)
        return images


class Mixing(RandomLayer):
    """CutMix and mixup of each image of a batch with the next one."""

    def call(self, images: Any, targets: Any) -> tuple[Any, Any]:
        """Mixes images, float32, (N, S, S, 3), and in the same proportion targets, (N, C)."""
        if self.settings.cutmix:
            images, targets = self._cut_and_paste(images, targets)
        if self.settings.mixup:
            images, targets = self._mix(images, targets)
        return images, targets

    def _cut_and_paste(self, images: Any, targets: Any) -> tuple[Any, Any]:
        """CutMix (Yun et al., 2019): pastes a rectangle of the next image of the batch."""
        side = ops.sqrt(self.uniform(ops.shape(images)[0], 0.0, 1.0))
        inside = self.rectangles(self.settings.cutmix, [side, side])
        share = ops.mean(ops.cast(inside, "float32"), axis=(1, 2))
        images = ops.where(inside, ops.roll(images, 1, axis=0), images)
        return images, (1.0 - share) * targets + share * ops.roll(targets, 1, axis=0)

    def _mix(self, images: Any, targets: Any) -> tuple[Any, Any]:
        """Mixup (Zhang et al., 2018): a weighted mean of two images."""
        alpha, count = self.settings.mixup, ops.shape(images)[0]
        share = keras.random.beta((count, 1), alpha, alpha, seed=self.random)
        if self.settings.mixup_probability < 1:  # one draw for the whole batch
            draw = keras.random.uniform((1, 1), seed=self.random)
            share = ops.where(draw < self.settings.mixup_probability, share, 1.0)
        of_image = share[:, :, None, None]
        images = of_image * images + (1.0 - of_image) * ops.roll(images, 1, axis=0)
        return images, share * targets + (1.0 - share) * ops.roll(targets, 1, axis=0)


class Augmentation(keras.layers.Layer):
    """Augments a batch of images and their targets by the settings, at random."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(dtype="float32", autocast=False)
        seeds = settings.seeds("augmentation")
        self.geometric = Geometric(settings, next(seeds))
        self.photometric = Photometric(settings, next(seeds))
        self.mixing = Mixing(settings, next(seeds))

    def call(self, images: Any, targets: Any) -> tuple[Any, Any]:
        """Augments images, (N, S, S, 3), 0–255, and targets, (N, C); both become float32."""
        images, targets = ops.cast(images, "float32"), ops.cast(targets, "float32")
        return self.mixing(self.photometric(self.geometric(images)), targets)


def sampling_matrix(offset: Any, extent: Any, mirrored: Any, size: int) -> Any:
    """Returns matrices that crop a line of pixels and resample the crop to the same length.

    Args:
        offset: float32, (N,): start of the crop in pixels; outside of the image the pixel at the
            edge is repeated.
        extent: float32, (N,): length of the crop as a fraction of the line.
        mirrored: float32, (N,): 1 to reverse the crop, else 0.
        size: pixels of the line, S.

    Returns:
        float32, (N, S, S): row i holds the linear interpolation weights of output pixel i, which
        sum to 1.
    """
    pixels = ops.arange(size, dtype="float32")
    steps = pixels[None, :] + 0.5
    mirrored = mirrored[:, None]
    steps = mirrored * (size - steps) + (1.0 - mirrored) * steps
    positions = offset[:, None] + steps * extent[:, None] - 0.5
    positions = ops.clip(positions, 0.0, size - 1.0)
    return ops.maximum(0.0, 1.0 - ops.abs(positions[:, :, None] - pixels[None, None, :]))


def affine_matrix(
    top: Any, left: Any, height: Any, width: Any, mirrored: Any, angle: Any, size: int
) -> Any:
    """Returns the transformations that crop, mirror and rotate images in one interpolation.

    Args:
        top, left, height, width, mirrored: float32, (N,), as for `sampling_matrix`.
        angle: float32, (N,): rotation of the crops around their middle, in radians.
        size: pixels of a side of the images.

    Returns:
        float32, (N, 8), as `keras.ops.image.affine_transform` takes them.
    """
    middle = (size - 1) / 2
    cosine, sine = ops.cos(angle), ops.sin(angle)
    across = width * (1.0 - 2.0 * mirrored)
    to_columns = [across * cosine, -height * sine]
    to_rows = [across * sine, height * cosine]
    columns = left + width * size / 2 - 0.5 - middle * (to_columns[0] + to_columns[1])
    rows = top + height * size / 2 - 0.5 - middle * (to_rows[0] + to_rows[1])
    zero = ops.zeros_like(angle)
    return ops.stack([*to_columns, columns, *to_rows, rows, zero, zero], axis=1)


def resample(images: Any, rows: Any, columns: Any) -> Any:
    """Multiplies the rows and columns of images, (N, S, S, 3), by matrices, (N, S, S)."""
    size = images.shape[1]
    for matrices in (rows, columns):  # transposing is faster than a product over the third axis
        products = ops.matmul(matrices, ops.reshape(images, (-1, size, size * 3)))
        images = ops.transpose(ops.reshape(products, (-1, size, size, 3)), (0, 2, 1, 3))
    return images
