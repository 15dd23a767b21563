"""Pictures are decoded in processes of their own: what gets stuck there costs its request alone."""

import asyncio
import contextlib
import functools
import io
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from pebble import ProcessExpired
from PIL import Image

from classifier.data.images import ImageError, open_image, to_model_input
from interface.decoder import MEMORY, PROCESSES, Decoder
from interface.uploads import Upload
from pictures import bad_pictures, encoded, memory_bombs, scene

PICTURE = encoded(scene(), "PNG")
Children = Callable[[], list[BaseProcess]]
LINUX = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the memory has no bound here"
)


@pytest.fixture
def children() -> Children:
    """The processes that decode; other tests of this process may have some of their own."""
    others = set(multiprocessing.active_children())
    return lambda: [child for child in multiprocessing.active_children() if child not in others]


@pytest.fixture
def decoder(children: Children) -> Iterator[Decoder]:
    decoder = Decoder(seconds=60)
    yield decoder
    decoder.stop()
    assert not children()


def test_pixels_and_refusals_are_those_of_the_image_functions(decoder: Decoder) -> None:
    assert np.array_equal(_decode(decoder, PICTURE), to_model_input(open_image(PICTURE)))
    for name in ("cut.jpg", "empty.png", "drawing.svg", "bomb.png"):
        content, reason = bad_pictures()[name]
        with pytest.raises(ImageError) as refusal:
            _decode(decoder, content)
        with pytest.raises(ImageError) as expected:
            open_image(content)
        assert (refusal.value.reason, str(refusal.value)) == (reason, str(expected.value))


@LINUX
@pytest.mark.parametrize("name", memory_bombs())
def test_a_picture_that_would_take_all_memory_is_refused_or_its_metadata_skipped(
    name: str, decoder: Decoder, children: Children
) -> None:
    """Its tags would take 12 GB."""
    answer = None
    with contextlib.suppress(ImageError):
        answer = _decode(decoder, memory_bombs()[name])
    assert max(map(_most_memory, children())) < MEMORY + 2**28
    assert (answer is None) == name.endswith(".tif")
    assert _decode(decoder, PICTURE).shape == (32, 32, 3)


@LINUX
def test_all_processes_together_stay_below_a_gigabyte(decoder: Decoder, children: Children) -> None:
    content = io.BytesIO()
    Image.new("F", (7000, 7000)).save(content, "TIFF", compression="tiff_deflate")

    async def visitors() -> list[object]:
        pictures = [decoder.decode(Upload(content.getvalue()), {32}) for _ in range(PROCESSES)]
        return list(await asyncio.gather(*pictures, return_exceptions=True))

    for answer in asyncio.run(visitors()):
        assert isinstance(answer, ImageError)
        assert answer.reason == "too_large"
    assert len(children()) == PROCESSES
    assert sum(map(_most_memory, children())) < 2**30
    assert _decode(decoder, large()).shape == (32, 32, 3)


def test_nothing_but_an_upload_is_decoded(decoder: Decoder) -> None:
    for value in ("/etc/passwd", PICTURE, {"path": "/etc/passwd"}, None):
        with pytest.raises(AttributeError):
            asyncio.run(decoder.decode(value, {32}))  # type: ignore[arg-type]


@LINUX
@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGSTOP, ImageError), (signal.SIGKILL, ProcessExpired)]
)
def test_a_process_that_hangs_or_dies_costs_its_own_request_and_is_replaced(
    children: Children, number: int, error: type[Exception]
) -> None:
    decoder = Decoder(seconds=10)
    try:
        _decode(decoder, PICTURE)
        before = children()

        async def visitors() -> list[object]:
            pictures = await _started(decoder, before)
            for child in before:
                os.kill(child.pid or 0, number)
            return list(await asyncio.gather(*pictures, return_exceptions=True))

        for answer in asyncio.run(visitors()):
            assert isinstance(answer, error)
        assert _decode(decoder, PICTURE).shape == (32, 32, 3)
        assert not any(child.is_alive() for child in before)
    finally:
        decoder.stop()


@LINUX
def test_processes_that_die_while_they_wait_are_replaced(
    decoder: Decoder, children: Children
) -> None:
    _decode(decoder, PICTURE)
    for child in children():
        os.kill(child.pid or 0, signal.SIGKILL)
    deadline = time.monotonic() + 30
    pixels = None
    while pixels is None and time.monotonic() < deadline:
        with contextlib.suppress(ProcessExpired, RuntimeError):  # until it is noticed
            pixels = _decode(decoder, PICTURE)
    assert pixels is not None


@LINUX
def test_it_stops_while_a_picture_is_decoded(decoder: Decoder, children: Children) -> None:
    _decode(decoder, PICTURE)

    async def leave() -> None:
        await _started(decoder, children())
        await asyncio.to_thread(decoder.stop)

    asyncio.run(asyncio.wait_for(leave(), 60))
    assert not children()


async def _started(
    decoder: Decoder, processes: list[BaseProcess]
) -> list[asyncio.Future[dict[int, np.ndarray]]]:
    """Has each process decode a large picture; returns when all have begun."""
    before = [_seconds(process) for process in processes]
    pictures = [asyncio.ensure_future(decoder.decode(Upload(large()), {32})) for _ in processes]
    while any(
        _seconds(process) < used + 0.1 for process, used in zip(processes, before, strict=True)
    ):
        await asyncio.sleep(0.01)
    return pictures


@functools.cache
def large() -> bytes:
    """A picture whose decoding takes about a second."""
    return encoded(Image.new("RGBA", (7000, 7000), "red"), "PNG")


def _most_memory(process: BaseProcess) -> int:
    """Returns the bytes of memory that a process had at most."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def _seconds(process: BaseProcess) -> float:
    """Returns the time of the processor that a process has used since its start."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK")


def _decode(decoder: Decoder, content: bytes) -> np.ndarray:
    pixels = asyncio.run(decoder.decode(Upload(content), {32, 48}))
    assert pixels[48].shape == (48, 48, 3)
    return pixels[32]
