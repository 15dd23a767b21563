"""What is done to every answer of the server before it leaves: our script first, headers last."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    # Whatever stands in a model card, a visitor's browser asks nobody but this server. Gradio's
    # page needs inline scripts and `eval`; Spaces show it in a frame of huggingface.co.
    b"content-security-policy": b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    b"object-src 'none'; frame-ancestors *",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}


class Delivery:
    """Puts a script at the head of the page, before Gradio's, and headers on every answer.

    Gradio's own `head` is added only when its page has started, and has chosen a language.
    """

    def __init__(self, app: ASGIApp, script: str) -> None:
        self.app = app
        self.script = f"<head><script>{script}</script>".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on and sees to its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        waiting: list[Message] = []  # the head of a page's answer, until its body is complete

        async def deliver(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _with_headers(message["headers"])
                if scope["path"] == "/" and _is_page(message["headers"]):
                    waiting.append(message)
                    return
            elif waiting and message["type"] == "http.response.body":
                waiting.append(message)
                if message.get("more_body"):
                    return
                start, *parts = waiting
                body = b"".join(part.get("body", b"") for part in parts)
                body = body.replace(b"<head>", self.script, 1)
                start["headers"] = _with_length(start["headers"], len(body))
                await send(start)
                message = {"type": "http.response.body", "body": body}
            await send(message)

        await self.app(scope, receive, deliver)


def _with_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [pair for pair in headers if pair[0].lower() not in HEADERS] + list(HEADERS.items())


def _with_length(headers: Iterable[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    kept = [pair for pair in headers if pair[0].lower() != b"content-length"]
    return [*kept, (b"content-length", str(length).encode())]


def _is_page(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/html")
        for name, value in headers
    )
