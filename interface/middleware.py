"""The middleware of the app: checks requests, and adds scripts and headers to responses."""

from __future__ import annotations

import errno
import json
import logging
import re
import time
from collections.abc import Callable

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
from interface.gradio_adapter import CheckedBlocks, has_session, is_awaited
from interface.hosts import path_of, root_of, with_own_host
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
    r"/gradio_api/(proxy=|file=\s*https?:|deep_link|process_recording|(undo-)?vibe|run-history|runs"
    r"|stream/|component_server|custom_component/|dev/reload)|^/(login|logout)/?$",
    re.IGNORECASE,
)
HEARTBEAT = re.compile(r"/gradio_api/heartbeat/[^/]+")  # a stream for as long as the page is open
CALLED_DIRECTLY = re.compile(r"/gradio_api/(run|api)/")
ANSWER = re.compile(r"/gradio_api/call/(v2/)?[^/]+/(?P<event>[^/]+)")
ANSWERS = "/gradio_api/queue/data"
UPLOAD = "/gradio_api/upload"

# Gradio's message for its page, which then reconnects.
NO_SESSION = {
    "msg": "unexpected_error",
    "event_id": None,
    "message": "there is no such session, or it has ended: try again",
    "session_not_found": True,
    "success": False,
}
ENDED = b'data: {"msg": "done"}\n\n'  # Gradio's end of the progress of an upload

MAX_ADDRESS_BYTES = 2**13  # of a request's path and query, as in other servers

IDLE_SECONDS = 0.4  # longer than a client takes from an upload to the request that uses it


class RequestGate:
    """Counts running requests for a graceful shutdown; once closed, new ones are refused."""

    def __init__(self) -> None:
        self.closed = False
        self.running = 0
        self.last_used = time.monotonic()

    def close(self, seconds: float) -> None:
        """Waits until no request has run for `IDLE_SECONDS`, then closes; at most for the seconds.

        The pause is needed because upload, call and result are separate requests of a visitor.
        Requests in the last quarter of the time are refused.
        """
        start = time.monotonic()
        while time.monotonic() - start < 0.75 * seconds and not self._is_idle():
            time.sleep(0.02)
        self.closed = True
        while time.monotonic() - start < seconds and self.running:
            time.sleep(0.02)

    def __enter__(self) -> None:
        self.running += 1

    def __exit__(self, *_: object) -> None:
        self.running -= 1
        self.last_used = time.monotonic()

    def _is_idle(self) -> bool:
        return not self.running and time.monotonic() - self.last_used > IDLE_SECONDS


