"""Decodes untrusted image files and converts them to square RGB arrays for a model."""

from __future__ import annotations

import io
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import (
    AvifImagePlugin,  # noqa: F401
    Image,
    ImageCms,
    ImageOps,
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from classifier.errors import InputError
from classifier.settings import DEFAULT_IMAGE_SIZE

# Formats that Pillow decodes by itself and in bounded time: none that calls another program (EPS,
# WMF) and none that is not an image format (HDF5, GRIB, MPEG). MPO comes with JPEG.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "PPM")
READABLE = "JPEG, PNG, GIF, WebP, AVIF, BMP, TIFF or PPM"

MAX_MEGABYTES = 10
MAX_BYTES = MAX_MEGABYTES * 2**20
MAX_MEGAPIXELS = 50
MAX_PIXELS = MAX_MEGAPIXELS * 10**6
MAX_ASPECT = 1000
# Each scan of a progressive JPEG decodes all pixels once more. Encoders write about ten scans; a
# file with ten thousand would keep a core busy for an hour.
MAX_JPEG_SCANS = 100
# Pillow decodes these in Python loops, at a microsecond per byte.
SLOW_CODECS = {"ppm", "ppm_plain", "bmp_rle"}
MAX_SLOW_CODEC_BYTES = 2**20
MAX_SLOW_CODEC_PIXELS = 4_000_000
MAX_AVIF_PIXELS = 25_000_000  # 50 megapixels take over three seconds on two cores
# JPEGs are decoded at the smallest scale (1, 1/2, 1/4 or 1/8) that leaves this many pixels on the
# shorter side: more than any model takes, and several times as fast.
JPEG_SIDE = 512
REDUCING_GAP = 3.0  # as Pillow recommends: hardly to be told from the filter without it
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGE_IMAGE_PIXELS = 12_000_000  # larger images are decoded one at a time, to limit the memory
GIF_SIGNATURES = (b"GIF87a", b"GIF89a")

Image.preinit()  # JPEG, PNG, GIF, BMP, PPM; with those imported above, all that `FORMATS` needs
# Our limits are stricter than the one that Pillow warns about.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_large_image_lock = threading.Semaphore()


class ImageError(InputError):
    """An image that cannot be used.

    Attributes:
        reason: a language-independent code: `empty`, `unreadable`,
            `too_large`, `vector`, `unknown_format`, `damaged`, `too_many_pixels`, `too_narrow`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def open_image(source: str | Path | bytes | BinaryIO) -> Image.Image:
    """Decodes the first frame of an image, within limits on bytes, pixels, aspect ratio and time.

    Metadata that cannot be read is skipped.

    Args:
        source: a path, the bytes of a file, or a file opened for binary reading.

    Returns:
        The image in the mode of its file; large JPEGs are scaled down.

    Raises:
        ImageError: the image is not readable, too large, damaged, or in no format of `FORMATS`.
    """
    content = _read(source)
    if content.startswith(GIF_SIGNATURES):
        content = _without_gif_extensions(content)
    try:
        return _decode(content)
    except ImageError as error:
        bare = _without_metadata(content)
        if error.reason not in ("damaged", "unknown_format") or len(bare) == len(content):
            raise
        return _decode(bare)


def decode(source: Path | bytes | BinaryIO, size: int, *, name: str) -> np.ndarray:
    """Returns an image of a data set as `to_model_input` gives it.

    Args:
        source: as in `open_image`.
        size: the side of the result in pixels.
        name: its file or row, for the message.

    Raises:
        InputError: the image cannot be decoded.
    """
    try:
        return to_model_input(open_image(source), size)
    except ImageError as error:
        reason = str(error).partition(":")[0]
        raise InputError(
            f"the image {name} cannot be decoded ({reason}): replace or remove it"
        ) from error


def is_image(file: BinaryIO) -> bool:
    """Returns whether a file starts like an image of one of `FORMATS`; decodes nothing."""
    try:
        Image.open(file, formats=FORMATS)
    except Exception as error:  # a file of another kind can make a plugin raise anything
        return isinstance(error, Image.DecompressionBombError)
    return True


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts an image of any mode to RGB: EXIF orientation applied, transparency on white.

    Colour profiles are not applied: the models were trained without, and the colour engine would
    run an untrusted profile. The given image itself is turned, and returned if it is RGB.
    """
    with suppress(Exception):  # damaged metadata does not make the pixels unusable
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_8_bits(image)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB") or image
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    layer = image if image.mode == "RGBA" else image.convert("RGBA")
    background = Image.new("RGB", layer.size, "white")
    background.paste(layer, mask=layer)
    return background


def to_model_input(image: Image.Image, size: int = DEFAULT_IMAGE_SIZE) -> np.ndarray:
    """Converts an image to the pixels that a model takes.

    The largest centred square is cropped and resized with an antialiasing filter; the pixels of an
    RGB image that already has the size are unchanged.

    Args:
        image: an image from `open_image` or from Pillow.
        size: the side of the result in pixels.

    Returns:
        uint8, (size, size, 3), RGB 0–255.
    """
    return np.asarray(_square(to_rgb(image), size), dtype=np.uint8)


def _square(image: Image.Image, size: int) -> Image.Image:
    if image.size == (size, size):
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = left, top, left + side, top + side
    factor = int(side / size / REDUCING_GAP)
    if factor > 1:  # what `resize` does with `reducing_gap`, without a copy of the square
        square = 0, 0, side / factor, side / factor
        return image.reduce(factor, box).resize((size, size), Image.Resampling.BICUBIC, square)
    # Crop before resizing: with `box`, the filter would use pixels outside of it.
    return image.crop(box).resize((size, size), Image.Resampling.BICUBIC)


def _read(source: str | Path | bytes | BinaryIO) -> bytes:
    """Returns the bytes; reads at most one more than the limit."""
    try:
        if isinstance(source, bytes):
            content = source
        elif isinstance(source, (str, Path)):
            with Path(source).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        else:
            content = source.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError("unreadable", f"the image cannot be read: {reason}") from error
    if not content:
        raise ImageError("empty", "the file is empty: choose an image")
    if len(content) > MAX_BYTES:
        raise ImageError(
            "too_large", f"the file is larger than {MAX_MEGABYTES} MB: choose a smaller image"
        )
    return content


def _decode(content: bytes) -> Image.Image:
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise _unidentified(content) from None
    except Image.DecompressionBombError as error:
        raise _too_many_pixels() from error
    except Exception as error:  # a manipulated file can make a plugin raise anything
        raise _damaged() from error
    _check_dimensions(image)
    _check_decoding_time(image, content)
    large = image.width * image.height >= LARGE_IMAGE_PIXELS
    with _large_image_lock if large else nullcontext():
        try:
            image.draft(None, (JPEG_SIDE, JPEG_SIDE))
            image.load()
        except MemoryError as error:
            raise too_costly() from error
        except Exception as error:
            raise _damaged() from error
    return image


def _without_metadata(content: bytes) -> bytes:
    """Returns a PNG or JPEG without its metadata, except for the orientation.

    Pillow refuses PNGs with text that unpacks to more than a megabyte, or a damaged time stamp.
    """
    if content.startswith(PNG_SIGNATURE):
        return PNG_SIGNATURE + b"".join(_png_chunks(content))
    if content.startswith(b"\xff\xd8"):
        return b"".join(_jpeg_segments(content))
    return content


def _png_chunks(content: bytes) -> Iterator[bytes]:
    """Yields the critical chunks, whose names start with a capital, and the orientation."""
    start = len(PNG_SIGNATURE)
    while start + 12 <= len(content):
        length = int.from_bytes(content[start : start + 4])
        chunk = content[start : start + 12 + length]
        kind, checksum = chunk[4:8], chunk[-4:]
        is_valid = zlib.crc32(chunk[4:-4]).to_bytes(4) == checksum
        if kind[:1].isupper() or (kind in (b"tRNS", b"eXIf") and is_valid and length):
            yield chunk
        start += len(chunk)


def _jpeg_segments(content: bytes) -> Iterator[bytes]:
    """Yields the segments, without comments and application data other than colour information."""
    yield content[:2]
    start = 2
    while content[start : start + 1] == b"\xff" and start + 4 <= len(content):
        marker = content[start + 1]
        if marker in (0xDA, 0xFF) or 0xD0 <= marker <= 0xD9:  # pixels, or a marker without a length
            break
        length = 2 + int.from_bytes(content[start + 2 : start + 4])
        segment = content[start : start + length]
        has_colours = segment[4:9] == b"JFIF\0" or segment[4:9] == b"Adobe"
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_metadata or (has_colours and len(segment) >= 16) or segment[4:8] == b"Exif":
            yield segment
        start += length
    yield content[start:]


def _without_gif_extensions(content: bytes) -> bytes:
    """Returns a GIF without the extensions before its first frame, except for transparency.

    Pillow concatenates the blocks of comments one by one, in quadratic time: 10 MB of blocks of one
    byte would take hours.
    """
    colours = content[10:11] or b"\0"
    head = 13 + (3 << (colours[0] & 7) + 1 if colours[0] & 0x80 else 0)
    start, control = head, b""
    while content[start : start + 1] == b"!":
        end = start + 2
        while end < len(content) and content[end]:
            end += 1 + content[end]
        if content[start + 1 : start + 2] == b"\xf9":
            control = content[start : end + 1]
        start = end + 1
    return content[:head] + control + content[start:]


def _unidentified(content: bytes) -> ImageError:
    start = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<?xml", b"<svg", b"<!doctype svg", b"<!--")) and b"<svg" in start:
        return ImageError(
            "vector", f"an SVG drawing has no pixels: export it as PNG and choose that ({READABLE})"
        )
    if start.startswith(b"version https://git-lfs"):
        return ImageError(
            "unknown_format",
            "the file is a pointer of Git LFS, not the image itself: run `git lfs pull`",
        )
    return ImageError(
        "unknown_format", f"the file is not an image that can be read: choose a {READABLE}"
    )


def _check_dimensions(image: Image.Image) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise _damaged()
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            "too_narrow",
            f"the image has {width} × {height} pixels, an aspect ratio above "
            f"{MAX_ASPECT}:1: crop it",
        )
    if width * height > MAX_PIXELS:
        raise _too_many_pixels()


