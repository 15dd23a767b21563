"""Image files: the pixels of every kind, the refusals, the limits, the table of formats."""

import importlib
import io
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classifier.data.image_formats import IMAGE_FORMATS, ImageFormat
from classifier.data.images import (
    OWN_DATA,
    UPLOADS,
    ImageError,
    decode,
    open_image,
    to_model_input,
)
from classifier.data.preprocessing import REDUCING_GAP, to_rgb
from classifier.errors import InputError
from pictures import (
    GREEN,
    bad_pictures,
    encoded,
    good_pictures,
    orientation,
    png_header,
    scene,
    with_odd_metadata,
)

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 5.0  # of the processor: others may use the machine


@pytest.mark.parametrize("name", good_pictures())
def test_to_model_input_converts_every_kind_of_picture(name: str) -> None:
    start = time.process_time()
    pixels = to_model_input(open_image(good_pictures()[name]))
    assert time.process_time() - start < SECONDS
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("name", bad_pictures())
def test_open_image_refuses_a_bad_picture_in_one_line(name: str) -> None:
    content, reason = bad_pictures()[name]
    start = time.process_time()
    with pytest.raises(ImageError) as refusal:
        to_model_input(open_image(content))
    assert time.process_time() - start < SECONDS
    assert refusal.value.reason == reason
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_status == 2


@pytest.mark.parametrize("value", range(1, 9))
def test_to_rgb_applies_the_orientation(value: int) -> None:
    upright = np.asarray(Image.radial_gradient("L").resize((64, 48)).convert("RGB")).copy()
    upright[:10, :20] = (255, 0, 0)
    names = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_90 TRANSVERSE ROTATE_270"
    stored = Image.fromarray(upright)
    if value > 1:
        stored = stored.transpose(Image.Transpose[names.split()[value - 2]])
    content = encoded(stored, "PNG", exif=orientation(value))
    assert np.array_equal(np.asarray(to_rgb(open_image(content))), upright)


@pytest.mark.parametrize("name", with_odd_metadata())
def test_open_image_skips_odd_metadata(name: str) -> None:
    form = "PNG" if name.endswith(".png") else "JPEG"
    expected = to_model_input(open_image(encoded(scene(), form)))
    assert np.array_equal(to_model_input(open_image(with_odd_metadata()[name])), expected)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_to_model_input_puts_transparency_on_white(form: str) -> None:
    picture = Image.new("RGBA", (64, 64), (*GREEN, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 32, 64))
    options = {"lossless": True} if form == "WEBP" else {}
    pixels = to_model_input(open_image(encoded(picture, form, **options)))
    assert (pixels[:, :14] == 255).all()
    assert (pixels[:, 18:] == GREEN).all()


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_to_model_input_scales_16_bits(form: str) -> None:
    greys = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64
    picture = Image.fromarray(greys)
    pixels = to_model_input(open_image(encoded(picture, form)))
    assert np.abs(pixels[..., 0] - greys / 257.0).max() <= 1
    assert pixels[0, 0, 0] == 0
    assert pixels[-1, -1, 0] == 255


def test_to_model_input_scales_floats_from_0_to_1() -> None:
    fractions = np.linspace(0, 1, 1024, dtype=np.float32).reshape(32, 32)
    pixels = to_model_input(Image.fromarray(fractions))
    assert np.abs(pixels[..., 1] - fractions * 255).max() <= 1


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_open_image_takes_the_first_frame(form: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("lime", "red")]
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:], duration=50)
    pixels = to_model_input(open_image(content))
    assert (pixels[..., 1] > 240).all()
    assert (pixels[..., 0] < 15).all()


@pytest.mark.parametrize("size", [(900, 60), (60, 900), (333, 32), (32, 33)])
def test_to_model_input_crops_the_centre(size: tuple[int, int]) -> None:
    width, height = size
    side = min(size)
    picture = Image.new("RGB", size, "red")
    left, top = (width - side) // 2, (height - side) // 2
    picture.paste(GREEN, (left, top, left + side, top + side))
    assert (to_model_input(picture) == GREEN).all()


def test_open_image_decodes_a_large_jpeg_at_a_smaller_scale() -> None:
    content = encoded(scene(5000, 4000), "JPEG", quality=92)
    picture = open_image(content)
    assert max(picture.size) < 2000
    with Image.open(io.BytesIO(content)) as whole:
        difference = to_model_input(picture).astype(int) - to_model_input(whole)
    assert np.abs(difference).max() <= 3


def test_open_image_accepts_larger_own_data_than_uploads() -> None:
    photograph = encoded(scene(), "JPEG") + bytes(UPLOADS.bytes)
    with pytest.raises(ImageError, match="larger than 10 MB"):
        open_image(photograph)
    assert open_image(photograph, OWN_DATA).size == scene().size
    with pytest.raises(ImageError, match="larger than 100 MB"):
        open_image(bytes(OWN_DATA.bytes + 1), OWN_DATA)
    picture = encoded(Image.new("1", (11_000, 10_000)), "PNG")
    with pytest.raises(ImageError, match="more than 50 megapixels"):
        open_image(picture)
    assert decode(picture, 32, name="large").max() == 0
    with pytest.raises(InputError, match="more than 120 megapixels"):
        decode(png_header(11_000, 11_000), 32, name="too large")


@pytest.mark.parametrize("image_format", IMAGE_FORMATS, ids=lambda image_format: image_format.name)
def test_image_formats_match_pillow_and_the_documents(image_format: ImageFormat) -> None:
    plugin = importlib.import_module(f"PIL.{image_format.plugin}")
    known = Image.registered_extensions()
    for identifier in image_format.identifiers:
        assert Image.OPEN[identifier][0].__module__ == plugin.__name__
    assert {known[suffix] for suffix in image_format.suffixes} <= {*image_format.identifiers, "MPO"}
    start = encoded(scene(), image_format.identifiers[0])[:100].decode("latin-1")
    others = [other.name for other in IMAGE_FORMATS if re.match(other.start, start, re.DOTALL)]
    assert others == [image_format.name]
    for page in ("docs/your-own-data.md", "docs/api.md"):
        assert image_format.name in (ROOT / page).read_text(), page


def test_open_image_reads_no_more_than_the_limit() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            assert size >= 0
            Endless.given += size
            return bytes(size)

    with pytest.raises(ImageError, match="larger than 10 MB"):
        open_image(Endless())  # type: ignore[arg-type]
    assert Endless.given <= UPLOADS.bytes + 1


@pytest.mark.parametrize("size", [(500, 333), (197, 640), (193, 192), (1001, 777), (225, 224)])
def test_to_model_input_reduces_large_images_as_pillow(
    size: tuple[int, int],
) -> None:
    image = scene(*size)
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    square = image.crop((left, top, left + side, top + side))
    for target in (32, 64):
        expected = square.resize(
            (target, target), Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP
        )
        assert np.array_equal(to_model_input(image, target), np.asarray(expected))
