"""Augmentation of training images, written with `keras.ops` so that it runs in the graph.

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


class Augmentation(keras.layers.Layer):
    """Augments a batch of images and their targets by the settings, at random.

    The random state is a variable of the model: a resumed training continues the same sequence.
    """

    def __init__(self, settings: Settings, *, geometry: bool = True, mixing: bool = True) -> None:
        """Args:
        settings: the strength of each operation.
        geometry: whether to crop, shift, change colours and erase.
        mixing: whether to flip and to apply mixup.
        """
        super().__init__(dtype="float32", autocast=False)
        self.settings = settings
        self.size = settings.image_size
        self.shift = round(settings.shift * self.size / DEFAULT_IMAGE_SIZE)  # pixels
        self.geometry = geometry
        self.mixing = mixing
        self.random = keras.random.SeedGenerator(settings.seed + 777)

    def call(self, images: Any, targets: Any) -> tuple[Any, Any]:
        """Augments a batch.

        Args:
            images: (N, S, S, 3), 0–255, with S the settings' `image_size`.
            targets: (N, C), each row a distribution over the classes.

        Returns:
            images: float32, (N, S, S, 3), 0–255; targets: float32, (N, C), rows of the same sum.
        """
        images, targets = ops.cast(images, "float32"), ops.cast(targets, "float32")
        images = self._move(images)
        if self.geometry:
            images = self._recolour(images)
            images = self._erase(images)
        if self.mixing and self.settings.cutmix:
            images, targets = self._cut_and_paste(images, targets)
        if self.mixing and self.settings.mixup:
            images, targets = self._mix(images, targets)
        return images, targets

    def compute_output_shape(self, images: Any, targets: Any) -> tuple[Any, Any]:
        """Returns the shapes of the inputs, which do not change."""
        return images, targets

    def _move(self, images: Any) -> Any:
        settings = self.settings
        count = ops.shape(images)[0]
        crops = settings.crop_area < 1 or settings.crop_aspect > 1 or self.shift
        moves = self.geometry and (crops or settings.rotation)
        flips = self.mixing and settings.flip
        if not moves and not flips:
            return images
        height = width = ops.ones((count,))
        top = left = ops.zeros((count,))
        if moves:
            area = self._uniform(count, settings.crop_area, 1.0)
            limit = math.log(settings.crop_aspect) / 2
            stretch = ops.exp(self._uniform(count, -limit, limit))
            height = ops.minimum(ops.sqrt(area) * stretch, 1.0)
            width = ops.minimum(ops.sqrt(area) / stretch, 1.0)
            top = self._offset(count, height)
            left = self._offset(count, width)
        mirrored = ops.zeros((count,))
        if flips:
            mirrored = ops.cast(self._uniform(count, 0.0, 1.0) < settings.flip, "float32")
        if self.geometry and settings.rotation:
            limit = math.radians(settings.rotation)
            angle = self._uniform(count, -limit, limit)
            crop = affine_matrix(top, left, height, width, mirrored, angle, self.size)
            return ops.image.affine_transform(images, crop, fill_mode="nearest")
        rows = sampling_matrix(top, height, ops.zeros((count,)), self.size)
        columns = sampling_matrix(left, width, mirrored, self.size)
        resampled = _transposed(_resampled(images, rows, self.size))
        return _transposed(_resampled(resampled, columns, self.size))

    def _offset(self, count: Any, extent: Any) -> Any:
        """Draws positions of crops inside the image, shifted by whole pixels."""
        offset = self._uniform(count, 0.0, 1.0) * (1.0 - extent) * self.size
        if self.shift:
            offset = offset + ops.floor(self._uniform(count, -self.shift, self.shift + 1))
        return offset

    def _recolour(self, images: Any) -> Any:
        settings = self.settings
        count = ops.shape(images)[0]
        if settings.noise:
            deviation = ops.reshape(self._uniform(count, 0.0, settings.noise), (-1, 1, 1, 1))
            images = images + deviation * keras.random.normal(ops.shape(images), seed=self.random)
        if settings.contrast:
            factor = self._uniform(count, 1 - settings.contrast, 1 + settings.contrast)
            mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
            images = mean + (images - mean) * ops.reshape(factor, (-1, 1, 1, 1))
        if settings.brightness:
            change = self._uniform(count, -settings.brightness, settings.brightness)
            images = images + 255.0 * ops.reshape(change, (-1, 1, 1, 1))
        if settings.noise or settings.contrast or settings.brightness:
            images = ops.clip(images, 0.0, 255.0)
        return images

    def _erase(self, images: Any) -> Any:
        if not self.settings.erasing:
            return images
        count = ops.shape(images)[0]
        sides = [self._uniform(count, 0.1, MAX_ERASED_SIDE) for _ in range(2)]
        inside = self._rectangles(self.settings.erasing, sides)
        return ops.where(inside[..., None], GREY, images)

    def _cut_and_paste(self, images: Any, targets: Any) -> tuple[Any, Any]:
        """CutMix (Yun et al., 2019): pastes a rectangle of the next image of the batch."""
        side = ops.sqrt(self._uniform(ops.shape(images)[0], 0.0, 1.0))
        inside = self._rectangles(self.settings.cutmix, [side, side])
        share = ops.mean(ops.cast(inside, "float32"), axis=(1, 2))[:, None]
        images = ops.where(inside[..., None], ops.roll(images, 1, axis=0), images)
        return images, (1.0 - share) * targets + share * ops.roll(targets, 1, axis=0)

    def _rectangles(self, probability: float, sides: list[Any]) -> Any:
        """Draws a random rectangle in each image, clipped at the edges.

        Args:
            probability: that an image has one.
            sides: height and width, each float32, (N,), as fractions of the image's side.

        Returns:
            bool, (N, S, S): whether a pixel lies inside.
        """
        size, count = self.size, ops.shape(sides[0])[0]
        chosen = self._uniform(count, 0.0, 1.0) < probability
        inside = ops.reshape(chosen, (-1, 1, 1))
        positions = ops.arange(size, dtype="float32")
        for side, shape in zip(sides, ((-1, size, 1), (-1, 1, size)), strict=True):
            centre = self._uniform(count, 0.0, size - 1.0)
            distance = ops.abs(positions[None, :] - centre[:, None])
            within = distance < side[:, None] * size / 2
            inside = ops.logical_and(inside, ops.reshape(within, shape))
        return inside

    def _mix(self, images: Any, targets: Any) -> tuple[Any, Any]:
        """Mixup (Zhang et al., 2018): mixes each image with the next one of the batch."""
        alpha = self.settings.mixup
        count = ops.shape(images)[0]
        share = keras.random.beta((count, 1), alpha, alpha, seed=self.random)
        if self.settings.mixup_probability < 1:
            # One draw for the whole batch.
            draw = keras.random.uniform((1, 1), seed=self.random)
            share = ops.where(draw < self.settings.mixup_probability, share, 1.0)
        other_images = ops.roll(images, 1, axis=0)
        other_targets = ops.roll(targets, 1, axis=0)
        share_of_image = ops.reshape(share, (-1, 1, 1, 1))
        images = share_of_image * images + (1.0 - share_of_image) * other_images
        return images, share * targets + (1.0 - share) * other_targets

    def _uniform(self, count: Any, low: float, high: float) -> Any:
        return keras.random.uniform((count,), low, high, seed=self.random)


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
        top, left: float32, (N,): position of the crops in pixels.
        height, width: float32, (N,): their sizes as fractions of the image's side.
        mirrored: float32, (N,): 1 to mirror the columns, else 0.
        angle: float32, (N,): rotation of the crops around their middle, in radians.
        size: pixels of a side of the images.

    Returns:
        float32, (N, 8), as `keras.ops.image.affine_transform` takes them: the first six map the
        column and row of an output pixel to those of the input.
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


def _resampled(images: Any, matrices: Any, size: int) -> Any:
    """Multiplies the second axis of images, (N, S, S, 3), by matrices, (N, S, S)."""
    products = ops.matmul(matrices, ops.reshape(images, (-1, size, size * 3)))
    return ops.reshape(products, (-1, size, size, 3))


def _transposed(images: Any) -> Any:
    """Swaps rows and columns: twice is faster than a product over the third axis."""
    return ops.transpose(images, (0, 2, 1, 3))
