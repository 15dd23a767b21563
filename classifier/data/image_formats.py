"""The image formats that are read: the one table, from which checks and texts follow."""

from typing import NamedTuple


class ImageFormat(NamedTuple):
    """An image format.

    Attributes:
        name: in sentences for the user.
        plugin: the module of Pillow that reads it.
        identifiers: Pillow's names of it and of its variants.
        start: a regular expression, of Python and of JavaScript, for what a file begins with; by it
            the static page tells the format before the browser decodes the file.
        suffixes: of file names. It is an error if a file with one of them is not an image; for any
            other file the content decides.
    """

    name: str
    plugin: str
    identifiers: tuple[str, ...]
    start: str
    suffixes: tuple[str, ...]


# Formats that Pillow decodes by itself: none that calls another program (EPS, WMF) and none that is
# not an image format (HDF5, GRIB, MPEG). Its plug-in for JPEG also reads MPO.
IMAGE_FORMATS = (
    ImageFormat(
        "JPEG",
        "JpegImagePlugin",
        ("JPEG",),
        r"\xff\xd8\xff",
        (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    ),
    ImageFormat("PNG", "PngImagePlugin", ("PNG",), r"\x89PNG\r\n\x1a\n", (".png", ".apng")),
    ImageFormat("GIF", "GifImagePlugin", ("GIF",), r"GIF8[79]a", (".gif",)),
    ImageFormat("WebP", "WebPImagePlugin", ("WEBP",), r"RIFF.{4}WEBPVP8", (".webp",)),
    ImageFormat(
        "AVIF", "AvifImagePlugin", ("AVIF",), r".{4}ftyp.{0,60}avi[fs]", (".avif", ".avifs")
    ),
    ImageFormat("BMP", "BmpImagePlugin", ("BMP", "DIB"), r"BM", (".bmp", ".dib")),
    ImageFormat("TIFF", "TiffImagePlugin", ("TIFF",), r"II[*+]\x00|MM\x00[*+]", (".tif", ".tiff")),
    ImageFormat("PPM", "PpmImagePlugin", ("PPM",), r"P[1-6]\s", (".ppm", ".pgm", ".pbm", ".pnm")),
)

PILLOW_FORMATS = tuple(name for image_format in IMAGE_FORMATS for name in image_format.identifiers)
IMAGE_SUFFIXES = frozenset(suffix for known in IMAGE_FORMATS for suffix in known.suffixes)
NAMES = [image_format.name for image_format in IMAGE_FORMATS]
READABLE = f"{', '.join(NAMES[:-1])} or {NAMES[-1]}"
