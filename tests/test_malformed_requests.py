"""Bodies that no client sends: each is refused in a line, never as a fault of the server."""

import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from app_server import RunningApp

pytestmark = pytest.mark.usefixtures("logged")  # from the first test on
JSON = {"Content-Type": "application/json"}
DIRECT = ["run/classify", "run/predict", "api/classify", "call/classify", "queue/join"]
ROUTES = [*DIRECT, "call/v2/classify", "call/nothing", "run/nothing", "cancel", "reset"]
NO_JSON_OBJECT = {
    "not a number inside": b'{"data": [NaN, null]}',
    "list": b"[]",
    "number": b"7",
    "nothing": b"",
    "deep list": b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep object": b'{"a": ' * 5000 + b"1" + b"}" * 5000,
    "many digits": b'{"data": [' + b"9" * 6000 + b"]}",
    "half a character": rb'{"data": [null, "\ud800"]}',
    "number beyond all": b'{"data": [1e999]}',
    "large": b'{"data": ["' + b"a" * 2**21 + b'"]}',
}
WRONG_FORM = {
    "no data": {},
    "text as data": {"data": "x"},
    "too many inputs": {"data": [None] * 40},
    "session of a number": {"data": [], "session_hash": 7},
    "batch": {"data": [[]], "session_hash": "a", "batched": True},
}
WRONG_NUMBERS = ["x", -1, 10**20, 1.5, True, 999, [0]]


@pytest.fixture(scope="module")
def http(app: RunningApp) -> Iterator[httpx.Client]:
    limits = httpx.Limits(max_connections=1)
    with httpx.Client(base_url=f"{app.url}/gradio_api", timeout=30, limits=limits) as client:
        yield client


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_no_json_object_is_refused_by_every_route(http: httpx.Client, route: str) -> None:
    for name, content in NO_JSON_OBJECT.items():
        _refused(http.post(route, content=content, headers=JSON), name)
    for kind in ("text/plain", "multipart/form-data", "application/json; charset=utf-16", ""):
        _refused(http.post(route, content=b"NaN", headers={"Content-Type": kind}), kind)


@pytest.mark.parametrize("route", DIRECT)
def test_a_wrong_form_is_refused_by_every_call(http: httpx.Client, route: str) -> None:
    for name, body in WRONG_FORM.items():
        number = {} if route.startswith("call") else {"fn_index": 0}
        _refused(_post(http, route, {**number, **body}), name)
    for number in [] if route.startswith("call") else WRONG_NUMBERS:
        body = {"data": [], "session_hash": "a", "fn_index": number}
        _refused(_post(http, route, body), str(number))


def test_every_event_refuses_inputs_of_other_kinds_than_its_own(
    app: RunningApp, http: httpx.Client, logged: Callable[[], str]
) -> None:
    components = {item["id"]: item for item in json.loads(app.get("/config"))["components"]}
    events = [
        event for event in json.loads(app.get("/config"))["dependencies"] if event["backend_fn"]
    ]
    for event in events:
        kinds = [components[number]["type"] for number in event["inputs"]]
        for index, kind in enumerate(kinds):
            wrong: list[object] = [{}, [{}], [[]], {"path": "/dev/zero"}]
            wrong += ["x", [1], True] if kind in ("slider", "number") else []
            wrong += [["x"]] if kind in ("textbox", "radio") else []
            for value in wrong:
                data: list[object] = [None] * len(kinds)
                data[index] = value
                body = {"data": data, "fn_index": event["id"]}
                answer = _post(http, "run/predict", body)
                assert answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY, (kind, value)
    assert "Traceback" not in logged()


def test_routes_of_gradio_that_the_page_does_not_use_are_not_there(http: httpx.Client) -> None:
    for route in ("component_server", "stream/x", "stream/x/close", "process_recording"):
        assert _post(http, route, {}).status_code == httpx.codes.NOT_FOUND
    assert (
        httpx.post(f"{str(http.base_url)[:-12]}/login", timeout=30).status_code
        == httpx.codes.NOT_FOUND
    )


def test_an_upload_without_a_file_is_refused(http: httpx.Client) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    body = b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\ntext\r\n--x--\r\n'
    _refused(http.post("upload", content=body, headers=kind), "text")
    _refused(http.post("upload", content=b"abc", headers=kind), "no form")
    _refused(http.post("upload", content=b"abc", headers=JSON), "json")


def test_mcp_refuses_what_is_no_request(http: httpx.Client) -> None:
    accept = {**JSON, "Accept": "application/json, text/event-stream"}
    for name, content in NO_JSON_OBJECT.items():
        if name != "large":  # a picture may be so large
            _refused(http.post("mcp/", content=content, headers=accept), name)
    _refused(http.post("mcp/", content=b"1" * (15 * 2**20), headers=accept), "very large")


def _post(http: httpx.Client, route: str, body: object) -> httpx.Response:
    return http.post(route, content=json.dumps(body), headers=JSON)


def _refused(answer: httpx.Response, name: str) -> None:
    """Checks that a request was refused, at once or as the result of its event."""
    if answer.status_code == httpx.codes.OK and list(answer.json()) == ["event_id"]:
        if "/call/" in answer.url.path:
            event = httpx.get(f"{answer.url}/{answer.json()['event_id']}", timeout=30)
            assert "event: error" in event.text, name
        return
    assert 400 <= answer.status_code < 500, (name, answer.status_code, answer.text[:200])
    assert "Traceback" not in answer.text, name
    assert "\n" not in answer.text.strip(), name
