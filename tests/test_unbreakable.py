"""What a visitor, a class of them, or somebody who means harm can do to the app: it goes on."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app_server import RunningApp, app_that_can_be_busy, busy_models, running_app
from interface import decoder
from pictures import encoded, scene

FILE = {"_type": "gradio.FileData"}
SECONDS = decoder.SECONDS - 1  # no picture has to be stopped at the limit of its decoding


@pytest.fixture(scope="module")
def http(app: RunningApp) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{app.url}/gradio_api", timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def small_app(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """The app with uploads that are kept for three seconds."""
    folder = tmp_path_factory.mktemp("small")
    command = app_that_can_be_busy(folder, "uploads.CLEANING, uploads.KEPT = 1, 3")
    with running_app(folder, "--model", tiny_run, command=command) as started:
        yield started
        assert started.process.poll() is None, started.log.read_text()


def test_names_of_uploads_stay_within_their_folder(http: httpx.Client, tmp_path: Path) -> None:
    content = encoded(scene(), "PNG")
    for name in ("../../../evil.png", "/etc/evil.png", "..\\evil.png", "<b>.png", "a" * 400):
        path = Path(_upload(http, name, content))
        assert path.is_relative_to(Path("/tmp").resolve()) or "image-classifier" in str(path)
        assert "image-classifier-uploads-" in path.parts[-3]


@pytest.mark.slow
def test_a_thousand_questions_wait_and_the_next_is_told_that_the_queue_is_full(
    tiny_run: Path, tmp_path: Path
) -> None:
    """The app with its own limits, while its models have so much to do that nothing is answered."""
    with (
        running_app(tmp_path, "--model", tiny_run, command=app_that_can_be_busy(tmp_path)) as app,
        httpx.Client(base_url=f"{app.url}/gradio_api", timeout=300) as http,
    ):
        assert _answered(http, encoded(scene(), "PNG"))
        data = {"data": [{"path": _upload(http, "scene.png", encoded(scene(), "PNG"))}, None]}
        data["data"][0]["meta"] = FILE
        with busy_models(app):
            events: list[str] = []
            while (answer := http.post("/call/classify", json=data)).status_code == httpx.codes.OK:
                events.append(answer.json()["event_id"])
                assert len(events) < 1200
            assert len(events) >= 1000
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
            assert answer.json()["detail"].startswith("Queue is full. Max size is 1000")
            _wait_until_unhealthy(app)  # as it is
        for event in (events[0], events[-1]):
            assert "event: complete" in http.get(f"/call/classify/{event}").text
        assert _answered(http, encoded(scene(), "PNG"))


def test_uploads_are_deleted_when_they_are_old_and_named_in_no_log(small_app: RunningApp) -> None:
    with httpx.Client(base_url=f"{small_app.url}/gradio_api", timeout=30) as http:
        assert _answered(http, encoded(scene(), "PNG"), name="holiday-in-oslo.png")
        path = Path(_upload(http, "holiday-in-oslo.png", encoded(scene(), "PNG")))
        assert path.is_file()
        wrong_field = {"file": ("holiday-in-oslo.png", encoded(scene(), "PNG"))}
        assert http.post("/upload", files=wrong_field).json() == []
        deadline = time.monotonic() + 60
        while (left := list(path.parents[1].rglob("*"))) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert left == []
        assert _answered(http, encoded(scene(), "PNG"))
    assert "holiday" not in small_app.log.read_text()


def test_health_tells_when_answers_stop_and_sigterm_ends_the_app_with_a_stuck_request(
    tiny_run: Path, tmp_path: Path
) -> None:
    with (
        running_app(tmp_path, "--model", tiny_run, command=app_that_can_be_busy(tmp_path)) as app,
        httpx.Client(base_url=f"{app.url}/gradio_api", timeout=30) as http,
        ThreadPoolExecutor(1) as beside,
    ):
        assert _answered(http, encoded(scene(), "PNG"))
        path = _upload(http, "scene.png", encoded(scene(), "PNG"))
        with busy_models(app):
            stuck = beside.submit(
                httpx.post,
                f"{app.url}/gradio_api/run/classify",
                json={"data": [{"path": path}, None]},
                timeout=60,
            )
            _wait_until_unhealthy(app)
            assert not stuck.done()
        deadline = time.monotonic() + 60
        while httpx.get(f"{app.url}/health", timeout=30).status_code != httpx.codes.OK:
            assert time.monotonic() < deadline
        with busy_models(app):
            stuck = beside.submit(
                httpx.post,
                f"{app.url}/gradio_api/run/classify",
                json={"data": [{"path": path}, None]},
                timeout=60,
            )
            time.sleep(0.5)
            assert app.stop() == 0
        stuck.exception(60)


def _wait_until_unhealthy(app: RunningApp) -> None:
    deadline = time.monotonic() + 60
    while (answer := httpx.get(f"{app.url}/health", timeout=30)).status_code != 503:
        assert time.monotonic() < deadline
    assert answer.json()["status"] == "no model answers"


def _upload(http: httpx.Client, name: str, content: bytes) -> str:
    """Uploads a file; returns the path that it got."""
    return http.post("/upload", files={"files": (name, content)}).raise_for_status().json()[0]


def _answered(http: httpx.Client, content: bytes, name: str = "scene.png") -> bool:
    data = [{"path": _upload(http, name, content), "orig_name": name, "meta": FILE}, None]
    event = http.post("/call/classify", json={"data": data}).raise_for_status().json()["event_id"]
    return "event: complete" in http.get(f"/call/classify/{event}").text
