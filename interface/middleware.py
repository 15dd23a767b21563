"""The middleware of the app: checks requests, and adds scripts and headers to responses."""

from __future__ import annotations

import asyncio
import errno
import logging
import re

from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from classifier.data.images import MAX_MEGABYTES
from classifier.errors import InputError
from classifier.files import DISK_FULL
from interface import uploads
from interface.events import refusals
from interface.request_bodies import MalformedBodyError, check, limit

logger = logging.getLogger(__name__)

HEADERS = {
    # The browser only sends requests to this server, whatever a model card contains. Gradio's page
    # needs inline scripts and `eval`; Spaces show it in a frame of huggingface.co.
    "content-security-policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "object-src 'none'; frame-ancestors *",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

# Routes of Gradio that this app does not use: they fetch URLs, store visitors' data for longer than
# an hour, or run code on uploads or components.
BLOCKED_ROUTES = re.compile(
    r"/gradio_api/(proxy=|file[=/]\s*https?:|deep_link|process_recording|(undo-)?vibe|run-history|runs"
    r"|stream/|component_server|custom_component/|dev/reload)|^/(login|logout)/?$",
    re.IGNORECASE,
)
CALLED_DIRECTLY = re.compile(r"/gradio_api/(run|api)/")
DIRECT_CALLS = 32  # at a time
UPLOAD = "/gradio_api/upload"


class PageMiddleware:
    """Adds a script before Gradio's and a footer to the page, and headers to all responses.

    Gradio's parameter `head` takes effect only after its page has started and chosen a language.
    """

    def __init__(self, app: ASGIApp, script: str, foot: str) -> None:
        self.app = app
        self.script = f"<head><script>{script}</script>".encode()
        self.foot = f"{foot}</body>".encode()
        self.direct = asyncio.Semaphore(DIRECT_CALLS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = path_of(scope)
        if BLOCKED_ROUTES.search(path):
            await PlainTextResponse("Not found.", 404)(scope, receive, send)
            return
        if path.rstrip("/") == UPLOAD:
            receive = _within_limit(receive)
        await self._check(_without_range(scope), receive, send)

    async def _check(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses malformed bodies, and replays others for the app."""
        most = limit(scope["path"]) if scope["method"] == "POST" else None
        if most is not None:
            try:
                content = await _body(scope, receive, most)
                check(content)
            except MalformedBodyError as error:
                await _refusal(str(error), error.status)(scope, receive, send)
                return
            except ClientDisconnect:
                return
            receive = _replay(content, receive)
        if not CALLED_DIRECTLY.search(scope["path"]):
            await self._pass(scope, receive, send)
            return
        noted: list[InputError] = []
        refusals.set(noted)
        # Calls without the queue wait here: their body has come, their picture is not yet read.
        async with self.direct:
            await self._pass(scope, receive, _with_client_errors(send, noted))

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        waiting: list[Message] = []  # the start of the page's response, until its body is complete
        started = False

        async def deliver(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if path_of(scope) == "/" and headers.get("content-type", "").startswith(
                    "text/html"
                ):
                    waiting.append(message)
                    return
            elif waiting and message["type"] == "http.response.body":
                waiting.append(message)
                if message.get("more_body"):
                    return
                start, *parts = waiting
                body = b"".join(part.get("body", b"") for part in parts)
                body = body.replace(b"<head>", self.script, 1).replace(b"</body>", self.foot, 1)
                MutableHeaders(scope=start)["content-length"] = str(len(body))
                await send(start)
                message = {"type": "http.response.body", "body": body}
            await send(message)

        try:
            await self.app(scope, receive, deliver)
        except Exception as error:
            if started:
                raise
            # The connection stays open.
            await _response_to(error, scope)(scope, receive, send)


def _response_to(error: Exception, scope: Scope) -> Response:
    """Returns the response to a request on which Gradio fails."""
    number = error.errno if isinstance(error, OSError) else None
    if number in DISK_FULL:
        return PlainTextResponse(uploads.FULL, 507)
    if number == errno.ENAMETOOLONG:
        return _refusal("there is no such file", 404)
    if scope["method"] == "POST":
        # Events of the page handle their errors themselves: Gradio fails on what the request says.
        logger.warning("refused a request: %s", " ".join(str(error).split())[:200])
        return malformed(Request(scope), error)
    logger.error("a request failed", exc_info=error)
    return _refusal("the request could not be answered", 500)


def malformed(_request: Request, _error: Exception) -> Response:
    """Returns the response to an invalid request, without its content, which may not be JSON."""
    return _refusal("the request does not have the form that this endpoint takes", 422)


def not_found(_request: Request, error: Exception) -> Response:
    """Returns the response to a GET that asks for something that does not exist."""
    return PlainTextResponse(str(error), 404)


EXCEPTION_HANDLERS = {RequestValidationError: malformed, InputError: not_found}


def _refusal(text: str, status: int) -> Response:
    return JSONResponse({"detail": text, "error": text}, status)


async def _body(scope: Scope, receive: Receive, most: int) -> bytes:
    """Returns the body of a request; raises `MalformedBodyError` or `ClientDisconnect`."""
    content = bytearray()
    async for part in Request(scope, receive).stream():
        content += part
        if len(content) > most:
            raise MalformedBodyError(f"the body is larger than {most // 2**20} MB", 413)
    return bytes(content)


def _replay(content: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that starts with a body that has already been read."""
    replayed = False

    async def receive_again() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": content, "more_body": False}

    return receive_again


def _with_client_errors(send: Send, noted: list[InputError]) -> Send:
    """Changes the status of refusals to 422: Gradio sends 500 for all errors."""

    async def deliver(message: Message) -> None:
        if noted and message.get("status") == 500:
            message = {**message, "status": 422}
        await send(message)

    return deliver


def _without_range(scope: Scope) -> Scope:
    """Returns a request for whole files: Gradio fails on some ranges, and servers may ignore them.

    For others, its response repeats the headers of the request.
    """
    scope = {**scope}
    del MutableHeaders(scope=scope)["range"]
    return scope


def _within_limit(receive: Receive) -> Receive:
    """Refuses uploads that are too large as a whole.

    Gradio only deletes the part that it has written if this exception is raised: it is also raised
    if the client disconnects.
    """
    length = 0

    async def receive_within() -> Message:
        nonlocal length
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MultiPartException("the upload was cut off")
        length += len(message.get("body", b""))
        if length > uploads.MAX_REQUEST_BYTES:
            raise MultiPartException(
                f"the upload exceeds the maximum allowed size ({MAX_MEGABYTES} MB)"
            )
        return message

    return receive_within


def path_of(scope: Scope) -> str:
    """Returns the path of a request without `GRADIO_ROOT_PATH`, which some proxies strip."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    below = bool(root) and (path == root or path.startswith(f"{root}/"))
    return (path[len(root) :] or "/") if below else path
