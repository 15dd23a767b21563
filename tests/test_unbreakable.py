"""What a visitor, a class of them, or somebody who means harm can do to the app: it goes on."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from app_server import PROJECT, RunningApp, app_that_can_be_busy, busy_models, running_app
from interface import decoder
from pictures import bad_pictures, encoded, good_pictures, scene

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
    command = app_that_can_be_busy(folder, "page.CLEANING, page.KEPT = 1, 3")
    with running_app(folder, "--model", tiny_run, command=command) as started:
        yield started
        assert started.process.poll() is None, started.log.read_text()


def test_every_file_is_answered_or_refused_in_one_line_through_the_page(
    app: RunningApp, http: httpx.Client
) -> None:
    """The page's own requests: upload, join the queue, listen."""
    files = good_pictures() | {name: content for name, (content, _) in bad_pictures().items()}
    assert len(files) >= 60
    function, inputs = _event_of_the_page(http)
    for name, content in files.items():
        start = time.monotonic()
        said = _ask_as_page(http, function, inputs, name, content)
        assert time.monotonic() - start < SECONDS, name
        assert bool(said) == (name in bad_pictures()), (name, said)
        assert "\n" not in said, name
        assert "Traceback" not in said, name
    assert app.process.poll() is None


def test_names_of_uploads_stay_within_their_folder(http: httpx.Client, tmp_path: Path) -> None:
    content = encoded(scene(), "PNG")
    for name in ("../../../evil.png", "/etc/evil.png", "..\\evil.png", "<b>.png", "a" * 400):
        path = Path(_upload(http, name, content))
        assert path.is_relative_to(Path("/tmp").resolve()) or "image-classifier" in str(path)
        assert "image-classifier-uploads-" in path.parts[-3]


def test_a_link_in_the_upload_folder_leads_nowhere(http: httpx.Client) -> None:
    upload = Path(_upload(http, "scene.png", encoded(scene(), "PNG")))
    link = upload.with_name("link.png")
    link.symlink_to("/etc/passwd")
    assert b"root:" not in http.get(f"/file={link}").content
    said = http.post(
        "/call/classify", json={"data": [{"path": str(link), "meta": FILE}, None]}
    ).text
    assert "root:" not in said


def test_an_upload_is_named_by_its_address_and_nothing_else_is(
    app: RunningApp, http: httpx.Client
) -> None:
    path = _upload(http, "scene.png", encoded(scene(), "PNG"))
    prefix = f"{app.url}/gradio_api/file="
    assert "confidence" in _call_tool(http, "classify", image=prefix + path)
    for other in ("/etc/passwd", str(PROJECT / "app.py"), f"{path}/../../../../etc/passwd"):
        assert "confidence" not in _call_tool(http, "classify", image=prefix + other)


def test_mcp_lists_the_public_endpoints_and_what_they_take(http: httpx.Client) -> None:
    tools = {tool["name"]: tool for tool in _mcp(http, "tools/list")["tools"]}
    assert set(tools) == {"classify", "evaluation", "list_models"}
    for tool in tools.values():
        assert len(tool["description"]) > 40
        for parameter in tool["inputSchema"]["properties"].values():
            assert parameter["description"]
    picture = base64.b64encode(encoded(scene(), "PNG")).decode()
    answer = _call_tool(http, "classify", image=f"data:image/png;base64,{picture}")
    assert "confidences" in answer
    assert "tiny" in _call_tool(http, "list_models")


def test_the_description_has_examples_that_would_be_answered(http: httpx.Client) -> None:
    endpoints = http.get("/info").json()["named_endpoints"]
    assert set(endpoints) == {"/classify", "/evaluation", "/models"}
    for endpoint in endpoints.values():
        assert endpoint["description"]
        for parameter in endpoint["parameters"]:
            assert parameter["python_type"]["description"]
    image, model = endpoints["/classify"]["parameters"]
    assert "http" not in json.dumps(image["example_input"])
    assert model["example_input"] == "tiny"


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
        deadline = time.monotonic() + 60
        while path.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not path.exists()
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


@pytest.mark.slow
def test_javascript_gets_the_same_answer(app: RunningApp, tmp_path: Path) -> None:
    """With `@gradio/client`, where Node and npm are at hand and npm reaches its registry."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node is not installed")
    install = [npm, "install", "@gradio/client", "--no-audit", "--no-fund", "--silent"]
    try:
        subprocess.run(install, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("npm cannot install @gradio/client here")
    (tmp_path / "scene.png").write_bytes(encoded(scene(), "PNG"))
    script = tmp_path / "classify.mjs"
    script.write_text(
        f"""
        import {{ readFile }} from "node:fs/promises";
        import {{ Client }} from "@gradio/client";
        const app = await Client.connect("{app.url}");
        const image = new Blob([await readFile("scene.png")]);
        const {{ data }} = await app.predict("/classify", {{ image }});
        console.log(JSON.stringify(data));
        process.exit(0);
        """
    )
    result = subprocess.run(
        [node, script.name], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    label, details = json.loads(result.stdout.splitlines()[-1])
    assert len(label["confidences"]) == 5
    assert details["model"] == "tiny"


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


def _event_of_the_page(http: httpx.Client) -> tuple[int, list[Any]]:
    """Returns the event that a new picture sets off, and what the page sends beside it."""
    config = httpx.get(str(http.base_url).replace("gradio_api/", "config"), timeout=30).json()
    components = {item["id"]: item["props"] for item in config["components"]}
    picture = next(key for key, props in components.items() if props.get("elem_id") == "picture")
    answer = next(key for key, props in components.items() if props.get("elem_id") == "answer")
    for event in config["dependencies"]:
        if picture in event["inputs"] and answer in event["outputs"]:
            return event["id"], [components[key].get("value") for key in event["inputs"][1:]]
    raise AssertionError("the page has no such event")


def _ask_as_page(
    http: httpx.Client, function: int, inputs: list[Any], name: str, content: bytes
) -> str:
    """Does what the page does with a chosen file; returns the message of the error, if any."""
    upload = http.post("/upload", files={"files": (name, content)})
    if upload.status_code != httpx.codes.OK:
        return upload.json()["detail"] if "detail" in upload.text else upload.text
    session = os.urandom(6).hex()
    picture = {"path": upload.json()[0], "orig_name": name, "meta": FILE}
    body = {"data": [picture, *inputs], "fn_index": function, "session_hash": session}
    http.post("/queue/join", json=body).raise_for_status()
    with http.stream("GET", "/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                return "" if message["success"] else message["output"]["error"]
    raise AssertionError("the stream ended without an answer")


def _mcp(http: httpx.Client, method: str, **parameters: Any) -> dict[str, Any]:
    """Asks the MCP server; returns its result."""
    answer = http.post(
        "/mcp/",
        json={"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters},
        headers={"Accept": "application/json, text/event-stream"},
    )
    line = next(line for line in answer.text.splitlines() if line.startswith("data: "))
    return json.loads(line.removeprefix("data: "))["result"]


def _call_tool(http: httpx.Client, name: str, **arguments: Any) -> str:
    return _mcp(http, "tools/call", name=name, arguments=arguments)["content"][0]["text"]
