"""Uploads as a stranger would misuse them: too many, too large, cut off, and read in pieces."""

import asyncio
import base64
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from app_server import RunningApp, running_app
from interface import uploads
from interface.uploads import MAX_BYTES, MIN_CHARGE
from pictures import encoded, scene

PICTURE = encoded(scene(), "PNG")
# The app with room for three pictures of the largest size.
SMALL_APP = """
import sys
from classifier import command_line
from interface import uploads
uploads.MAX_FOLDER_BYTES = 3 * uploads.MAX_REQUEST_BYTES
import app
sys.exit(command_line.run(app.main))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An upload folder with room for ten of the smallest uploads."""
    monkeypatch.setenv(uploads.FOLDER, str(tmp_path))
    monkeypatch.setattr(uploads, "MAX_FOLDER_BYTES", 10 * MIN_CHARGE)
    monkeypatch.setattr(uploads, "SCAN_SECONDS", 0)
    return tmp_path


@pytest.fixture(scope="module")
def small_app(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    command = ("-c", SMALL_APP)
    with running_app(
        tmp_path_factory.mktemp("app"), "--model", tiny_run, command=command
    ) as started:
        yield started


def test_the_oldest_uploads_give_way_and_those_in_use_stay(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [_upload(folder, number) for number in range(8)]
    _years_later(monkeypatch)
    assert _take(MIN_CHARGE)
    assert all(file.exists() for file in files)  # there is room for all of them
    assert _take(4 * MIN_CHARGE)
    assert [file.exists() for file in files] == [False] * 2 + [True] * 6


def test_uploads_in_use_are_not_deleted_for_others(folder: Path) -> None:
    files = [_upload(folder, number) for number in range(8)]
    assert not _take(4 * MIN_CHARGE)
    for _ in range(2):
        uploads.from_data_url("data:image/png;base64,AAAA")
    with pytest.raises(uploads.FolderFullError, match="full: try again"):
        uploads.from_data_url("data:image/png;base64,AAAA")
    assert all(file.exists() for file in files)


def test_a_full_folder_refuses_uploads_in_a_line_and_the_page_goes_on(
    small_app: RunningApp,
) -> None:
    with httpx.Client(base_url=f"{small_app.url}/gradio_api", timeout=60) as http:
        answers = [
            http.post("/upload", files={"files": (f"{number}.bin", os.urandom(MAX_BYTES - 2**10))})
            for number in range(5)
        ]
        assert [answer.status_code for answer in answers] == [200] * 3 + [507] * 2
        assert answers[-1].text == uploads.FULL
        kept = Path(answers[0].json()[0]).parents[1]
        assert sum(file.stat().st_size for file in kept.rglob("*") if file.is_file()) < 2**25
        body = {"data": [{"path": "examples/lion.jpg"}, None]}
        assert http.post("/run/classify", json=body).status_code == httpx.codes.OK
    assert "Traceback" not in small_app.log.read_text()


def test_a_data_address_on_a_full_disk_is_refused_in_words_and_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
    assert Path(uploads.from_data_url(text)["path"]).read_bytes() == PICTURE

    def write(path: Path, content: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(uploads.FolderFullError, match="space for uploads is full"):
        uploads.from_data_url(text)
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 1


def test_an_upload_that_is_too_large_as_a_whole_is_refused(app: RunningApp) -> None:
    with httpx.Client(base_url=f"{app.url}/gradio_api", timeout=60) as http:
        for form in (
            {"data": {"text": "a" * (MAX_BYTES + 2**21)}, "files": {"files": ("a", b"1")}},
            {"files": [("files", (str(n), bytes(MAX_BYTES // 2))) for n in range(3)]},
        ):
            answer = http.post("/upload", **form)  # type: ignore[arg-type]
            assert answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE
            assert answer.text == "the upload is larger than 10 MB"


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


def _take(size: int) -> bool:
    return asyncio.run(uploads.take_space(size))


def _upload(folder: Path, number: int) -> Path:
    file = folder / f"{number:064x}" / "picture.png"
    file.parent.mkdir()
    file.write_bytes(b"x")
    return file


def _unfinished(folder: Path) -> list[Path]:
    """Returns the files that Gradio writes while an upload comes in."""
    return [file for file in folder.iterdir() if file.is_file()]


def _years_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr("interface.uploads.time.time", lambda: now + 10**8)
