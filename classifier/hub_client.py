"""The one client of the Hub: its deadlines, its offline switch, its retries and its errors."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from classifier.errors import ClassifierError

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import httpx

OFFICIAL = "https://huggingface.co"
SILENCE_SECONDS = 10.0  # for a connection, or for the next bytes of an answer
STORING_SECONDS = 20.0  # the same for requests that make the Hub store something
BACKOFF = (1.0, 2.0, 4.0, 8.0)  # seconds between attempts, as huggingface_hub waits
MAX_WAIT = 120.0  # a Hub that asks for more (`Retry-After`) is left alone
RETRY_SECONDS = 60.0  # no further attempt after that long
PATIENCE_SECONDS = 15.0  # inside `patience`: no request follows one that was silent that long
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
FORBIDDEN = frozenset({401, 403})
MISSING = frozenset({404, 410})
CONFLICT = 409

logger = logging.getLogger(__name__)
T = TypeVar("T")


class HubError(ClassifierError):
    """The Hub cannot be reached, or did not do what it was asked for."""


class HubUnreachableError(HubError):
    """The Hub did not answer in time, or there is no network."""


def connect(token: str | None = None) -> HfApi:
    """Returns the client of the Hub that `HF_ENDPOINT` names, with deadlines on every request.

    Args:
        token: otherwise huggingface_hub looks for one (`HF_TOKEN`, or what `hf auth login` stored).
    """
    from huggingface_hub import HfApi

    install_client()
    return HfApi(token=token)


def install_client() -> None:
    """Gives every request of huggingface_hub and `datasets` in this process a deadline; once."""
    with _installing:
        _install()


@contextlib.contextmanager
def patience(*, offline: bool = False) -> Iterator[None]:
    """Lets no call of huggingface_hub or `datasets` inside it retry for long.

    Holds for the thread that enters it. Threads that a library starts inside keep the deadline of
    each request, and the library's own number of retries.

    Args:
        offline: refuses every request at once, so that the libraries take what they have cached.
    """
    install_client()
    entered = _watch.set(_Watch(offline))
    try:
        yield
    finally:
        _watch.reset(entered)


def with_retries(call: Callable[[], T], *, waits: tuple[float, ...] | None = None) -> T:
    """Returns what a call to the Hub returns, called again while the Hub has a transient fault.

    huggingface_hub retries uploads and downloads itself; this does the same for other requests.

    Args:
        call: the call.
        waits: seconds to wait before each further attempt, unless the Hub asks for another time;
            `BACKOFF` if not given.
    """
    start = time.monotonic()
    for wait in BACKOFF if waits is None else waits:
        try:
            return call()
        except Exception as error:
            asked = _retry_after(error)
            wait = wait if asked is None else asked
            late = time.monotonic() - start > RETRY_SECONDS or wait > MAX_WAIT
            if late or not is_transient(error):
                raise
            logger.warning("%s: trying again in %.0f s", describe(error), wait)
        time.sleep(wait)
    return call()


def is_transient(error: BaseException) -> bool:
    """Tells whether a fault may be gone in a moment: a 5xx, a 429, a lost or silent connection."""
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    if isinstance(error, ClassifierError):
        return False
    for cause in causes(error):
        if (status := status_of(cause)) is not None:
            return status in TRANSIENT
        if isinstance(cause, OfflineModeIsEnabled):
            return False
        if isinstance(cause, (httpx.TransportError, json.JSONDecodeError, ConnectionError)):
            return True
    return False


def status_of(error: BaseException) -> int | None:
    """Returns the HTTP status that an error of the Hub's client carries, None if it has none."""
    return getattr(getattr(error, "response", None), "status_code", None)


