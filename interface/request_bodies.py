"""Validates the bodies of requests before Gradio, which fails on many invalid ones."""

from __future__ import annotations

import json
import re
from typing import Any

import gradio as gr

from classifier.data import images
from interface.gradio_adapter import event_function

MAX_BYTES = 2**20  # of a call: numbers, text and the names of uploads
MAX_BYTES_OF_A_TOOL_CALL = images.MAX_BYTES * 4 // 3 + MAX_BYTES  # and a picture in base64
MAX_DEPTH = 32  # nesting levels of lists and objects
MAX_NAME = 200  # characters of a session or an event

_DIRECT_CALL = re.compile(r"/gradio_api/(?:run|api)/(?P<name>[^/]+)/?$")
_CALL = re.compile(r"/gradio_api/call/(?P<name>[^/]+)/?$")
_CALL_BY_NAMES = re.compile(r"/gradio_api/call/v2/(?P<name>[^/]+)/?$")
_JOIN = re.compile(r"/gradio_api/queue/join/?$")
_MCP = re.compile(r"/gradio_api/mcp(?:/|$)")
_OTHER = re.compile(r"/gradio_api/(?:cancel|reset)/?$")


class MalformedBodyError(Exception):
    """The body of a request is invalid.

    Attributes:
        status: the HTTP status.
        text: what is wrong, in one line.
    """

    def __init__(self, text: str, status: int = 422) -> None:
        super().__init__(text)
        self.status, self.text = status, text


def limit(path: str) -> int | None:
    """Returns the maximal size of the body of a POST to a path, None if it is not JSON."""
    if _MCP.search(path):
        return MAX_BYTES_OF_A_TOOL_CALL
    kinds = (_DIRECT_CALL, _CALL, _CALL_BY_NAMES, _JOIN, _OTHER)
    return MAX_BYTES if any(kind.search(path) for kind in kinds) else None


def check(path: str, content: bytes, page: gr.Blocks) -> None:
    """Checks the body of a POST to a path.

    Raises:
        MalformedBodyError: it is not JSON, nested too deeply, or not valid for the path.
    """
    body = _parse(content)
    if not isinstance(body, dict):
        raise MalformedBodyError("the body must be a JSON object")
    if found := _CALL_BY_NAMES.search(path):
        _check_call_by_names(body, page, found["name"])
    elif found := _CALL.search(path):
        _check_call(body, page, None, found["name"])
    elif found := _DIRECT_CALL.search(path):
        _check_call(body, page, body.get("fn_index"), found["name"])
    elif _JOIN.search(path):
        _check_form(body, {"session_hash": str})
        _check_call(body, page, body.get("fn_index"))
    elif _OTHER.search(path):
        _check_form(body, {"event_id": str})
    elif _MCP.search(path) and not _is_message(body):
        raise MalformedBodyError("the body must be a JSON-RPC 2.0 message of MCP", 400)


def _parse(content: bytes) -> Any:
    try:
        body = json.loads(content)
        # Python also accepts NaN, numbers that are too large, and lone surrogates ("\\ud800").
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):  # also for text that is not UTF-8
        raise MalformedBodyError("the body must be JSON", 400) from None
    level = [body]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for value in level
            if isinstance(value, (dict, list))
            for item in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise MalformedBodyError("the body is nested too deeply", 400)
    return body


def _is_message(body: dict[str, Any]) -> bool:
    """Returns whether a body is a JSON-RPC request or notification; the tools check the rest."""
    number = body.get("id")
    return (
        body.get("jsonrpc") == "2.0"
        and isinstance(body.get("method"), str)
        and isinstance(body.get("params") or {}, dict)
        and (number is None or isinstance(number, str) or type(number) is int)
    )


def _check_form(body: dict[str, Any], required: dict[str, type]) -> None:
    for name, kind in required.items():
        if not isinstance(body.get(name), kind):
            raise MalformedBodyError(f"{name} is missing or of the wrong type")
    for name in ("session_hash", "event_id"):
        value = body.get(name)
        if value is not None and not (isinstance(value, str) and len(value) <= MAX_NAME):
            raise MalformedBodyError(f"{name} must be a text of at most {MAX_NAME} characters")
    for name in ("fn_index", "trigger_id"):
        value = body.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise MalformedBodyError(f"{name} must be an integer")
    if body.get("batched"):
        raise MalformedBodyError("batches are not supported")


def _check_call(
    body: dict[str, Any], page: gr.Blocks, index: int | None, name: str | None = None
) -> None:
    _check_form(body, {"data": list})
    event = event_function(page, index, name)
    if event is None:
        raise MalformedBodyError("there is no such endpoint", 404)
    if len(body["data"]) > len(event.inputs):
        most = len(event.inputs)
        raise MalformedBodyError(f"too many inputs: {len(body['data'])} for at most {most}")
    if event.collects_event_data and not _is_place(body.get("event_data")):
        raise MalformedBodyError("event_data must say what was chosen, and where")


def _is_place(value: Any) -> bool:
    """Tells whether a value says which place of a figure a visitor has chosen."""
    place = value.get("index") if isinstance(value, dict) else None
    return (
        isinstance(place, list)
        and len(place) == 2
        and all(type(share) in (int, float) for share in place)
        and isinstance(value.get("value"), str)
    )


def _check_call_by_names(body: dict[str, Any], page: gr.Blocks, name: str) -> None:
    described = page.get_api_info()["named_endpoints"].get(f"/{name}")
    if described is None:
        raise MalformedBodyError("there is no such endpoint", 404)
    parameters = {item["parameter_name"]: item for item in described["parameters"]}
    unknown = body.keys() - parameters.keys()
    missing = {
        key for key, item in parameters.items() if not item.get("parameter_has_default")
    } - body.keys()
    for names, what in ((unknown, "unknown"), (missing, "missing")):
        if names:
            raise MalformedBodyError(f"{what} inputs: {', '.join(sorted(names))[:200]}")
