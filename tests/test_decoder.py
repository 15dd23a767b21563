"""Pictures are decoded in processes of their own: what gets stuck there costs its request alone."""

import asyncio
import contextlib
import io
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classifier.data.images import ImageError, open_image, to_model_input
from interface.decoder import PROCESSES, Decoder
from interface.uploads import Upload
from pictures import bad_pictures, encoded, memory_bombs, scene

PICTURE = encoded(scene(), "PNG")
Children = Callable[[], list[multiprocessing.Process]]


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(seconds=3)
    yield decoder
    decoder.stop()


@pytest.fixture
def children(decoder: Decoder) -> Children:
    """The processes that decode; other tests of this process may have some of their own."""
    others = set(multiprocessing.active_children())
    return lambda: [child for child in multiprocessing.active_children() if child not in others]


def test_pixels_and_refusals_are_those_of_the_decoder_itself(
    decoder: Decoder, children: Children
) -> None:
    expected = to_model_input(open_image(PICTURE))
    assert np.array_equal(_decode(decoder, PICTURE), expected)
    for name in ("cut.jpg", "empty.png", "drawing.svg", "bomb.png"):
        content, reason = bad_pictures()[name]
        with pytest.raises(ImageError) as refusal:
            _decode(decoder, content)
        assert refusal.value.reason == reason
    assert len(children()) <= 2


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory has no bound here")
@pytest.mark.parametrize("name", memory_bombs())
def test_a_picture_that_would_take_all_memory_is_refused_or_its_metadata_skipped(
    name: str,
) -> None:
    """Its tags would take 12 GB."""
    memory = 300 * 2**20
    others = set(multiprocessing.active_children())
    decoder = Decoder(seconds=60, memory=memory)
    try:
        answer = None
        with contextlib.suppress(ImageError):
            answer = _decode(decoder, memory_bombs()[name])
        (process,) = set(multiprocessing.active_children()) - others
        assert _most_memory(process) < memory + 2**29
        assert (answer is None) == name.endswith(".tif")
        assert _decode(decoder, PICTURE).shape == (32, 32, 3)
    finally:
        decoder.stop()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory has no bound here")
def test_all_processes_together_stay_below_a_gigabyte(children: Children) -> None:
    content = io.BytesIO()
    Image.new("F", (7000, 7000)).save(content, "TIFF", compression="tiff_deflate")
    decoder = Decoder(seconds=60)

    async def visitors() -> list[object]:
        pictures = [decoder.decode(Upload(content.getvalue()), [32]) for _ in range(PROCESSES)]
        return list(await asyncio.gather(*pictures, return_exceptions=True))

    try:
        for answer in asyncio.run(visitors()):
            assert isinstance(answer, ImageError)
            assert answer.reason == "too_large"
            assert "memory" in str(answer)
        assert len(children()) == PROCESSES
        assert sum(_most_memory(process) for process in children()) < 2**30
        large = encoded(Image.new("RGBA", (7000, 7000), "red"), "PNG")
        assert _decode(decoder, large).shape == (32, 32, 3)
    finally:
        decoder.stop()


def test_nothing_but_an_upload_is_decoded(decoder: Decoder) -> None:
    for value in ("/etc/passwd", PICTURE, {"path": "/etc/passwd"}, None):
        with pytest.raises(TypeError):
            asyncio.run(decoder.decode(value, [32]))  # type: ignore[arg-type]


def test_a_process_that_is_stuck_costs_its_own_request_and_is_replaced(
    decoder: Decoder, children: Children
) -> None:
    _decode(decoder, PICTURE)
    (stuck,) = children()

    async def visitors() -> list[object]:
        os.kill(stuck.pid or 0, signal.SIGSTOP)
        pictures = [decoder.decode(Upload(PICTURE + bytes(2**20)), [32]) for _ in range(6)]
        return list(await asyncio.gather(*pictures, return_exceptions=True))

    start = time.monotonic()
    answers = asyncio.run(visitors())
    assert time.monotonic() - start < 30
    refused = [answer for answer in answers if not isinstance(answer, dict)]
    assert len(refused) == 1
    assert isinstance(refused[0], ImageError)
    assert refused[0].reason == "too_large"
    assert not stuck.is_alive()
    assert _decode(decoder, PICTURE).shape == (32, 32, 3)


def test_a_process_that_was_killed_costs_nobody_an_error(
    decoder: Decoder, children: Children
) -> None:
    _decode(decoder, PICTURE)
    for child in children():
        os.kill(child.pid or 0, signal.SIGKILL)
    assert _decode(decoder, PICTURE).shape == (32, 32, 3)


def test_it_stops_at_once_whatever_it_is_at(decoder: Decoder, children: Children) -> None:
    _decode(decoder, PICTURE)
    (stuck,) = children()
    os.kill(stuck.pid or 0, signal.SIGSTOP)
    decoder.seconds = 60
    others = set(threading.enumerate())

    def is_at_it() -> bool:
        """Whether the picture's limit of time runs."""
        new = set(threading.enumerate()) - others
        return any(isinstance(thread, threading.Timer) for thread in new)

    async def leave() -> None:
        waiting = asyncio.ensure_future(decoder.decode(Upload(PICTURE), [32]))
        while not is_at_it():
            await asyncio.sleep(0.01)
        decoder.stop()
        with pytest.raises(ImageError):
            await waiting

    start = time.monotonic()
    asyncio.run(leave())
    assert time.monotonic() - start < 30


def _most_memory(process: multiprocessing.Process) -> int:
    """Returns the bytes of memory that a process had at most."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def _decode(decoder: Decoder, content: bytes) -> np.ndarray:
    pixels = asyncio.run(decoder.decode(Upload(content), [32, 48]))
    assert pixels[48].shape == (48, 48, 3)
    return pixels[32]