def is_missing(error: BaseException) -> bool:
    """Tells whether the Hub says that a repository, a revision or a file is not there."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return False
    return isinstance(error, RepositoryNotFoundError) or status_of(error) in MISSING


def causes(error: BaseException) -> Iterator[BaseException]:
    """Gives an error and what led to it, back to the first, as a traceback shows them."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def describe(error: BaseException) -> str:
    """Returns what went wrong, on one line, without advice that is not for our users."""
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    if isinstance(error, ClassifierError):
        return str(error)
    hub = constants.ENDPOINT
    for cause in causes(error):
        if (status := status_of(cause)) is not None:
            said = getattr(cause, "server_message", None) or cause.response.reason_phrase  # type: ignore[attr-defined]
            return f"the Hub answered {status} ({_one_line(said)})"
        if isinstance(cause, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set"
        if isinstance(cause, (httpx.ConnectTimeout, httpx.ConnectError)):
            return f"cannot connect to {hub} ({_one_line(cause) or 'no answer'})"
        if isinstance(cause, (httpx.TimeoutException, TimeoutError)):
            return f"{hub} does not answer"
        if isinstance(cause, httpx.TransportError):
            return f"the connection to {hub} was lost"
        if isinstance(cause, json.JSONDecodeError):
            return f"{hub} does not answer as a Hub does"
    return _one_line(error) or type(error).__name__


def without_secret(error: BaseException, secret: str) -> str:
    """Takes a token out of an error and its causes, should the Hub have repeated it.

    Returns:
        The error's description, without it.
    """
    text = describe(error)
    for cause in causes(error):
        cause.args = tuple(
            item.replace(secret, "***") if isinstance(item, str) else item for item in cause.args
        )
    return text.replace(secret, "***")


class _Watch:
    """How long the Hub has been silent towards one thread."""

    def __init__(self, offline: bool) -> None:
        self.offline = offline
        self.heard = time.monotonic()  # when the Hub last answered
        self.unanswered = 0
        self.downloads: dict[tuple[str, str], float] = {}  # file and offset: when first asked

    def before(self, request: httpx.Request) -> None:
        now = time.monotonic()
        silent = self.unanswered > 0 and now - self.heard > PATIENCE_SECONDS
        if self.offline or silent or self._asks_in_vain(request, now):
            raise HubUnreachableError(f"no answer from {request.url.host}")
        self.unanswered += 1

    def after(self) -> None:
        self.heard, self.unanswered = time.monotonic(), 0

    def _asks_in_vain(self, request: httpx.Request, now: float) -> bool:
        """Tells whether a part of a file is asked for again that brought no byte since long."""
        if request.method != "GET" or "/resolve/" not in request.url.path:
            return False
        part = (str(request.url), request.headers.get("Range", ""))
        return now - self.downloads.setdefault(part, now) > PATIENCE_SECONDS


_watch: ContextVar[_Watch | None] = ContextVar("_watch", default=None)
_installing = threading.Lock()


@functools.cache  # once: a new factory closes the client that other threads are using
def _install() -> None:
    from huggingface_hub import constants, get_session, set_client_factory
    from huggingface_hub.utils import disable_progress_bars, httpx

    library = get_session()  # its own hooks block requests in offline mode and number them
    hooks: dict[str, list[Callable[..., Any]]] = {
        "request": [_before_request, *library.event_hooks["request"]],
        "response": [*library.event_hooks["response"], _after_response],
    }
    redirects = library.follow_redirects
    # A factory, since the library makes a new client after an error and in a forked process.
    set_client_factory(
        lambda: httpx.Client(event_hooks=hooks, follow_redirects=redirects, timeout=None)
    )
    if not sys.stderr.isatty():
        disable_progress_bars()
    # Only huggingface.co is sure to have Xet storage; every Hub takes files by Git LFS.
    if constants.ENDPOINT != OFFICIAL and "HF_HUB_DISABLE_XET" not in os.environ:
        constants.HF_HUB_DISABLE_XET = True


def _before_request(request: httpx.Request) -> None:
    """Bounds the timeouts of a request: many calls of the library ask for none."""
    silence = SILENCE_SECONDS if request.method in ("GET", "HEAD") else STORING_SECONDS
    limits = {"connect": SILENCE_SECONDS, "read": silence, "write": silence, "pool": silence}
    given = request.extensions.get("timeout") or {}
    request.extensions["timeout"] = {
        kind: min(given.get(kind) or limit, limit) for kind, limit in limits.items()
    }
    if watch := _watch.get():
        watch.before(request)


def _after_response(response: httpx.Response) -> None:
    if watch := _watch.get():
        watch.after()


def _retry_after(error: BaseException) -> float | None:
    """Returns the seconds that the Hub asks to wait for, None if it asks for none."""
    from huggingface_hub.utils import parse_ratelimit_headers

    headers: Any = getattr(getattr(error, "response", None), "headers", None)
    if headers is None:
        return None
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    value = headers.get("Retry-After", "").strip()
    return float(value) if value.isdigit() else None


def _one_line(value: object) -> str:
    text = " ".join(str(value).split())
    return re.split(r" \(Request ID| For more information", text)[0][:300]
