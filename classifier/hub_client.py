"""The Hub client of all commands: timeouts, offline mode, retries and readable errors."""

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

OFFICIAL_ENDPOINT = "https://huggingface.co"
READ_TIMEOUT = 10.0  # seconds to connect, or until the next bytes of a response
WRITE_TIMEOUT = 20.0  # the same for requests other than GET and HEAD
BACKOFF = (1.0, 2.0, 4.0, 8.0)  # seconds between attempts, as in huggingface_hub
MAX_RETRY_AFTER = 120.0  # a longer `Retry-After` is not waited for
MAX_RETRY_TIME = 60.0  # seconds after which there is no further attempt
MAX_SILENCE = 15.0  # inside `limited_retries`: seconds without a response until requests fail
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
FORBIDDEN = frozenset({401, 403})
MISSING = frozenset({404, 410})
INVALID = 400

logger = logging.getLogger(__name__)
T = TypeVar("T")


class HubError(ClassifierError):
    """The Hub cannot be reached, or a request failed."""


class HubUnreachableError(HubError):
    """The Hub did not answer in time, or there is no network."""


def connect(token: str | None = None) -> HfApi:
    """Returns the client of the Hub that `HF_ENDPOINT` names, with deadlines on every request.

    Args:
        token: by default the one that huggingface_hub finds (`HF_TOKEN`, or from `hf auth login`).
    """
    from huggingface_hub import HfApi

    install_client()
    return HfApi(token=token)


def install_client() -> None:
    """Sets timeouts for all requests of huggingface_hub and `datasets` in this process; once."""
    with _installing:
        _install()


@contextlib.contextmanager
def limited_retries(*, offline: bool = False) -> Iterator[None]:
    """Limits how long calls of huggingface_hub and `datasets` retry requests without a response.

    It applies to the current thread only. Threads that a library starts have the timeouts of single
    requests and the library's own number of retries.

    Args:
        offline: whether every request fails at once, which makes the libraries use their caches.
    """
    install_client()
    entered = _retry_limit.set(_RetryLimit(offline))
    try:
        yield
    finally:
        _retry_limit.reset(entered)


def with_retries(call: Callable[[], T], *, backoff: tuple[float, ...] | None = None) -> T:
    """Calls the Hub, retries after transient errors, and returns what the call returns.

    huggingface_hub retries uploads and downloads itself; this is for all other requests.

    Args:
        call: the call.
        backoff: seconds before each further attempt, unless the Hub sends `Retry-After`; by default
            `BACKOFF`.
    """
    start = time.monotonic()
    for wait in BACKOFF if backoff is None else backoff:
        try:
            return call()
        except Exception as error:
            retry_after = _retry_after(error)
            wait = wait if retry_after is None else retry_after
            late = time.monotonic() - start > MAX_RETRY_TIME or wait > MAX_RETRY_AFTER
            if late or not is_transient(error):
                raise
            logger.warning("%s: trying again in %.0f s", describe(error), wait)
        time.sleep(wait)
    return call()


