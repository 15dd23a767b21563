"""Where the app listens and by which addresses it is known: what was asked for, or one line."""

import json
import os
import re
import socket
from collections.abc import Iterator

import httpx
import pytest

from app import PORTS, address_to_listen_on, normalise_root_path
from app_server import PROJECT, RunningApp
from classifier.errors import ClassifierError, InputError
from interface.hosts import PROXY_VARIABLES, path_of, trusts_proxy, with_own_host
from ports import free_port

STRANGERS = [
    {"Host": "evil.example"},
    {"Host": "evil.example:7860"},
    {"Host": "127.0.0.1@evil.example"},
    {"Host": 'evil.example"><script>'},
    {"X-Forwarded-Host": "evil.example"},
    {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
    {"X-Forwarded-Server": "evil.example", "Forwarded": "host=evil.example"},
    {"X-Gradio-Server": "http://evil.example"},
]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", *PROXY_VARIABLES):
        monkeypatch.setenv(name, "")  # undone afterwards, also where the app removes it


@pytest.fixture
def busy() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_the_command_line_comes_first_then_the_variables_then_what_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = free_port()
    host, port = address_to_listen_on(None, None)
    assert host == "127.0.0.1"
    assert port in PORTS
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(free))
    monkeypatch.setenv("GRADIO_SERVER_NAME", "localhost")
    assert address_to_listen_on(None, None) == ("localhost", free)
    monkeypatch.setenv("GRADIO_SERVER_PORT", "nonsense")
    assert address_to_listen_on("0.0.0.0", free) == ("0.0.0.0", free)


@pytest.mark.parametrize("port", ["abc", "0", "-1", "65536", "78 60", "7860.0", "٧", "9" * 5000])
def test_a_port_in_the_environment_that_is_none_is_a_wrong_call(
    port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", port)
    with pytest.raises(InputError, match=r"GRADIO_SERVER_PORT takes a number .*Received: "):
        address_to_listen_on(None, None)


def test_a_port_that_was_asked_for_is_never_another(
    busy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ClassifierError, match=f"port {busy} of 127.0.0.1 is taken"):
        address_to_listen_on(None, busy)
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(busy))
    with pytest.raises(ClassifierError, match="--port"):
        address_to_listen_on(None, None)


def test_requests_keep_the_names_that_the_server_has() -> None:
    for host in ("localhost", "127.0.0.1:7860", "[::1]:7860", "192.168.1.5:80", "LOCALHOST:1"):
        scope, foreign = with_own_host(_scope(host))
        assert not foreign
        assert dict(scope["headers"])[b"host"] == host.encode()
    for host in ("evil.example", "", "localhost.evil.example", "127.0.0.1:x", "[evil]", "a b"):
        scope, foreign = with_own_host(_scope(host))
        assert foreign
        assert dict(scope["headers"]) == {b"host": b"192.168.1.5:7860", b"accept": b"*/*"}


def test_the_headers_of_a_trusted_proxy_count_if_they_are_well_formed() -> None:
    for host in ("demo.example", "demo.example:443, proxy.lan", "[2001:db8::1]:80"):
        headers = _trusted([(b"x-forwarded-host", host.encode()), (b"x-forwarded-proto", b"https")])
        assert headers[b"x-forwarded-host"] == host.encode()
        assert headers[b"x-forwarded-proto"] == b"https"
    for host in (
        'evil"><script>',
        "evil.example/path",
        "me@evil.example",
        "evil.example:x",
        "",
        " ",
    ):
        headers = _trusted([(b"x-forwarded-host", host.encode())])
        assert b"x-forwarded-host" not in headers, host
    for protocol in (b"javascript", b"https://evil.example", b"", b"file, https"):
        assert b"x-forwarded-proto" not in _trusted([(b"x-forwarded-proto", protocol)])
    assert b"x-gradio-server" not in _trusted([(b"x-gradio-server", b"http://evil.example")])
    scope, foreign = with_own_host(_scope('evil"><script>'), trusting=True)
    assert foreign
    assert dict(scope["headers"])[b"host"] == b"192.168.1.5:7860"


def test_a_path_is_the_same_whether_or_not_a_proxy_takes_its_root_off() -> None:
    for path in ("/", "/login", "/gradio_api/run/classify"):
        for root in ("/demo", "/demo/", "/demo/deeper", ""):
            whole = {"path": root.rstrip("/") + path, "root_path": root}
            assert path_of(whole) == path_of({"path": path, "root_path": root}) == path
    assert path_of({"path": "/demo", "root_path": "/demo"}) == "/"
    assert path_of({"path": "/demolition", "root_path": "/demo"}) == "/demolition"


@pytest.mark.parametrize(
    ("named", "used"),
    [
        *[(named, "/demo") for named in ("/demo", "/demo/", "demo", "demo/", " /demo/ ", "//demo")],
        *[("/a/b-c/", "/a/b-c"), ("https://demo.example/x/", "https://demo.example/x")],
        *[("http://demo.example:80", "http://demo.example:80"), ("/", "/"), ("", "")],
    ],
)
def test_the_path_of_a_proxy_is_the_same_however_its_slashes_are_written(
    named: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_ROOT_PATH", named)
    normalise_root_path()
    assert os.environ["GRADIO_ROOT_PATH"] == used


@pytest.mark.parametrize(
    "named", ["/a b", "/demo?x=1", "/demo#x", "http://", "ftp://x/y", "/a//b", "<b>", "/a\nb"]
)
def test_a_path_of_a_proxy_that_is_none_is_a_wrong_call(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_ROOT_PATH", named)
    with pytest.raises(InputError, match="GRADIO_ROOT_PATH takes a path such as /demo"):
        normalise_root_path()


@pytest.mark.parametrize("name", PROXY_VARIABLES)
def test_a_proxy_is_trusted_where_the_app_was_told_of_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not trusts_proxy()
    monkeypatch.setenv(name, "/demo")
    assert trusts_proxy()


@pytest.mark.parametrize("headers", STRANGERS)
def test_no_request_puts_an_address_into_the_page(app: RunningApp, headers: dict[str, str]) -> None:
    for path in ("/", "/config", "/gradio_api/info", "/gradio_api/mcp", "/gradio_api/mcp/"):
        answer = httpx.get(f"{app.url}{path}", headers=headers, timeout=30)
        assert answer.status_code in (200, 307), path
        assert "evil" not in answer.text, path
        assert "evil" not in str(answer.headers), path


def test_neither_the_page_nor_its_description_names_a_path_of_the_server(app: RunningApp) -> None:
    for path in ("/", "/config", "/gradio_api/info", "/gradio_api/openapi.json"):
        text = app.get(path).decode()
        assert str(PROJECT) not in text
        assert "site-packages" not in text
        found = re.findall(r'"path":\s*"([^"]*)"', text)
        assert not [name for name in found if name.startswith("/")], path
    for item in json.loads(app.get("/config"))["components"]:
        icon = item["props"].get("icon")
        if icon:
            assert len(app.get(f"/{icon['url']}")) > 1000


def _trusted(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    scope = {**_scope("proxy.lan"), "headers": [(b"host", b"proxy.lan"), *headers]}
    return dict(with_own_host(scope, trusting=True)[0]["headers"])


def _scope(host: str) -> dict[str, object]:
    headers = [(b"host", host.encode()), (b"accept", b"*/*")]
    headers += [(b"x-forwarded-host", b"evil.example"), (b"forwarded", b"host=evil.example")]
    return {"type": "http", "headers": headers, "server": ("192.168.1.5", 7860)}
