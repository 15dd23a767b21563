"""From the content of an image file to the pixels that a model takes: the only source of it.

This file needs nothing but NumPy and Pillow, and one constant: it also becomes a part of the
`handler.py` of published models.
"""

import io
from contextlib import suppress

import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from classifier.data.image_formats import PILLOW_FORMATS

# JPEGs are decoded at the smallest scale (1, 1/2, 1/4 or 1/8) that leaves this many pixels on the
# shorter side: more than any model takes, and several times as fast.
JPEG_SIDE = 512
REDUCING_GAP = 3.0  # as Pillow recommends: hardly to be told from the filter without it
# Where Pillow looks for an orientation, too: browsers turn an image by its EXIF metadata alone.
NOT_EXIF = ("xmp", "XML:com.adobe.xmp", "Raw profile type exif")
# Texts in PNGs, such as the settings that an image was generated with, may be longer than Pillow's
# default of one megabyte; its limit for all texts of a file stays.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY


def read_header(content: bytes) -> Image.Image:
    """Opens the content of an image file without decoding it; raises what Pillow raises."""
    return Image.open(io.BytesIO(content), formats=PILLOW_FORMATS)


def load_pixels(image: Image.Image) -> Image.Image:
    """Decodes the first frame of an image from `read_header`; large JPEGs at a smaller scale."""
    image.draft(None, (JPEG_SIDE, JPEG_SIDE))
    image.load()
    return image


def to_model_input(image: Image.Image, size: int = 32) -> np.ndarray:
    """Converts an image to the pixels that a model takes.

    The largest centred square is cropped and resized with an antialiasing filter; the pixels of an
    RGB image that already has the size are unchanged.

    Args:
        image: an image of any mode.
        size: the side of the result in pixels.

    Returns:
        uint8, (size, size, 3), RGB 0–255.
    """
    return np.asarray(_square(to_rgb(image), size), dtype=np.uint8)


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts an image of any mode to RGB: EXIF orientation applied, transparency on white.

    Colour profiles are not applied: the models were trained without, and the colour engine would
    run an untrusted profile. The given image itself is turned, and returned if it is RGB.
    """
    for name in NOT_EXIF:
        image.info.pop(name, None)
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
