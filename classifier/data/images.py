"""From any picture that a visitor may bring to the square of RGB pixels that a model takes."""

from __future__ import annotations

import io
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np

# The plugins of the formats below, imported by name: `Image.init` would load every plugin there is.
from PIL import (
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageCms,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from classifier.errors import InputError
from classifier.settings import DEFAULT_IMAGE_SIZE

# What Pillow decodes by itself and in bounded time: nothing that calls another program (EPS, WMF)
# and nothing that is not a picture (HDF5, GRIB, MPEG). MPO comes with JPEG.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "PPM")
READABLE = "JPEG, PNG, GIF, WebP, AVIF, BMP, TIFF or PPM"

MAX_BYTES = 10 * 2**20
MAX_PIXELS = 50_000_000
MAX_ASPECT = 1000
# A progressive JPEG passes over all its pixels once a scan: encoders write about ten, and ten
# thousand fit into one file that would keep a core busy for an hour.
MAX_JPEG_SCANS = 100
# Pillow reads these with loops in Python, a microsecond a byte.
SLOW_CODECS = {"ppm", "ppm_plain", "bmp_rle"}
MAX_BYTES_OF_SLOW_CODECS = 2**20
MAX_PIXELS_OF_SLOW_CODECS = 4_000_000
MAX_PIXELS_OF_AVIF = 25_000_000  # 50 megapixels take over three seconds on two cores
# JPEGs are decoded at the largest of 1, 1/2, 1/4 and 1/8 of their size that keeps this many pixels
# on the shorter side: far more than the models see, and several times as fast.
JPEG_SIDE = 512
UPRIGHT = {  # the transposition that undoes each value of the orientation in the metadata
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
GIF_SIGNATURES = (b"GIF87a", b"GIF89a")
LARGE = 12_000_000  # pixels, from which on images are decoded one at a time to bound the memory

# Our own limits are stricter than the one that Pillow warns of.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_one_large_image = threading.Semaphore()


class ImageError(InputError):
    """A picture that cannot be used.

    Attributes:
        reason: a short name of what is wrong, the same in every language: `empty`, `unreadable`,
            `too_large`, `vector`, `unknown_format`, `damaged`, `too_many_pixels`, `too_narrow`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def open_image(source: str | Path | bytes | BinaryIO) -> Image.Image:
    """Decodes the first frame of a picture, within limits of bytes, pixels, shape and time.

    Pictures are judged by their pixels: metadata that cannot be read is skipped.

    Args:
        source: a path, the bytes of a file, or a file opened for binary reading.

    Returns:
        The picture in the mode that its file has; large JPEGs come at a fraction of their size.

    Raises:
        ImageError: the picture is not readable, too large, damaged, or of no format in `FORMATS`.
    """
    content = _read(source)
    if content.startswith(GIF_SIGNATURES):
        content = _gif_of_the_first_frame(content)
    try:
        return _decode(content)
    except ImageError as error:
        bare = _without_metadata(content)
        if error.reason not in ("damaged", "unknown_format") or len(bare) == len(content):
            raise
        return _decode(bare)


def is_image(file: BinaryIO) -> bool:
    """Tells whether a file begins as a picture of one of `FORMATS`; decodes nothing."""
    try:
        Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        return True
    except Exception:  # whatever a plugin trips over in a file that is no picture
        return False
    return True


def to_rgb(image: Image.Image) -> Image.Image:
    """Turns a picture of any mode upright and into RGB, transparent parts on white.

    Colour profiles are not applied: the models were trained without, and a profile is code of a
    stranger for the colour engine to run. An RGB picture without more comes back as it is.
    """
    image = _upright(image)
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
    layer = image.convert("RGBA")
    background = Image.new("RGB", layer.size, "white")
    background.paste(layer, mask=layer.getchannel("A"))
    return background


def to_model_input(image: Image.Image, size: int = DEFAULT_IMAGE_SIZE) -> np.ndarray:
    """Turns a picture into the pixels that a model takes.

    The largest square in the middle is cut out and brought to the size with an antialiasing
    filter; an RGB picture that has the size already comes through bit for bit.

    Args:
        image: any picture that `open_image` gives or Pillow makes.
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
    # Cut before resizing: the filter would look beyond the edges of a `box`.
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)


def _read(source: str | Path | bytes | BinaryIO) -> bytes:
    """Returns the bytes, having read no more than one beyond the limit."""
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
        raise ImageError("empty", "the file is empty: choose a picture")
    if len(content) > MAX_BYTES:
        raise ImageError(
            "too_large",
            f"the file is larger than {MAX_BYTES // 2**20} MB: choose a smaller picture",
        )
    return content


def _decode(content: bytes) -> Image.Image:
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise _unidentified(content) from None
    except Image.DecompressionBombError as error:
        raise _too_many_pixels() from error
    except Exception as error:  # whatever a plugin trips over in a file made to trip it
        raise _damaged() from error
    _check_dimensions(image)
    _check_decoding_time(image, content)
    large = image.width * image.height >= LARGE
    with _one_large_image if large else nullcontext():
        try:
            image.draft(None, (JPEG_SIDE, JPEG_SIDE))
            image.load()
        except Exception as error:
            raise _damaged() from error
    return image


def _without_metadata(content: bytes) -> bytes:
    """Returns a PNG or a JPEG with nothing but what its pixels need, and its orientation.

    Pillow gives up a PNG over text that unpacks to more than a megabyte, or a damaged time stamp.
    """
    if content.startswith(PNG_SIGNATURE):
        return PNG_SIGNATURE + b"".join(_png_chunks(content))
    if content.startswith(b"\xff\xd8"):
        return b"".join(_jpeg_segments(content))
    return content


def _png_chunks(content: bytes) -> Iterator[bytes]:
    """Yields the chunks that pixels depend on, which have a capital first, and the orientation."""
    start = len(PNG_SIGNATURE)
    while start + 12 <= len(content):
        length = int.from_bytes(content[start : start + 4])
        chunk = content[start : start + 12 + length]
        kind, checksum = chunk[4:8], chunk[-4:]
        whole = zlib.crc32(chunk[4:-4]).to_bytes(4) == checksum
        if kind[:1].isupper() or (kind in (b"tRNS", b"eXIf") and whole and length):
            yield chunk
        start += len(chunk)


def _jpeg_segments(content: bytes) -> Iterator[bytes]:
    """Yields the segments without comments and applications, whole ones about colours excepted."""
    yield content[:2]
    start = 2
    while content[start : start + 1] == b"\xff" and start + 4 <= len(content):
        marker = content[start + 1]
        if marker in (0xDA, 0xFF) or 0xD0 <= marker <= 0xD9:  # pixels, or none with a length
            break
        length = 2 + int.from_bytes(content[start + 2 : start + 4])
        segment = content[start : start + length]
        about_colours = segment[4:9] == b"JFIF\0" or segment[4:9] == b"Adobe"
        of_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not of_metadata or (about_colours and len(segment) >= 16) or segment[4:8] == b"Exif":
            yield segment
        start += length
    yield content[start:]


def _gif_of_the_first_frame(content: bytes) -> bytes:
    """Returns a GIF without what stands before its first frame, transparency excepted.

    Pillow joins comments block by block, each time copying what it has: 10 MB of blocks of a byte
    would take hours.
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
    return ImageError(
        "unknown_format", f"the file is not a picture that can be read: choose a {READABLE}"
    )


def _check_dimensions(image: Image.Image) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise _damaged()
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            "too_narrow",
            f"the picture's sides are {width} and {height} pixels, more than "
            f"{MAX_ASPECT}:1: crop it",
        )
    if width * height > MAX_PIXELS:
        raise _too_many_pixels()


def _check_decoding_time(image: Image.Image, content: bytes) -> None:
    scans = content.count(b"\xff\xda") if image.format in ("JPEG", "MPO") else 0
    codecs = {tile[0] for tile in getattr(image, "tile", ())}
    pixels = image.width * image.height
    most_pixels = MAX_PIXELS_OF_AVIF if image.format == "AVIF" else MAX_PIXELS
    most_bytes = MAX_BYTES
    if not codecs.isdisjoint(SLOW_CODECS):
        most_pixels, most_bytes = MAX_PIXELS_OF_SLOW_CODECS, MAX_BYTES_OF_SLOW_CODECS
    if scans > MAX_JPEG_SCANS or pixels > most_pixels or len(content) > most_bytes:
        raise ImageError(
            "too_large", "the picture takes too long to decode: save it as a plain JPEG or PNG"
        )


def _too_many_pixels() -> ImageError:
    return ImageError(
        "too_many_pixels",
        f"the picture has more than {MAX_PIXELS // 10**6} megapixels: choose a smaller one",
    )


def _damaged() -> ImageError:
    return ImageError("damaged", "the picture is damaged or cut off: choose another file")


def _upright(image: Image.Image) -> Image.Image:
    """Applies the orientation of the metadata; metadata that cannot be read is ignored."""
    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # hostile metadata is no reason to refuse the pixels
        return image
    turn = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scales a grey picture of 16 or 32 bits or of floats to 0–255, keeping a transparent value.

    16 bits are divided by 257, so that white stays white. Integers of 32 bits and floats have no
    fixed white: values up to 1 (floats), 255 or 65535 are taken for fractions of that, others are
    stretched from their lowest to their highest.
    """
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        grey = values / np.float32(257)
    else:
        grey = _stretched(np.nan_to_num(values.astype(np.float64)), image.mode == "F")
    result = Image.fromarray(np.rint(grey).clip(0, 255).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
        return Image.merge("LA", (result, Image.fromarray(alpha)))
    return result


def _stretched(values: np.ndarray, fractions: bool) -> np.ndarray:
    low, high = values.min(), values.max()
    if low >= 0:
        for white in (1.0, 255.0, 65535.0) if fractions else (255.0, 65535.0):
            if high <= white:
                return values * (255.0 / white)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.nan_to_num((values / 2 - low / 2) / (high / 2 - low / 2) * 255.0)
