"""Checks the bodies of requests before Gradio gets them: their size, and that they are JSON."""

from __future__ import annotations

import json
import re

from classifier.data import images

MAX_BYTES = 2**20  # of a call: numbers, text and the names of uploads
MAX_BYTES_OF_A_TOOL_CALL = images.MAX_BYTES * 4 // 3 + MAX_BYTES  # and a picture in base64
_CALL = re.compile(r"/gradio_api/(?:run|api|call|queue/join|cancel|reset)(?:/|$)")
_TOOL_CALL = re.compile(r"/gradio_api/mcp(?:/|$)")


class MalformedBodyError(Exception):
    """The body of a request is invalid; `status` is the HTTP status of the response."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


def limit(path: str) -> int | None:
    """Returns the maximal size of the body of a POST to a path, None if it is not JSON."""
    if _TOOL_CALL.search(path):
        return MAX_BYTES_OF_A_TOOL_CALL
    return MAX_BYTES if _CALL.search(path) else None


def check(content: bytes) -> None:
    """Raises `MalformedBodyError` unless a body is a JSON object."""
    try:
        body = json.loads(content)
        # Python also accepts NaN, numbers that are too large, and lone surrogates ("\\ud800").
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):  # also for text that is not UTF-8
        raise MalformedBodyError("the body must be JSON") from None
    if not isinstance(body, dict):
        raise MalformedBodyError("the body must be a JSON object")
