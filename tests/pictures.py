"""Pictures for the tests: good ones of every kind, and those that somebody might do harm with."""

import io
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

GREEN = (30, 160, 60)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """Returns a picture as the content of a file."""
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def scene(width: int = 200, height: int = 120, mode: str = "RGB") -> Image.Image:
    """Returns a smooth picture, bright at the left and dark at the right."""
    ramp = np.linspace(240, 20, width)[None, :, None] * np.array([1.0, 0.8, 0.5])
    pixels = np.broadcast_to(ramp, (height, width, 3)).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


@cache
def good_pictures() -> dict[str, bytes]:
    """Returns files that must be answered, by their name."""
    picture = scene()
    palette = picture.quantize(16)
    cut_out = scene(mode="RGBA")
    cut_out.putalpha(Image.linear_gradient("L").resize(cut_out.size))
    grey_16 = Image.fromarray(np.linspace(0, 65535, 6400).reshape(80, 80).astype(np.uint16))
    floats = Image.fromarray(np.linspace(0, 1, 6400, dtype=np.float32).reshape(80, 80))
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("green", "red", "blue")]
    animated = {"save_all": True, "append_images": frames[1:], "duration": 50}
    files = {
        "photo.jpg": encoded(picture, "JPEG"),
        "progressive.jpg": encoded(picture, "JPEG", progressive=True),
        "cmyk.jpg": encoded(picture.convert("CMYK"), "JPEG"),
        "grey.jpg": encoded(picture.convert("L"), "JPEG"),
        "rgb.png": encoded(picture, "PNG"),
        "rgba.png": encoded(cut_out, "PNG"),
        "grey_alpha.png": encoded(cut_out.convert("LA"), "PNG"),
        "one_bit.png": encoded(picture.convert("1"), "PNG"),
        "palette.png": encoded(palette, "PNG"),
        "palette_transparent.png": encoded(palette, "PNG", transparency=0),
        "palette_alphas.png": encoded(palette, "PNG", transparency=bytes(range(16))),
        "colour_key.png": encoded(picture, "PNG", transparency=(240, 192, 120)),
        "grey_16.png": encoded(grey_16, "PNG"),
        "grey_16.tif": encoded(grey_16, "TIFF"),
        "floats.tif": encoded(floats, "TIFF"),
        "lab.tif": encoded(Image.new("LAB", (50, 50), (128, 128, 128)), "TIFF"),
        "ycbcr.tif": encoded(picture.convert("YCbCr"), "TIFF", compression="jpeg"),
        "deflate.tif": encoded(picture, "TIFF", compression="tiff_deflate"),
        "animated.gif": encoded(frames[0], "GIF", **animated),
        "larger_canvas.gif": _on_a_canvas(encoded(palette, "GIF"), 260, 160),
        "animated.webp": encoded(frames[0], "WEBP", **animated),
        "animated.png": encoded(frames[0], "PNG", **animated),
        "before_animation.png": encoded(frames[0], "PNG", default_image=True, **animated),
        "lossless.webp": encoded(picture, "WEBP", lossless=True),
        "photo.avif": encoded(picture, "AVIF"),
        "photo.bmp": encoded(picture, "BMP"),
        "photo.ppm": encoded(picture, "PPM"),
        "tiny.png": encoded(Image.new("RGB", (1, 1), GREEN), "PNG"),
        "thousand_to_one.png": encoded(Image.new("RGB", (1000, 1), GREEN), "PNG"),
        "forty_megapixels.png": encoded(Image.new("L", (8000, 5000), 77), "PNG"),
        "named.html": encoded(picture, "PNG"),
        "with_trailing_html.gif": encoded(palette, "GIF") + b"<script>alert(1)</script>",
        "polyglot_zip.jpg": encoded(picture, "JPEG") + b"PK\x05\x06" + bytes(18),
        "hostile_icc.jpg": encoded(picture, "JPEG", icc_profile=b"\xff" * 4000),
        "hostile_exif.jpg": encoded(picture, "JPEG", exif=b"Exif\0\0II*\0" + b"\xff" * 500),
        "looping_exif.jpg": encoded(picture, "JPEG", exif=_looping_exif()),
        "orientation_99.jpg": encoded(picture, "JPEG", exif=orientation(99)),
        "motion_photo.jpg": motion_photo(),
        "two_pictures.mpo": encoded(picture, "MPO", save_all=True, append_images=[picture]),
        "script_in_comment.jpg": encoded(picture, "JPEG", comment=b"<script>alert(1)</script>"),
        "text_chunk.png": encoded(picture, "PNG", pnginfo=_text_chunk()),
        **with_odd_metadata(),
    }
    for value in range(1, 9):
        files[f"orientation_{value}.jpg"] = encoded(picture, "JPEG", exif=orientation(value))
    return files


