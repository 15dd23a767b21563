"""The Hub client of all commands: one time-out, retries, Hub ids and readable errors."""

from __future__ import annotations

import functools
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from classifier.errors import ClassifierError, InputError

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import httpx

TIMEOUT = 20.0  # seconds to connect, or until the next bytes of a response
BACKOFF = (1.0, 2.0, 4.0, 8.0)  # seconds between attempts, as in huggingface_hub
MAX_RETRY_AFTER = 120.0  # a longer `Retry-After` is not waited for
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
FORBIDDEN = frozenset({401, 403})
MISSING = frozenset({404, 410})

logger = logging.getLogger(__name__)
T = TypeVar("T")
_installing = threading.Lock()


class HubError(ClassifierError):
    """The Hub cannot be reached, or a request failed."""


def is_hub_id(name: str) -> bool:
    """Whether a text is `name` or `user/name` as the Hub allows it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def check_repo_id(repo_id: str, option: str = "--repo-id") -> None:
    """Raises `InputError` if a repository's name is no valid `user/name`."""
    if repo_id.count("/") != 1 or not is_hub_id(repo_id):
        raise InputError(
            f"{option} must be user/name, of letters, digits, '-', '_' and '.'. "
            f"Received: {repo_id!r}"
        )


def connect() -> HfApi:
    """Returns the client of the Hub that `HF_ENDPOINT` names, with the limits of this module.

    Its token is that of `HF_TOKEN` or of `hf auth login`.
    """
    from huggingface_hub import HfApi

    with _installing:
        _install()
    return HfApi()


def with_retries(call: Callable[[], T], *, attempts: int = len(BACKOFF) + 1) -> T:
    """Calls the Hub, retries after transient errors, and returns what the call returns.

    huggingface_hub retries uploads, downloads and lists itself; this is for its other calls, also
    for the commit. It waits as long as the Hub's `Retry-After` says.
    """
    for backoff in BACKOFF[: attempts - 1]:
        try:
            return call()
        except Exception as error:
            headers = getattr(getattr(error, "response", None), "headers", {})
            wait = float(headers.get("Retry-After", backoff))
            if wait > MAX_RETRY_AFTER or not is_transient(error):
                raise
            logger.warning("%s: trying again in %.0f s", describe(error), wait)
        time.sleep(wait)
    return call()


def unless_missing(call: Callable[[], T]) -> T | None:
    """Calls the Hub as `with_retries` does; returns None if what is asked for is not there."""
    try:
        return with_retries(call)
    except Exception as error:
        if status_of(error) in MISSING:
            return None
        raise


def is_transient(error: BaseException) -> bool:
    """Returns whether an error is transient: a 5xx, a 429, a lost connection or a timeout."""
    from huggingface_hub.utils import httpx

    for cause in causes(error):
        if (status := status_of(cause)) is not None:
            return status in TRANSIENT_STATUSES
        if isinstance(cause, httpx.TransportError):
            return True
    return False


def status_of(error: BaseException) -> int | None:
    """Returns the HTTP status of an error of the Hub's client, None if it has none."""
    return getattr(getattr(error, "response", None), "status_code", None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and its causes, in reverse order of a traceback."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def describe(error: BaseException) -> str:
    """Returns a description of an error on one line, without advice for developers."""
    for cause in causes(error):
        if (status := status_of(cause)) is not None:
            message = getattr(cause, "server_message", None) or cause.response.reason_phrase  # type: ignore[attr-defined]
            return f"the Hub answered {status} ({_one_line(message)})"
        if isinstance(cause, ClassifierError):
            break
    return _one_line(error) or type(error).__name__


@functools.cache  # only once: a new factory closes the client that other threads use
def _install() -> None:
    from huggingface_hub import get_session, set_client_factory
    from huggingface_hub.utils import disable_progress_bars, httpx

    library = get_session()  # its hooks block requests in offline mode and number them
    hooks: dict[str, list[Callable[..., Any]]] = {
        "request": [*library.event_hooks["request"], _set_timeout],
        "response": [*library.event_hooks["response"], _set_retry_after],
    }
    # A factory: the library creates a new client after an error and in a forked process.
    set_client_factory(lambda: httpx.Client(event_hooks=hooks, follow_redirects=True))
    if not sys.stderr.isatty():
        disable_progress_bars()


def _set_timeout(request: httpx.Request) -> None:
    """Limits the time-outs of a request: many calls of the libraries set none, or minutes."""
    given = request.extensions.get("timeout") or {}
    kinds = ("connect", "read", "write", "pool")
    request.extensions["timeout"] = {
        kind: min(given.get(kind) or TIMEOUT, TIMEOUT) for kind in kinds
    }


def _set_retry_after(response: httpx.Response) -> None:
    """Replaces a date in `Retry-After` by seconds, the only form that the library waits for."""
    value = response.headers.get("Retry-After", "").strip()
    if not value or value.isdigit():
        return
    try:
        wait = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        response.headers["Retry-After"] = str(max(0, round(wait + 0.5)))
    except (ValueError, TypeError):  # neither seconds nor a date with a time zone
        del response.headers["Retry-After"]


def _one_line(value: object) -> str:
    text = " ".join(str(value).split())
    return re.split(r" \(Request ID| For more information", text)[0][:300]
