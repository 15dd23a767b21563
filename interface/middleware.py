"""What every request passes on its way in and every answer on its way out."""

from __future__ import annotations

import errno
import json
import logging
import re
import time
from collections.abc import Iterable, Sequence

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
    # Whatever stands in a model card, a visitor's browser asks nobody but this server. Gradio's
    # page needs inline scripts and `eval`; Spaces show it in a frame of huggingface.co.
    b"content-security-policy": b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    b"object-src 'none'; frame-ancestors *",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}

# What Gradio brings along and this page has no use for: routes that fetch an address, keep what a
# visitor looked at beyond the hour, or have programs work on uploads or components.
BLOCKED_ROUTES = re.compile(
    r"/gradio_api/(proxy=|file=\s*https?:|deep_link|process_recording|(undo-)?vibe|run-history|runs"
    r"|stream/|component_server|custom_component/|dev/reload)|^/(login|logout)/?$",
    re.IGNORECASE,
)
HEARTBEAT = re.compile(r"/gradio_api/heartbeat/[^/]+")  # a stream that lasts as long as the page
CALLED_DIRECTLY = re.compile(r"/gradio_api/(run|api)/")
ANSWER = re.compile(r"/gradio_api/call/(v2/)?[^/]+/(?P<event>[^/]+)")
ANSWERS = "/gradio_api/queue/data"
UPLOAD = "/gradio_api/upload"

ONE_RANGE = re.compile(rb"\s*bytes\s*=\s*(\d{1,15}-\d{0,15}|-\d{1,15})\s*", re.IGNORECASE)

# As Gradio tells its page, which then connects anew.
NO_SESSION = {
    "msg": "unexpected_error",
    "event_id": None,
    "message": "there is no such session, or it has ended: ask again",
    "session_not_found": True,
    "success": False,
}
ENDED = b'data: {"msg": "done"}\n\n'  # as Gradio ends the progress of an upload

MAX_ADDRESS_BYTES = 2**13  # of a request's path and query, as other servers have it

PAUSE_SECONDS = 0.4  # longer than a client takes between an upload and the question that follows


class RequestGate:
    """Counts the requests that are under way, and lets nobody in any more once it is closed."""

    def __init__(self) -> None:
        self.closed = False
        self.under_way = 0
        self.last_used = time.monotonic()

    def close(self, seconds: float) -> None:
        """Waits for a quiet moment, and then closes.

        A visitor's upload, question and answer are requests of their own: so a quiet moment is one
        after a pause, and until then everybody is let in.

        Args:
            seconds: the most that this takes; whoever comes in the last quarter is refused.
        """
        start = time.monotonic()
        while time.monotonic() - start < 0.75 * seconds and not self._quiet():
            time.sleep(0.02)
        self.closed = True
        while time.monotonic() - start < seconds and self.under_way:
            time.sleep(0.02)

    def enter(self) -> None:
        """Notes a request."""
        self.under_way += 1

    def leave(self) -> None:
        """Notes that it is answered."""
        self.under_way -= 1
        self.last_used = time.monotonic()

    def _quiet(self) -> bool:
        return not self.under_way and time.monotonic() - self.last_used > PAUSE_SECONDS


