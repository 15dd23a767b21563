"""A limit to how long a silent Hub may keep us waiting: the client's own default is for ever."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from huggingface_hub import set_client_factory
from huggingface_hub.utils import _http

from classifier.errors import ClassifierError

SILENCE_SECONDS = 10.0  # for a connection, or for the next bytes of an answer
PATIENCE_SECONDS = 15.0  # for retries: beyond it, no request follows one that had no answer


class HubUnreachableError(ClassifierError):
    """The Hub did not answer in time, or there is no network."""


@contextlib.contextmanager
def patience(*, offline: bool = False) -> Iterator[None]:
    """Lets no call of `huggingface_hub` or `datasets` inside it hang or retry for long.

    Args:
        offline: refuses every request at once, so that the libraries take what they have cached.
    """
    factory = _http._GLOBAL_CLIENT_FACTORY
    watch = _Watch(offline)

    def client() -> Any:
        made = factory()
        hooks = made.event_hooks
        made.event_hooks = {
            "request": [watch.before_request, *hooks["request"]],
            "response": [watch.after_response, *hooks["response"]],
        }
        return made

    # A factory, since the library makes a new client after an error.
    set_client_factory(client)
    try:
        yield
    finally:
        set_client_factory(factory)


class _Watch:
    """Sees each request of the client before it goes out, and each answer's first line."""

    def __init__(self, offline: bool) -> None:
        self.offline = offline
        self.heard = time.monotonic()  # when the Hub last answered
        self.unanswered = 0
        self.downloads: dict[tuple[str, str], float] = {}  # file and offset: when first asked

    def before_request(self, request: Any) -> None:
        now = time.monotonic()
        timeouts = request.extensions.setdefault("timeout", {})
        for kind in ("connect", "read", "write", "pool"):
            timeouts[kind] = min(timeouts.get(kind) or SILENCE_SECONDS, SILENCE_SECONDS)
        silent = self.unanswered > 0 and now - self.heard > PATIENCE_SECONDS
        if self.offline or silent or self._asks_in_vain(request, now):
            raise HubUnreachableError(f"no answer from {request.url.host}")
        self.unanswered += 1

    def after_response(self, response: Any) -> None:
        self.heard = time.monotonic()
        self.unanswered = 0

    def _asks_in_vain(self, request: Any, now: float) -> bool:
        """Tells whether a file is asked for again that brought no byte since long."""
        if request.method != "GET" or "/resolve/" not in request.url.path:
            return False
        asked = self.downloads.setdefault((str(request.url), request.headers.get("Range", "")), now)
        return now - asked > PATIENCE_SECONDS
