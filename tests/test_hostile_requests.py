"""Requests by shape: no form of a file, by no entry point, has a file read that was not given."""

import base64
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app_server import PROJECT, RunningApp
from interface import uploads
from interface.translations import word
from pictures import encoded, scene

FILE = {"_type": "gradio.FileData"}
SECONDS = 15.0  # far less than a pipe or a device would take
REFUSED = word("error_no_image", "en")
PICTURE = encoded(scene(), "PNG")

# Forms that a client may send; what is read is what `path` names.
ACCEPTED: dict[str, Callable[[str], Any]] = {
    "marked": lambda path: {"path": path, "meta": FILE},
    "unmarked": lambda path: {"path": path},
    "no mark": lambda path: {"path": path, "meta": None},
    "more keys": lambda path: {
        **{"path": path, "meta": FILE, "orig_name": "../../x.png", "size": -1, "mime_type": 7},
        "value": {"path": "/etc/passwd"},
    },
    "stream": lambda path: {"path": path, "is_stream": True, "meta": FILE},
    "beside an address": lambda path: {"path": path, "url": "http://127.0.0.1:9/x", "meta": FILE},
}
REFUSED_FORMS: dict[str, Callable[[str], Any]] = {
    "text": lambda path: path,
    "list": lambda path: [{"path": path, "meta": FILE}],
    "nested": lambda path: {"image": {"path": path, "meta": FILE}},
    "list as path": lambda path: {"path": [path], "meta": FILE},
    "address only": lambda path: {"url": path, "meta": FILE},
    "address for a path": lambda path: {"path": None, "url": path, "meta": FILE},
    "property": lambda path: {"value": {"path": path, "meta": FILE}, "path": "", "meta": FILE},
    "bytes": lambda path: {"path": list(path.encode("utf-8", "surrogatepass")), "meta": FILE},
}
FORMS = ACCEPTED | REFUSED_FORMS


def forbidden_paths(upload: Path, outside: Path) -> dict[str, str]:
    """Returns paths that nobody may have read, all of them in place.

    Args:
        upload: a picture in the upload folder.
        outside: an empty folder elsewhere.
    """
    picture = outside / "picture.png"
    picture.write_bytes(PICTURE)
    beside = upload.parent
    (beside / "hostile-link.png").symlink_to(picture)
    (beside / "hostile-linked").symlink_to(outside)
    (beside / "hostile-self.png").symlink_to(upload)
    (beside / "hostile-hard.png").hardlink_to(picture)
    os.mkfifo(beside / "hostile-fifo.png")
    os.mkfifo(outside / "fifo.png")
    return {
        "regular": str(picture),
        "missing upload": str(beside / "nothing.png"),
        "relative": "docs/app.png",
        "relative up": os.path.relpath(picture, PROJECT),
        "from the upload folder": f"{beside}/../../{os.path.relpath(picture, beside.parents[1])}",
        "out and in again": f"{beside}/../{beside.name}/{upload.name}",
        "link": str(beside / "hostile-link.png"),
        "link to an upload": str(beside / "hostile-self.png"),
        "linked folder": str(beside / "hostile-linked" / picture.name),
        "hard link": str(beside / "hostile-hard.png"),
        "pipe": str(outside / "fifo.png"),
        "pipe in the upload folder": str(beside / "hostile-fifo.png"),
        "device": "/dev/zero",
        "process": "/proc/self/environ",
        "descriptor": "/proc/self/fd/3",
        "folder": str(beside),
        "nothing": "",
        "percent of an upload": str(upload).replace("/", "%2F"),
        "percent up": f"{beside}/%2e%2e/%2e%2e/etc/passwd",
        "null": f"{picture}\0",
        "null in an upload": f"{upload}\0.png",
        "file address": f"file://{picture}",
        "file address of an upload": f"file://{upload}",
        "data address": f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}",
        "home": "~/.bashrc",
        "long": "/" + "a" * 5000,
        "half a character": "\ud800",
        "padded": f" {upload}",
        "backslash": str(upload).replace("/", "\\"),
    }


@pytest.fixture(scope="module")
def http(app: RunningApp) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{app.url}/gradio_api", timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def upload(http: httpx.Client) -> Path:
    """A picture that was uploaded."""
    return Path(http.post("/upload", files={"files": ("scene.png", PICTURE)}).json()[0])


