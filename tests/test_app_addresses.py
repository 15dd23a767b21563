"""Where the app listens and by which addresses it is known: what was asked for, or one line."""

import json
import os
import re

import pytest

from app import check_host, normalise_root_path, parse
from app_server import PROJECT, RunningApp
from classifier.errors import InputError
from interface.middleware import path_of


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_ROOT_PATH"):
        monkeypatch.setenv(name, "")  # undone afterwards, also where the app removes it


def test_parse_takes_the_command_line_first_then_the_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (parse([]).host, parse([]).port) == ("127.0.0.1", None)
    monkeypatch.setenv("GRADIO_SERVER_PORT", "8123")
    monkeypatch.setenv("GRADIO_SERVER_NAME", "[::1]")
    assert (parse([]).host, parse([]).port) == ("::1", 8123)
    options = parse(["--host", "0.0.0.0", "--port", "9000"])
    assert (options.host, options.port) == ("0.0.0.0", 9000)


@pytest.mark.parametrize("port", ["abc", "0", "-1", "65536", "7860.0"])
def test_parse_refuses_a_variable_that_is_no_port(
    port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", port)
    with pytest.raises((SystemExit, InputError)):
        parse([])


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.7", "a" * 100, ".", "::zz"])
def test_check_host_refuses_what_is_no_host_of_this_machine(host: str) -> None:
    check_host("localhost")
    with pytest.raises(InputError, match="--host takes an address or a name"):
        check_host(host)


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
        *[("http://demo.example:80", "http://demo.example:80"), ("/", ""), ("", "")],
    ],
)
def test_the_path_of_a_proxy_is_the_same_however_its_slashes_are_written(
    named: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_ROOT_PATH", named)
    normalise_root_path()
    assert os.environ["GRADIO_ROOT_PATH"] == used


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
