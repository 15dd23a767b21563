"""Uploads as a stranger would misuse them: too large, cut off, and read in pieces."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from app_server import RunningApp
from interface.uploads import MAX_BYTES
from pictures import encoded, scene

PICTURE = encoded(scene(), "PNG")


def test_an_upload_that_is_too_large_as_a_whole_is_refused(app: RunningApp) -> None:
    with httpx.Client(base_url=f"{app.url}/gradio_api", timeout=60) as http:
        for form in (
            {"data": {"text": "a" * (MAX_BYTES + 2**21)}, "files": {"files": ("a", b"1")}},
            {"files": [("files", (str(n), bytes(MAX_BYTES // 2))) for n in range(3)]},
        ):
            answer = http.post("/upload", **form)  # type: ignore[arg-type]
            assert answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE
            assert "10 MB" in answer.text


def test_an_upload_that_is_cut_off_leaves_nothing(
    app: RunningApp, logged: Callable[[], str]
) -> None:
    with httpx.Client(base_url=f"{app.url}/gradio_api", timeout=60) as http:
        path = Path(http.post("/upload", files={"files": ("a.png", PICTURE)}).json()[0])
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'

    def cut_off() -> Iterator[bytes]:
        yield head + bytes(2**20)
        deadline = time.monotonic() + 20
        while not _unfinished(path.parents[1]) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _unfinished(path.parents[1])
        raise KeyboardInterrupt

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    with pytest.raises(KeyboardInterrupt):
        httpx.post(f"{app.url}/gradio_api/upload", content=cut_off(), headers=kind, timeout=60)
    deadline = time.monotonic() + 20
    while _unfinished(path.parents[1]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _unfinished(path.parents[1])
    assert "Traceback" not in logged()


def test_a_range_is_ignored(app: RunningApp, logged: Callable[[], str]) -> None:
    with httpx.Client(base_url=app.url, timeout=60) as http:
        path = http.post("/gradio_api/upload", files={"files": ("a.png", PICTURE)}).json()[0]
        for address in (f"/gradio_api/file={path}", "/examples/lion.jpg"):
            whole = http.get(address).content
            for asked in ("bytes=2-5", "bytes=0-0,2-3", "bytes=a-b", "lines=0-1", ""):
                headers = {"Range": asked, "X-Mine": "stranger"}
                answer = http.get(address, headers=headers)
                assert answer.status_code == httpx.codes.OK, asked
                assert answer.content == whole, asked
                assert "stranger" not in str(answer.headers)
    assert "Traceback" not in logged()


def _unfinished(folder: Path) -> list[Path]:
    """Returns the files that Gradio writes while an upload comes in."""
    return [file for file in folder.iterdir() if file.is_file()]