@cache
def bad_pictures() -> dict[str, tuple[bytes, str]]:
    """Returns files that must be refused: their content and the reason, by their name."""
    jpeg, png = encoded(scene(), "JPEG"), encoded(scene(), "PNG")
    gif, webp = encoded(scene(), "GIF"), encoded(scene(), "WEBP")
    avif, tiff = encoded(scene(), "AVIF"), encoded(scene(), "TIFF")
    files: dict[str, tuple[bytes, str]] = {
        "empty.png": (b"", "empty"),
        "text.jpg": (b"This is no picture. " * 50, "unknown_format"),
        "page.png": (b"<!doctype html><html><script>alert(1)</script></html>", "unknown_format"),
        "postscript.eps": (encoded(scene(), "EPS"), "unknown_format"),
        "jpeg_2000.jp2": (encoded(scene(), "JPEG2000"), "unknown_format"),
        "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>', "vector"),
        "drawing.png": (b"\xef\xbb\xbf <svg onload='alert(1)'></svg>", "vector"),
        "entities.svg": (
            b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
            b"<svg>&a;</svg>",
            "vector",
        ),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "damaged"),
        "cut.png": (png[: len(png) // 2], "damaged"),
        "cut.gif": (gif[: len(gif) // 2], "damaged"),
        "cut.webp": (webp[: len(webp) // 2], "damaged"),
        "cut.avif": (avif[: len(avif) // 2], "unknown_format"),
        "cut.tif": (tiff[: len(tiff) // 2], "damaged"),
        "cut.ppm": (encoded(scene(), "PPM")[:5000], "damaged"),
        "head_only.png": (png[:40], "unknown_format"),
        "broken_checksum.png": (_flipped(png, 60), "damaged"),
        "bomb.png": (png_header(60_000, 60_000), "too_many_pixels"),
        "wide_bomb.png": (png_header(400_000, 400), "too_many_pixels"),
        "over_fifty_megapixels.png": (png_header(7100, 7100), "too_many_pixels"),
        "bomb.gif": (gif_header(65_535, 65_535), "too_many_pixels"),
        "bomb_frame.gif": (_on_a_canvas(gif_header(65_535, 65_535), 1, 1), "too_many_pixels"),
        "bomb.ppm": (b"P6\n60000 60000\n255\n" + bytes(100), "too_many_pixels"),
        "bomb.tif": (_tiff_header(60_000, 60_000), "too_many_pixels"),
        "line.png": (png_header(1001, 1), "too_narrow"),
        "column.png": (png_header(3, 4000), "too_narrow"),
        "eleven_megabytes.bmp": (encoded(Image.new("RGB", (2000, 1900)), "BMP"), "too_large"),
        "ten_megabytes_and_one.jpg": (jpeg + bytes(10 * 2**20 - len(jpeg) + 1), "too_large"),
        "many_comments.png": (many_comments(), "damaged"),
    }
    return files


def _on_a_canvas(gif: bytes, width: int, height: int) -> bytes:
    return gif[:6] + struct.pack("<HH", width, height) + gif[10:]


def motion_photo() -> bytes:
    """Returns a JPEG with the video behind it that phones append, here of noise."""
    return encoded(scene(), "JPEG") + np.random.default_rng(0).bytes(8 * 2**20)


def many_comments() -> bytes:
    """Returns a PNG whose comments unpack to more than Pillow's limit for all of them."""
    png = encoded(scene(), "PNG")
    comment = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000)))
    return png[:33] + comment * 80 + png[33:]


def orientation(value: int) -> bytes:
    """Returns EXIF metadata that say how the camera was held."""
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


def png_header(width: int, height: int) -> bytes:
    """Returns a PNG that claims a size and holds next to nothing."""
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = _chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + head + data + _chunk(b"IEND", b"")


def gif_header(width: int, height: int) -> bytes:
    """Returns a GIF that claims a size and holds next to nothing."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00"
    return screen + frame + b";"


def _tiff_header(width: int, height: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, 100)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(104)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def _flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]


def _text_chunk() -> PngImagePlugin.PngInfo:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "<img src=x onerror=alert(1)>")
    return notes


@cache
def memory_bombs() -> dict[str, bytes]:
    """Returns small pictures each of whose 60,000 tags claims the same 200 KB of the file."""
    size, count = 200_000, 60_000
    pixels = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    pixels += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 64), (279, 4, 1, 4096)]
    claims = [(1000 + index, 7, size, 8) for index in range(count)]

    def tags(entries: list[tuple[int, int, int, int]]) -> bytes:
        directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        head = b"II*\0" + struct.pack("<I", 8 + size) + bytes(size)
        return head + struct.pack("<H", len(entries)) + directory + bytes(4)

    png = encoded(scene(), "PNG")
    return {
        "tags.tif": tags(pixels + claims),
        "tags.png": png[:33] + _chunk(b"eXIf", tags(claims)) + png[33:],
    }


@cache
def with_odd_metadata() -> dict[str, bytes]:
    """Returns the picture of `scene` with metadata that are too large, damaged or hostile.

    Or with an orientation elsewhere than in EXIF, which browsers do not apply.
    """
    jpeg, png = encoded(scene(), "JPEG"), encoded(scene(), "PNG")
    large = zlib.compress(bytes(20_000_000))
    xmp, turned = b"XML:com.adobe.xmp\0", b'<x tiff:Orientation="6"/>'
    raw_profile = f"\nexif\n{len(orientation(6))}\n{orientation(6).hex()}\n"
    chunks = {
        "large_comment": (b"zTXt", b"Comment\0\0" + large),
        "large_international_comment": (b"iTXt", b"Comment\0\1\0\0\0" + large),
        "large_plain_comment": (b"tEXt", b"Comment\0" + b"a" * 3_000_000),
        "damaged_comment": (b"zTXt", b"Comment\0\0not packed"),
        "empty_comment": (b"zTXt", b""),
        "large_xmp": (b"iTXt", xmp + b"\1\0\0\0" + zlib.compress(b"<x" * 5_000_000)),
        "damaged_xmp": (b"iTXt", xmp + b"\0\0\0\0\xff\xfe tiff:Orientation=9"),
        "orientation_in_xmp": (b"iTXt", xmp + b"\0\0\0\0" + turned),
        "orientation_in_a_raw_profile": (
            b"tEXt",
            b"Raw profile type exif\0" + raw_profile.encode(),
        ),
        "large_profile": (b"iCCP", b"icc\0\0" + large),
        "damaged_profile": (b"iCCP", b"icc\0\0zzzz"),
        "damaged_exif": (b"eXIf", b"\xff" * 300),
        "empty_exif": (b"eXIf", b""),
        "unknown_chunk": (b"abCd", b"1" * 100_000),
    }
    files = {f"{name}.png": png[:33] + _chunk(*chunk) + png[33:] for name, chunk in chunks.items()}
    comment = _chunk(*chunks["large_comment"])
    files["comment_at_the_end.png"] = png[:-12] + comment + png[-12:]
    segments = {
        "damaged_exif": (0xE1, b"Exif\0\0II*\0" + b"\xff" * 500),
        "cut_exif": (0xE1, b"Exif\0\0"),
        "profile_of_missing_parts": (0xE2, b"ICC_PROFILE\0\7\x09abc"),
        "damaged_list_of_pictures": (0xE2, b"MPF\0II*\0" + b"\xff" * 40),
        "damaged_photoshop": (0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\xff\xff\xff\xff1"),
        "large_xmp": (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"\xff" * 60_000),
        "orientation_in_xmp": (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + turned),
        "empty_comment": (0xFE, b""),
    }
    for name, (marker, content) in segments.items():
        head = bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2)
        files[f"{name}.jpg"] = jpeg[:2] + head + content + jpeg[2:]
    return files


def _looping_exif() -> bytes:
    """EXIF metadata whose directory names itself as the next."""
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + b"\x08\0\0\0"