@pytest.fixture(scope="module")
def paths(upload: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    paths = forbidden_paths(upload, tmp_path_factory.mktemp("outside"))
    del paths["half a character"]  # no body may hold it
    return paths


@pytest.fixture(scope="module")
def events(app: RunningApp) -> list[tuple[int, int, int]]:
    """The page's own events that take a picture: number, index of the picture, count of inputs."""
    config = json.loads(app.get("/config"))
    images = {item["id"] for item in config["components"] if item["type"] == "image"}
    found = [
        (event["id"], index, len(event["inputs"]))
        for event in config["dependencies"]
        if event["backend_fn"] and (not event["api_name"] or event["api_visibility"] == "private")
        for index, component in enumerate(event["inputs"])
        if component in images
    ]
    assert len(found) >= 4  # classifying, all models, explaining, trying
    return found


def test_a_path_is_read_only_if_it_is_an_upload_in_every_form(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The one place that decides, asked itself."""
    folder = tmp_path / "uploads"
    (folder / "abc").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    upload = folder / "abc" / "scene.png"
    upload.write_bytes(PICTURE)
    monkeypatch.setenv(uploads.FOLDER, str(folder))
    for form in ACCEPTED.values():
        assert uploads.read(form(str(upload))).content == PICTURE
    paths = forbidden_paths(upload, tmp_path / "outside")
    told = set()
    for path, form in itertools.product([*paths.values()], FORMS.values()):
        with pytest.raises(uploads.RefusedFileError) as refusal:
            uploads.read(form(path))
        told.add(str(refusal.value))
    for form in REFUSED_FORMS.values():
        with pytest.raises(uploads.RefusedFileError):
            uploads.read(form(str(upload)))
    assert len(told) == 1
    monkeypatch.delenv(uploads.FOLDER)
    with pytest.raises(uploads.RefusedFileError):
        uploads.read({"path": str(upload)})


def test_examples_are_read_by_their_names() -> None:
    for name in uploads.EXAMPLES:
        assert len(uploads.read({"path": f"examples/{name}", "meta": FILE}).content) > 1000
    for name in ("examples/../app.py", "examples/nothing.jpg", "examples/", "./examples/lion.jpg"):
        with pytest.raises(uploads.RefusedFileError):
            uploads.read({"path": name})


def test_no_more_is_read_than_a_picture_may_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(uploads.FOLDER, str(tmp_path))
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)
    assert len(uploads.read({"path": str(tmp_path / "large")}).content) == uploads.MAX_BYTES + 1


def test_the_queue_has_no_file_read_either(
    http: httpx.Client, paths: dict[str, str], events: list[tuple[int, int, int]]
) -> None:
    forms = itertools.cycle(FORMS.values())
    for event, picture, inputs in events:
        bodies = []
        for path in paths.values():
            data: list[Any] = [None] * inputs
            data[picture] = next(forms)(path)
            bodies.append({"data": data, "fn_index": event})
        answers = _through_the_queue(http, bodies)
        assert len(answers) == len(bodies)
        assert {answer["error"] for answer in answers} == {REFUSED}


@pytest.mark.parametrize("route", ["call/classify", "call/v2/classify"])
def test_calls_read_no_file(http: httpx.Client, paths: dict[str, str], route: str) -> None:
    forms = itertools.cycle(FORMS.values())
    for kind, path in paths.items():
        value = next(forms)(path)
        body = {"image": value} if "v2" in route else {"data": [value, None]}
        event = _post(http, f"/{route}", body).raise_for_status().json()["event_id"]
        told = http.get(f"/call/classify/{event}").text
        assert "event: error" in told, kind
        assert REFUSED in told, kind


def test_tools_of_mcp_read_no_file(http: httpx.Client, paths: dict[str, str]) -> None:
    prefix = str(http.base_url) + "file="
    told = set()
    for kind, path in paths.items():
        if kind == "data address":
            continue
        for form, shape in FORMS.items():
            answer = _tool(http, image=shape(path))
            assert answer.get("isError"), (kind, form)
            told.add(answer["content"][0]["text"])
    told = {text for text in told if not text.startswith("Input validation error")}
    assert told == {word("error_mcp", "en")}  # the others are those of the MCP library, of a form
    # What begins with the address of an upload is one, or there is none.
    for kind, path in paths.items():
        if kind in ("percent of an upload", "data address"):
            continue
        answer = _tool(http, image=prefix + path)
        assert answer["isError"], kind
        assert REFUSED in answer["content"][0]["text"], kind
    for value in ({"path": "/etc/passwd", "meta": FILE}, [{"path": "/dev/zero", "meta": FILE}], 7):
        assert _tool(http, image=prefix, model=value)["isError"]
        assert _tool(http, image=prefix, other=value)["isError"]


def test_own_uploads_and_examples_are_answered_through_every_entry_point(
    http: httpx.Client, upload: Path, events: list[tuple[int, int, int]]
) -> None:
    for path in (str(upload), "examples/lion.jpg"):
        for shape in ACCEPTED.values():
            answer = _post(http, "/run/classify", {"data": [shape(path), None]})
            assert len(answer.raise_for_status().json()["data"][0]["confidences"]) == 5
        for event, picture, inputs in events:
            data: list[Any] = [None] * inputs
            data[picture] = {"path": path}
            (answer,) = _through_the_queue(http, [{"data": data, "fn_index": event}])
            assert "data" in answer
    address = f"{http.base_url}file={upload}"
    picture = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
    answers = [_tool(http, image=image) for image in (address, picture, f" {picture}\n")]
    for answer in answers:
        label, details = (json.loads(item["text"]) for item in answer["content"])
        assert len(label["confidences"]) == 5
        assert details["model"]
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    "image",
    ["data:", "data:image/png;base64", "data:image/png,abc", "data:image/png;base64,?", "data:,x"],
)
def test_a_data_address_that_holds_no_picture_is_refused_in_words(
    http: httpx.Client, image: str
) -> None:
    answer = _tool(http, image=image)
    assert answer["isError"]
    assert answer["content"][0]["text"] == word("error_data_url", "en")


def _post(http: httpx.Client, path: str, body: Any) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return http.post(path, content=json.dumps(body), headers=headers)


def _through_the_queue(http: httpx.Client, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Asks all at once as one page; returns the outputs, also of errors."""
    session = os.urandom(6).hex()
    for body in bodies:
        _post(http, "/queue/join", {**body, "session_hash": session}).raise_for_status()
    outputs: list[dict[str, Any]] = []
    with http.stream("GET", "/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                outputs.append(message["output"])
                if len(outputs) == len(bodies):
                    break
    return outputs


def _tool(http: httpx.Client, **arguments: Any) -> dict[str, Any]:
    """Calls the tool `classify` of MCP; returns its result."""
    parameters = {"name": "classify", "arguments": arguments}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": parameters}
    answer = http.post(
        "/mcp/",
        content=json.dumps(body),
        headers={
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
        },
    )
    line = next(line for line in answer.text.splitlines() if line.startswith("data: "))
    return json.loads(line.removeprefix("data: "))["result"]