class PageMiddleware:
    """Adds a script before Gradio's and a footer to the page, and headers to all responses.

    Gradio's parameter `head` takes effect only after its page has started and chosen a language.
    """

    def __init__(
        self,
        app: ASGIApp,
        script: str,
        foot: str,
        gate: RequestGate,
        page: CheckedBlocks,
        trusting: bool,
    ) -> None:
        self.app, self.gate, self.page, self.trusting = app, gate, page, trusting
        self.script = f"<head><script>{script}</script>".encode()
        self.foot = f"{foot}</body>".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope, path = _without_range(scope), path_of(scope)
        if HEARTBEAT.fullmatch(path):
            await self.app(scope, receive, send)
        elif refusal := self._refused_at_once(scope, path):
            await refusal(scope, receive, send)
        else:
            if path.endswith("/upload_progress"):
                send = _ended_if_missing(send)
            elif path.rstrip("/") == UPLOAD:
                receive, send = _within_limits(receive, send)
            with self.gate:
                await self._check(scope, receive, send)

    def _refused_at_once(self, scope: Scope, path: str) -> Response | None:
        """Returns the response to a request that is refused without reading its body."""
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_ADDRESS_BYTES:
            return _refusal("the address is too long", 414)
        if BLOCKED_ROUTES.search(path):
            return PlainTextResponse("Not found.", 404)
        fetches = scope["method"] != "POST" or limit(path) is None  # and is not a call by names
        found = ANSWER.fullmatch(path) if fetches else None
        if found and not is_awaited(self.page, found["event"]):
            return _refusal("there is no such event, or it has been answered", 404)
        session = Request(scope).query_params.get("session_hash") if path == ANSWERS else None
        if session is not None and not has_session(self.page, session):
            events = f"data: {json.dumps(NO_SESSION)}\n\n"
            return Response(events, media_type="text/event-stream")
        if self.gate.closed and scope["method"] == "POST":
            return PlainTextResponse("The app is ending: try again in a moment.", 503)
        return None

    async def _check(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses malformed bodies, and replays others for the app."""
        most = limit(scope["path"]) if scope["method"] == "POST" else None
        if most is not None:
            try:
                content = await _body(receive, most)
                check(content)
            except MalformedBodyError as error:
                await _refusal(str(error), error.status)(scope, receive, send)
                return
            except ClientDisconnect:
                return
            receive = _replay(content, receive)
        if CALLED_DIRECTLY.search(scope["path"]):
            noted: list[InputError] = []
            refusals.set(noted)
            # Gradio sends 500 for all errors.
            send = _with_status(send, lambda status: 422 if noted and status == 500 else status)
        await self._pass(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope, foreign = with_own_host(scope, trusting=self.trusting)
        root = root_of(scope) if foreign else None
        waiting: list[Message] = []  # the start of the page's response, until its body is complete
        started = False

        async def deliver(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if root is not None and "location" in headers:
                    headers["location"] = headers["location"].removeprefix(root)
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
                if root is not None:  # the host is unknown: use relative addresses
                    body = body.replace(f'"root":"{root}"'.encode("latin-1"), b'"root":"/"')
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


def malformed(request: Request, error: Exception) -> Response:
    """Returns the response to an invalid request, without its content, which may not be JSON."""
    del request, error
    return _refusal("the request does not have the form that this endpoint takes", 422)


def not_found(request: Request, error: Exception) -> Response:
    """Returns the response to a GET that asks for something that does not exist."""
    del request
    return PlainTextResponse(str(error), 404)


EXCEPTION_HANDLERS = {RequestValidationError: malformed, InputError: not_found}


def _refusal(text: str, status: int) -> Response:
    return JSONResponse({"detail": text, "error": text}, status)


async def _body(receive: Receive, most: int) -> bytes:
    """Returns the body of a request; raises `MalformedBodyError` or `ClientDisconnect`.

    The rest of a body of more than `most` bytes is read and discarded, up to a limit, so that the
    connection can be reused.
    """
    content = bytearray()
    length = 0
    while length < 10 * most:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        length += len(part)
        if length <= most:
            content += part
        if not message.get("more_body"):
            break
    if length > most:
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


def _with_status(send: Send, change: Callable[[int], int]) -> Send:
    """Changes the status of a response."""

    async def deliver(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "status": change(message["status"])}
        await send(message)

    return deliver


def _without_range(scope: Scope) -> Scope:
    """Returns a request for whole files: Gradio fails on some ranges, and servers may ignore them.

    For others, its response repeats the headers of the request.
    """
    scope = {**scope}
    del MutableHeaders(scope=scope)["range"]
    return scope


def _within_limits(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Refuses uploads that are too large, or for which the upload folder has no space.

    Gradio only deletes the part that it has written if this exception is raised: it is also raised
    if the client disconnects.
    """
    length, refusal = 0, (0, "")
    complete = False

    async def receive_within() -> Message:
        nonlocal length, refusal, complete
        while not complete:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise MultiPartException("the upload was cut off")
            body = message.get("body", b"")
            complete = not message.get("more_body")
            length += len(body)
            if length > uploads.MAX_REQUEST_BYTES:
                refusal = 413, f"the upload is larger than {MAX_MEGABYTES} MB"
            elif not refusal[0] and not await uploads.take_space(len(body)):
                refusal = 507, uploads.FULL
            if not refusal[0]:
                return message
            # The rest is read and discarded, so that the connection can be reused.
            if complete or length > 10 * uploads.MAX_REQUEST_BYTES:
                raise MultiPartException(refusal[1])
        return await receive()

    return receive_within, _with_status(send, lambda status: refusal[0] or status)


def _ended_if_missing(send: Send) -> Send:
    """Replaces the error for the progress of an unknown upload by the end of the progress.

    The page requests it even if it has refused a file that is too large itself.
    """
    missing = False

    async def deliver(message: Message) -> None:
        nonlocal missing
        if message["type"] == "http.response.start" and message["status"] == 404:
            missing = True
            message = {**message, "status": 200}
            headers = MutableHeaders(scope=message)
            headers["content-length"] = str(len(ENDED))
            headers["content-type"] = "text/event-stream"
        elif missing and message["type"] == "http.response.body":
            message = {"type": message["type"], "body": ENDED}
        await send(message)

    return deliver
