"""The app's named endpoints, as `gradio_client` and plain HTTP meet them."""

import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import Status

from app_server import RunningApp, app_that_can_be_busy, busy_models, running_app
from classifier.prediction.classifier import Classifier
from interface import decoder
from pictures import bad_pictures, encoded, scene

SECONDS = decoder.SECONDS - 1  # no picture has to be stopped at the limit of its decoding
FILE = {"_type": "gradio.FileData"}
UNDER_WAY = (Status.IN_QUEUE, Status.PROCESSING)


@pytest.fixture(scope="module")
def client(app: RunningApp) -> Client:
    return Client(app.url, verbose=False)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    path.write_bytes(encoded(scene(), "PNG"))
    return path


@pytest.fixture
def visited() -> Iterator[tuple[str, list[str]]]:
    """A web server that notes who asks it for anything: its address and the paths."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(encoded(scene(), "PNG"))

        do_HEAD = do_POST = do_GET  # noqa: N815 - the names that the library calls

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/scene.png", paths
    server.shutdown()
    server.server_close()


def test_classify_answers_as_the_classifier_does(
    client: Client, picture: Path, tiny_model_folder: Path
) -> None:
    label, details = client.predict(handle_file(picture), api_name="/classify")
    expected = Classifier.load(tiny_model_folder).classify(picture)
    assert [item["label"] for item in label["confidences"]] == list(expected.labels)
    found = [item["confidence"] for item in label["confidences"]]
    assert np.abs(np.array(found) - expected.probabilities).max() < 1e-3
    assert label["label"] == expected.labels[0]
    assert details["model"] == "tiny"
    assert details["superclass"] == expected.superclass


@pytest.mark.parametrize("name", ["nothing", "../tiny", "user/name", "/etc", "http://127.0.0.1/x"])
def test_a_model_that_is_not_served_is_refused_with_those_that_are(
    client: Client, picture: Path, name: str
) -> None:
    with pytest.raises(AppError, match=r"No model named .* one of these: tiny, twin"):
        client.predict(handle_file(picture), name, api_name="/classify")


def test_evaluation_gives_the_file_of_the_model_folder(
    client: Client, tiny_model_folder: Path
) -> None:
    expected = json.loads((tiny_model_folder / "evaluation.json").read_text())
    assert client.predict(api_name="/evaluation") == expected
    assert client.predict("twin", api_name="/evaluation") == expected


def test_models_lists_what_is_served(client: Client, tiny_model_folder: Path) -> None:
    top1 = json.loads((tiny_model_folder / "evaluation.json").read_text())["top1"]
    entry = {"source": "folder", "revision": None, "top1": top1}
    assert client.predict(api_name="/models") == [
        {"name": "tiny", **entry},
        {"name": "twin", **entry},
    ]


@pytest.mark.parametrize("name", ["cut.jpg", "bomb.png"])  # of all others: test_decoder
def test_a_bad_picture_is_an_error_of_one_line_and_the_next_is_answered(
    client: Client, tmp_path: Path, picture: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(bad_pictures()[name][0])
    start = time.monotonic()
    # The client itself refuses a file over the limit that the app states.
    with pytest.raises((AppError, ValueError)) as error:
        client.predict(handle_file(path), api_name="/classify")
    assert time.monotonic() - start < SECONDS
    assert "\n" not in str(error.value)
    assert "Traceback" not in str(error.value)
    assert client.predict(handle_file(picture), api_name="/classify")[0]["label"]


def test_mcp_offers_the_same_and_fetches_no_address(
    app: RunningApp, visited: tuple[str, list[str]]
) -> None:
    address, paths = visited
    headers = {"Accept": "application/json, text/event-stream"}

    def ask(method: str, **parameters: Any) -> str:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = httpx.post(
            f"{app.url}/gradio_api/mcp/",
            json=message,
            headers=headers,
            timeout=60,
            follow_redirects=True,
        )
        return answer.raise_for_status().text

    tools = ask("tools/list")
    assert all(name in tools for name in ("classify", "evaluation", "list_models"))
    assert "most probable classes" in tools
    for image in (address, {"path": address, "meta": FILE}):
        answer = ask("tools/call", name="classify", arguments={"image": image})
        assert "confidence" not in answer
    assert paths == []


@pytest.mark.parametrize("route", ["file=", "proxy=", "file/"])
def test_no_address_is_fetched_by_a_route(
    app: RunningApp, visited: tuple[str, list[str]], route: str
) -> None:
    address, paths = visited
    with pytest.raises(urllib.error.HTTPError) as error:
        app.get(f"/gradio_api/{route}{address}")
    assert error.value.code == 404  # Gradio itself answers 403, of private addresses only
    assert paths == []


def test_no_choice_is_dropped_and_no_slow_event_delays_the_others(app: RunningApp) -> None:
    """Gradio drops a choice while the event of the last one runs, and runs those of one in turn."""
    config = json.loads(app.get("/config"))
    names = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
    for event in config["dependencies"]:
        causes = {kind for _, kind in event["targets"]}
        if "input" in causes:
            assert event["trigger_mode"] == "always_last", event["api_name"]
        if causes == {"change"} and names[event["targets"][0][0]] == "model":
            assert "mistakes" not in [names[output] for output in event["outputs"]]


def test_no_event_of_the_page_fetches_an_address_or_reads_a_file(
    app: RunningApp, visited: tuple[str, list[str]]
) -> None:
    """Every event takes every input from whoever sends it, not only from the page."""
    address, paths = visited
    events = json.loads(app.get("/config"))["dependencies"]
    assert len(events) > 20
    for named in (address, "/etc/passwd", "file:///etc/passwd", str(Path(__file__))):
        for event in events:
            session = f"{event['id']}-{len(named)}"
            value = {"path": named, "url": named, "meta": FILE}
            body = {"fn_index": event["id"], "session_hash": session}
            body["data"] = [value] * len(event["inputs"])
            url = f"{app.url}/gradio_api"
            answer = httpx.post(f"{url}/run/predict", json=body, timeout=60).text
            httpx.post(f"{url}/queue/join", json=body, timeout=60)
            assert "root:" not in answer
            assert "hostile" not in answer
    time.sleep(1)
    assert paths == []
    assert app.process.poll() is None


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../../../etc/passwd",
        "/gradio_api/file=%2Fetc%2Fpasswd",
        "/static/..%2f..%2froutes.py",
        "/assets/..%2f..%2f..%2f..%2froutes.py",
        "/figures/..%2f..%2fapp.py.png",
        "/figures/nothing.png",
        "/figures/roc.png?classes=1000",
        "/figures/roc.png?model=nothing",
        "/figures/confusion_zoom.png?classes=1,2,3,4,5,6,7,8,9,10,11",
        "/gradio_api/dev/reload",
        "/gradio_api/file=https://huggingface.co/robots.txt",
        "/gradio_api/deep_link?session_hash=x",
        "/gradio_api/vibe-code/",
        "/downloads/labels.json",
        "/downloads/..%2flabels.json",
        "/downloads/plots.zip?model=..%2f..%2fpretrained%2fmlp",
    ],
)
def test_nothing_but_what_is_served_can_be_read(app: RunningApp, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        app.get(path)
    assert error.value.code in (400, 401, 403, 404, 405)


def test_the_page_asks_the_browser_to_ask_nobody_else(app: RunningApp) -> None:
    with urllib.request.urlopen(app.url, timeout=60) as answer:
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert b"<head><script>" in answer.read()


def test_sigterm_finishes_requests(tiny_run: Path, picture: Path, tmp_path: Path) -> None:
    command = app_that_can_be_busy(tmp_path, "app.SECONDS_TO_FINISH = 60")
    with running_app(tmp_path, "--model", tiny_run, command=command) as app:
        client = Client(app.url, verbose=False)
        assert client.predict(handle_file(picture), api_name="/classify")[0]["label"]
        with busy_models(app):
            jobs = [client.submit(handle_file(picture), api_name="/classify") for _ in range(6)]
            while any(job.status().code not in UNDER_WAY for job in jobs):
                time.sleep(0.05)
            app.process.terminate()
        assert app.stop() == 0
        assert all(job.result(timeout=60)[0]["label"] for job in jobs)
        assert "Traceback" not in app.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--model", "no/such/folder"], 2, "neither a local folder nor a Hub id"),
        (["--model", "README.md"], 2, "is a file"),
        (["--model", "tests"], 2, "contains no model"),
        (["--port", "99999999"], 2, "--port"),
        (["--follow", "0"], 2, "--follow"),
        (["--nonsense"], 2, "unrecognized arguments"),
    ],
)
def test_a_wrong_call_ends_with_one_line(
    run_command: Callable[..., subprocess.CompletedProcess[str]],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    result = run_command("app.py", *arguments)
    assert result.returncode == status
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_model_that_cannot_be_loaded_fails_alone(
    tiny_run: Path, picture: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_run / "model", broken)
    config = broken / "config.json"
    config.write_text(config.read_text().replace('"units": 32', '"units": 33'))
    with running_app(tmp_path, "--model", broken, "--model", tiny_run) as app:
        client = Client(app.url, verbose=False)
        for _ in range(2):
            with pytest.raises(AppError, match="Inference failed"):
                client.predict(handle_file(picture), "broken", api_name="/classify")
            label, details = client.predict(handle_file(picture), "tiny", api_name="/classify")
            assert label["label"]
            assert details["model"] == "tiny"
        assert json.loads(app.get("/health"))["status"] == "ok"