def _check_decoding_time(image: Image.Image, content: bytes) -> None:
    scans = content.count(b"\xff\xda") if image.format in ("JPEG", "MPO") else 0
    codecs = {tile[0] for tile in getattr(image, "tile", ())}
    pixels = image.width * image.height
    max_pixels = MAX_AVIF_PIXELS if image.format == "AVIF" else MAX_PIXELS
    max_bytes = MAX_BYTES
    if not codecs.isdisjoint(SLOW_CODECS):
        max_pixels, max_bytes = MAX_SLOW_CODEC_PIXELS, MAX_SLOW_CODEC_BYTES
    if scans > MAX_JPEG_SCANS or pixels > max_pixels or len(content) > max_bytes:
        raise too_costly()


def too_costly() -> ImageError:
    """Returns the refusal of an image that takes too much time or memory."""
    return ImageError(
        "too_large",
        "the image takes too much time or memory to decode: save it as a smaller JPEG or PNG",
    )


def _too_many_pixels() -> ImageError:
    return ImageError(
        "too_many_pixels",
        f"the image has more than {MAX_MEGAPIXELS} megapixels: choose a smaller one",
    )


def _damaged() -> ImageError:
    return ImageError("damaged", "the image is damaged or truncated: choose another file")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scales a greyscale image of 16 or 32 bits or of floats to 0–255; keeps transparency.

    16-bit values are divided by 257: white stays white. 32-bit integers and floats have no fixed
    white: if all values are at most 1 (floats), 255 or 65535, that is white; otherwise they are
    scaled from minimum to maximum.
    """
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        grey = values / np.float32(257)
    else:
        grey = _rescale(np.nan_to_num(values.astype(np.float64)), image.mode == "F")
    result = Image.fromarray(np.rint(grey).clip(0, 255).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
        return Image.merge("LA", (result, Image.fromarray(alpha)))
    return result


def _rescale(values: np.ndarray, fractions: bool) -> np.ndarray:
    low, high = values.min(), values.max()
    if low >= 0:
        for white in (1.0, 255.0, 65535.0) if fractions else (255.0, 65535.0):
            if high <= white:
                return values * (255.0 / white)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.nan_to_num((values / 2 - low / 2) / (high / 2 - low / 2) * 255.0)