class PageMiddleware:
    """Puts a script at the head of the page, before Gradio's, text at its foot, and headers on all.

    Gradio's own `head` is added only when its page has started, and has chosen a language.
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
        """Passes a request on and sees to its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope, path = {**scope, "headers": _with_one_range(scope["headers"])}, path_of(scope)
        if HEARTBEAT.fullmatch(path):
            await self.app(scope, receive, send)
        elif refusal := self._refused_at_once(scope, path):
            await refusal(scope, receive, send)
        else:
            self.gate.enter()
            try:
                if path.endswith("/upload_progress"):
                    send = _ended_if_missing(send)
                elif path.rstrip("/") == UPLOAD:
                    receive, send = _within_limits(receive, send)
                await self._check(scope, receive, send)
            finally:
                self.gate.leave()

    def _refused_at_once(self, scope: Scope, path: str) -> Response | None:
        """Returns the answer to a request that is refused whatever its body may be."""
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_ADDRESS_BYTES:
            return _refusal("the address is too long", 414)
        if BLOCKED_ROUTES.search(path):
            return PlainTextResponse("There is nothing here.", 404)
        asks = scope["method"] != "POST" or limit(path) is None  # and does not call by names
        if asks and (found := ANSWER.fullmatch(path)) and not is_awaited(self.page, found["event"]):
            return _refusal("there is no such event, or it has been answered", 404)
        session = Request(scope).query_params.get("session_hash") if path == ANSWERS else None
        if session is not None and not has_session(self.page, session):
            events = f"data: {json.dumps(NO_SESSION)}\n\n"
            return Response(events, media_type="text/event-stream")
        if self.gate.closed and scope["method"] == "POST":
            return PlainTextResponse("The app is ending: try again in a moment.", 503)
        return None

    async def _check(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses a body that is malformed, and has every other one read once more."""
        most = limit(scope["path"]) if scope["method"] == "POST" else None
        if most is not None:
            try:
                content = await _body(receive, most)
                check(scope["path"], content, self.page)
            except MalformedBodyError as error:
                await _refusal(error.text, error.status)(scope, receive, send)
                return
            except ClientDisconnect:
                return
            receive = _again(content, receive)
        if CALLED_DIRECTLY.search(scope["path"]):
            noted: list[InputError] = []
            refusals.set(noted)
            send = _as_refused(noted, send)
        await self._pass(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope, foreign = with_own_host(scope, trusting=self.trusting)
        root = root_of(scope).encode("latin-1") if foreign else None
        waiting: list[Message] = []  # the head of a page's answer, until its body is complete

        async def deliver(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _with_headers(message["headers"], root)
                if path_of(scope) == "/" and _is_page(message["headers"]):
                    waiting.append(message)
                    return
            elif waiting and message["type"] == "http.response.body":
                waiting.append(message)
                if message.get("more_body"):
                    return
                start, *parts = waiting
                body = b"".join(part.get("body", b"") for part in parts)
                body = body.replace(b"<head>", self.script, 1).replace(b"</body>", self.foot, 1)
                if root is not None:  # the browser knows better by which name it came here
                    body = body.replace(b'"root":"%s"' % root, b'"root":"/"')
                start["headers"] = _with_length(start["headers"], len(body))
                await send(start)
                message = {"type": "http.response.body", "body": body}
            await send(message)

        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await deliver(message)

        try:
            await self.app(scope, receive, noting)
        except Exception as error:
            if started:
                raise
            if scope["path"].endswith("/upload") and isinstance(error, TypeError):
                text = "the upload holds text in the place of a file"  # Gradio stops there
                await _refusal(text, 400)(scope, receive, send)
                return
            if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
                await _refusal("there is no such file", 404)(scope, receive, send)
                return
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                await PlainTextResponse(uploads.FULL, 507)(scope, receive, send)
                return
            logger.exception("a request failed")  # and the connection goes on
            await _refusal("the request could not be answered", 500)(scope, receive, send)


def malformed(request: Request, error: Exception) -> Response:
    """Answers a request of the wrong form; what it held, which may be no JSON, is not repeated."""
    del request, error
    return _refusal("the request does not have the form that this endpoint takes", 422)


def _refusal(text: str, status: int) -> Response:
    return JSONResponse({"detail": text, "error": text}, status)


async def _body(receive: Receive, most: int) -> bytes:
    """Returns the body of a request.

    Raises:
        MalformedBodyError: it has more bytes than that; it is read to its end all the same, so that
            the connection can go on, unless it never ends.
        ClientDisconnect: nobody waits for an answer any more.
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


def _again(content: bytes, receive: Receive) -> Receive:
    """Returns what receives a body that was read already, and then whatever comes."""
    told = False

    async def receive_again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": content, "more_body": False}

    return receive_again


def _as_refused(noted: Sequence[InputError], send: Send) -> Send:
    """Has a direct call that was refused answered with 422; Gradio answers every error with 500."""

    async def deliver(message: Message) -> None:
        if noted and message["type"] == "http.response.start" and message["status"] == 500:
            message = {**message, "status": 422}
        await send(message)

    return deliver


def _with_one_range(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Returns a request's headers without a `Range` that is anything else than one plain range.

    A server may ignore it; Gradio fails on several ranges, and at one its answer repeats the
    request's headers. It knows the unit in lower case only: in this form Starlette answers.
    """
    headers = list(headers)
    ranges = [value for key, value in headers if key == b"range"]
    others = [pair for pair in headers if pair[0] != b"range"]
    found = ONE_RANGE.fullmatch(ranges[0]) if len(ranges) == 1 else None
    return [*others, (b"range", b"Bytes=" + found[1])] if found else others


def _within_limits(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Has an upload refused that is too large, or for which the upload folder has no more space.

    Gradio deletes what it has written of an upload when this exception ends it, and only then: also
    one whose visitor has gone ends with it.
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
            # It is read to its end all the same, so that the connection can go on.
            if complete or length > 10 * uploads.MAX_REQUEST_BYTES:
                raise MultiPartException(refusal[1])
        return await receive()

    async def deliver(message: Message) -> None:
        if refusal[0] and message["type"] == "http.response.start":
            message = {**message, "status": refusal[0]}
        await send(message)

    return receive_within, deliver


def _ended_if_missing(send: Send) -> Send:
    """Has the progress of an upload that never came told as ended instead of as an error.

    A page asks after it even where it refused a file that is too large itself.
    """
    missing = False

    async def deliver(message: Message) -> None:
        nonlocal missing
        if message["type"] == "http.response.start" and message["status"] == 404:
            missing = True
            headers = _with_length(message["headers"], len(ENDED))
            kept = [pair for pair in headers if pair[0].lower() != b"content-type"]
            stream = [*kept, (b"content-type", b"text/event-stream")]
            message = {**message, "status": 200, "headers": stream}
        elif missing and message["type"] == "http.response.body":
            message = {"type": message["type"], "body": ENDED}
        await send(message)

    return deliver


def _with_headers(
    headers: Iterable[tuple[bytes, bytes]], root: bytes | None
) -> list[tuple[bytes, bytes]]:
    """Adds our headers, and leaves out the server's address where it is redirected to."""
    kept = [pair for pair in headers if pair[0].lower() not in HEADERS]
    if root is not None:
        kept = [
            (key, value.removeprefix(root) if key.lower() == b"location" else value)
            for key, value in kept
        ]
    return kept + list(HEADERS.items())


def _with_length(headers: Iterable[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    kept = [pair for pair in headers if pair[0].lower() != b"content-length"]
    return [*kept, (b"content-length", str(length).encode())]


def _is_page(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/html")
        for name, value in headers
    )
