"""The image formats that are read: the one table, from which checks and texts follow."""

from typing import NamedTuple


class ImageFormat(NamedTuple):
    """An image format.

    Attributes:
        name: in sentences for the user.
        plugin: the module of Pillow that reads it.
        identifiers: Pillow's names of it and of its variants.
        suffixes: of file names. It is an error if a file with one of them is not an image; for any
            other file the content decides.
    """

    name: str
    plugin: str
    identifiers: tuple[str, ...]
    suffixes: tuple[str, ...]


# Formats that Pillow decodes by itself: none that calls another program (EPS, WMF) and none that is
# not an image format (HDF5, GRIB, MPEG). Its plug-in for JPEG also reads MPO.
IMAGE_FORMATS = (
    ImageFormat("JPEG", "JpegImagePlugin", ("JPEG",), (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")),
    ImageFormat("PNG", "PngImagePlugin", ("PNG",), (".png", ".apng")),
    ImageFormat("GIF", "GifImagePlugin", ("GIF",), (".gif",)),
    ImageFormat("WebP", "WebPImagePlugin", ("WEBP",), (".webp",)),
    ImageFormat("AVIF", "AvifImagePlugin", ("AVIF",), (".avif", ".avifs")),
    ImageFormat("BMP", "BmpImagePlugin", ("BMP", "DIB"), (".bmp", ".dib")),
    ImageFormat("TIFF", "TiffImagePlugin", ("TIFF",), (".tif", ".tiff")),
    ImageFormat("PPM", "PpmImagePlugin", ("PPM",), (".ppm", ".pgm", ".pbm", ".pnm")),
)

PILLOW_FORMATS = tuple(name for image_format in IMAGE_FORMATS for name in image_format.identifiers)
IMAGE_SUFFIXES = frozenset(
    suffix for image_format in IMAGE_FORMATS for suffix in image_format.suffixes
)
NAMES = [image_format.name for image_format in IMAGE_FORMATS]
READABLE = f"{', '.join(NAMES[:-1])} or {NAMES[-1]}"