def unless_missing(call: Callable[[], T]) -> T | None:
    """Calls the Hub as `with_retries` does; returns None if what is asked for is not there."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return with_retries(call)
    except Exception as error:
        missing = isinstance(error, RepositoryNotFoundError) or status_of(error) in MISSING
        if missing and not isinstance(error, GatedRepoError):
            return None
        raise


def is_transient(error: BaseException) -> bool:
    """Returns whether an error is transient: a 5xx, a 429, a lost connection or a timeout."""
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    if isinstance(error, ClassifierError):
        return False
    for cause in causes(error):
        if (status := status_of(cause)) is not None:
            return status in TRANSIENT_STATUSES
        if isinstance(cause, OfflineModeIsEnabled):
            return False
        if isinstance(cause, (httpx.TransportError, json.JSONDecodeError, ConnectionError)):
            return True
    return False


def status_of(error: BaseException) -> int | None:
    """Returns the HTTP status of an error of the Hub's client, None if it has none."""
    return getattr(getattr(error, "response", None), "status_code", None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and its causes, in reverse order of a traceback."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def describe(error: BaseException) -> str:
    """Returns a description of an error on one line, without advice for developers."""
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    if isinstance(error, ClassifierError):
        return str(error)
    hub = constants.ENDPOINT
    for cause in causes(error):
        if (status := status_of(cause)) is not None:
            message = getattr(cause, "server_message", None) or cause.response.reason_phrase  # type: ignore[attr-defined]
            return f"the Hub answered {status} ({_one_line(message)})"
        if isinstance(cause, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set"
        if isinstance(cause, (httpx.ConnectTimeout, httpx.ConnectError)):
            return f"cannot connect to {hub} ({_one_line(cause) or 'no answer'})"
        if isinstance(cause, (httpx.TimeoutException, TimeoutError)):
            return f"{hub} does not answer"
        if isinstance(cause, httpx.TransportError):
            return f"the connection to {hub} was lost"
        if isinstance(cause, json.JSONDecodeError):
            return f"{hub} does not answer like a Hub"
    return _one_line(error) or type(error).__name__


def redact_token(error: BaseException, secret: str) -> str:
    """Removes a token from an error and its causes; returns the error's description without it."""
    text = describe(error)
    for cause in causes(error):
        cause.args = tuple(
            item.replace(secret, "***") if isinstance(item, str) else item for item in cause.args
        )
    return text.replace(secret, "***")


class _RetryLimit:
    """The state of `limited_retries` in one thread."""

    def __init__(self, offline: bool) -> None:
        self.offline = offline
        self.unanswered_since: float | None = None
        # The time of the first request for each URL and range.
        self.downloads: dict[tuple[str, str], float] = {}

    def before(self, request: httpx.Request) -> None:
        now = time.monotonic()
        if self.unanswered_since is None:
            self.unanswered_since = now
        silent = now - self.unanswered_since > MAX_SILENCE
        if self.offline or silent or self._is_stalled(request, now):
            raise HubUnreachableError(f"no answer from {request.url.host}")

    def _is_stalled(self, request: httpx.Request, now: float) -> bool:
        """Returns whether a part of a file has been requested for long without receiving a byte."""
        if request.method != "GET" or "/resolve/" not in request.url.path:
            return False
        part = (str(request.url), request.headers.get("Range", ""))
        return now - self.downloads.setdefault(part, now) > MAX_SILENCE


_retry_limit: ContextVar[_RetryLimit | None] = ContextVar("_retry_limit", default=None)
_installing = threading.Lock()


@functools.cache  # only once: a new factory closes the client that other threads use
def _install() -> None:
    from huggingface_hub import constants, get_session, set_client_factory
    from huggingface_hub.utils import disable_progress_bars, httpx

    library = get_session()  # its hooks block requests in offline mode and number them
    hooks: dict[str, list[Callable[..., Any]]] = {
        "request": [_before_request, *library.event_hooks["request"]],
        "response": [*library.event_hooks["response"], _after_response],
    }
    redirects = library.follow_redirects
    # A factory: the library creates a new client after an error and in a forked process.
    set_client_factory(
        lambda: httpx.Client(event_hooks=hooks, follow_redirects=redirects, timeout=None)
    )
    if not sys.stderr.isatty():
        disable_progress_bars()
    # Only huggingface.co is known to have Xet storage; every Hub accepts files by Git LFS.
    if constants.ENDPOINT != OFFICIAL_ENDPOINT and "HF_HUB_DISABLE_XET" not in os.environ:
        constants.HF_HUB_DISABLE_XET = True


def _before_request(request: httpx.Request) -> None:
    """Limits the timeouts of a request: many calls of the library set none."""
    timeout = READ_TIMEOUT if request.method in ("GET", "HEAD") else WRITE_TIMEOUT
    limits = {"connect": READ_TIMEOUT, **dict.fromkeys(("read", "write", "pool"), timeout)}
    given = request.extensions.get("timeout") or {}
    request.extensions["timeout"] = {
        kind: min(given.get(kind) or limit, limit) for kind, limit in limits.items()
    }
    if retry_limit := _retry_limit.get():
        retry_limit.before(request)


def _after_response(response: httpx.Response) -> None:
    if retry_limit := _retry_limit.get():
        retry_limit.unanswered_since = None


def _retry_after(error: BaseException) -> float | None:
    """Returns the seconds that the Hub asks to wait, None if it does not say."""
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
