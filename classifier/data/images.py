"""Opens untrusted image files, within limits, and refuses others in one line."""

from __future__ import annotations

import importlib
import threading
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from classifier.data.image_formats import IMAGE_FORMATS, PILLOW_FORMATS, READABLE
from classifier.data.preprocessing import load_pixels, read_header, to_model_input
from classifier.errors import InputError

__all__ = ["READABLE", "ImageError", "decode", "is_image", "open_image", "to_model_input"]

MAX_ASPECT = 1000
LARGE_IMAGE_PIXELS = 12_000_000  # larger images are decoded one at a time, to limit the memory


class Limits(NamedTuple):
    """The largest image file in bytes, and the largest image in pixels."""

    bytes: int
    pixels: int


MEGABYTE, MEGAPIXEL = 2**20, 10**6
UPLOADS = Limits(10 * MEGABYTE, 50 * MEGAPIXEL)
OWN_DATA = Limits(100 * MEGABYTE, 120 * MEGAPIXEL)  # of data sets and files on one's own machine
MAX_BYTES = UPLOADS.bytes
MAX_MEGABYTES, MAX_MEGAPIXELS = UPLOADS.bytes // MEGABYTE, UPLOADS.pixels // MEGAPIXEL

for image_format in IMAGE_FORMATS:  # else Pillow would import all plug-ins at the first image
    importlib.import_module(f"PIL.{image_format.plugin}")
# Our limits are stricter than the one that Pillow warns about.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # of damaged metadata

_large_image_lock = threading.Semaphore()


class ImageError(InputError):
    """An image that cannot be used.

    Attributes:
        reason: a language-independent code: `empty`, `unreadable`,
            `too_large`, `vector`, `unknown_format`, `damaged`, `too_many_pixels`, `too_narrow`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)  # both, so that it can be pickled
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[1])


def open_image(source: str | Path | bytes | BinaryIO, limits: Limits = UPLOADS) -> Image.Image:
    """Decodes the first frame of an image, within limits on bytes, pixels and aspect ratio.

    The source is a path, the bytes of a file, or a file opened for binary reading. The result has
    the mode of the file; large JPEGs are scaled down.

    Raises:
        ImageError: the image is not readable, too large, damaged, or not of `IMAGE_FORMATS`.
    """
    content = _read(source, limits)
    try:
        image = read_header(content)
    except UnidentifiedImageError:
        raise _unidentified(content) from None
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(limits) from error
    except Exception as error:  # a manipulated file can make a plugin raise anything
        raise _damaged() from error
    _check_dimensions(image, limits)
    large = image.width * image.height >= LARGE_IMAGE_PIXELS
    with _large_image_lock if large else nullcontext():
        try:
            return load_pixels(image)
        except MemoryError as error:
            raise too_costly() from error
        except Exception as error:
            raise _damaged() from error


def decode(source: Path | bytes | BinaryIO, size: int, *, name: str) -> np.ndarray:
    """Returns an image of a data set as `to_model_input` gives it.

    Raises:
        InputError: the image cannot be decoded; `name` is its file or row.
    """
    try:
        return to_model_input(open_image(source, OWN_DATA), size)
    except ImageError as error:
        reason = str(error).partition(":")[0]
        raise InputError(
            f"the image {name} cannot be decoded ({reason}): replace or remove it"
        ) from error


def is_image(file: BinaryIO) -> bool:
    """Returns whether a file starts like an image of one of `IMAGE_FORMATS`; decodes nothing."""
    try:
        Image.open(file, formats=PILLOW_FORMATS)
    except Exception as error:  # a file of another kind can make a plugin raise anything
        return isinstance(error, Image.DecompressionBombError)
    return True


def _read(source: str | Path | bytes | BinaryIO, limits: Limits) -> bytes:
    """Returns the bytes; reads at most one more than the limit."""
    try:
        if isinstance(source, bytes):
            content = source
        elif isinstance(source, (str, Path)):
            with Path(source).open("rb") as file:
                content = file.read(limits.bytes + 1)
        else:
            content = source.read(limits.bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError("unreadable", f"the image cannot be read: {reason}") from error
    if not content:
        raise ImageError("empty", "the file is empty: choose an image")
    if len(content) > limits.bytes:
        raise ImageError(
            "too_large",
            f"the file is larger than {limits.bytes // MEGABYTE} MB: choose a smaller image",
        )
    return content


def _unidentified(content: bytes) -> ImageError:
    start = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<?xml", b"<svg", b"<!doctype svg", b"<!--")) and b"<svg" in start:
        return ImageError(
            "vector", f"an SVG drawing has no pixels: export it as PNG and choose that ({READABLE})"
        )
    return ImageError(
        "unknown_format", f"the file is not an image that can be read: choose a {READABLE}"
    )


def _check_dimensions(image: Image.Image, limits: Limits) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise _damaged()
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            "too_narrow",
            f"the image has {width} × {height} pixels, an aspect ratio above "
            f"{MAX_ASPECT}:1: crop it",
        )
    if width * height > limits.pixels:
        raise _too_many_pixels(limits)


def too_costly() -> ImageError:
    """Returns the refusal of an image that takes too much time or memory."""
    return ImageError(
        "too_large",
        "the image takes too much time or memory to decode: save it as a smaller JPEG or PNG",
    )


def _too_many_pixels(limits: Limits) -> ImageError:
    return ImageError(
        "too_many_pixels",
        f"the image has more than {limits.pixels // MEGAPIXEL} megapixels: choose a smaller one",
    )


def _damaged() -> ImageError:
    return ImageError("damaged", "the image is damaged or truncated: choose another file")
