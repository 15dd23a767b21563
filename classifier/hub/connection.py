"""The connection to the Hub: its deadlines, its passing faults, and its errors as one line."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from classifier.errors import ClassifierError, InputError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ANSWER_SECONDS = {"GET": 10.0, "HEAD": 10.0}  # the longest silence that is waited for
STORING_SECONDS = 20.0  # the same for requests that make the Hub store something
BACKOFF = (
    1.0,
    2.0,
    4.0,
    8.0,
)  # seconds between attempts, as huggingface_hub waits
PATIENCE_SECONDS = 60.0  # no further attempt after that long
MAX_WAIT = 120.0  # a Hub that asks for more (`Retry-After`) is left alone
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
FORBIDDEN = frozenset({401, 403})
MISSING = frozenset({404, 410})
CONFLICT = 409

logger = logging.getLogger(__name__)
T = TypeVar("T")


class HubError(ClassifierError):
    """The Hub cannot be reached, or did not do what it was asked for."""


class ModelNotFoundError(InputError):
    """The Hub says that there is no such model or revision, or that it may not be read."""


def connect(token: str | None = None) -> HfApi:
    """Returns the client of the Hub that `HF_ENDPOINT` names, with deadlines on every request.

    Args:
        token: otherwise huggingface_hub looks for one (`HF_TOKEN`, or what `hf auth login` stored).
    """
    from huggingface_hub import HfApi

    _prepare_client()
    return HfApi(token=token)


@functools.cache  # once: a new factory closes the client that other threads may be using
def _prepare_client() -> None:
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils import disable_progress_bars

    set_client_factory(_client)
    if not sys.stderr.isatty():
        disable_progress_bars()
    # Only huggingface.co is sure to have Xet storage; every Hub takes files by Git LFS.
    official = constants.ENDPOINT == constants._HF_DEFAULT_ENDPOINT
    if not official and "HF_HUB_DISABLE_XET" not in os.environ:
        constants.HF_HUB_DISABLE_XET = True


def with_retries(call: Callable[[], T], *, waits: tuple[float, ...] | None = None) -> T:
    """Returns what a call to the Hub returns, called again while the Hub has a passing fault.

    huggingface_hub retries some requests itself; this does the same for those that it does not.

    Args:
        call: the call.
        waits: seconds to wait before each further attempt, unless the Hub asks for another time;
            `BACKOFF` if not given.
    """
    start = time.monotonic()
    for wait in (*(BACKOFF if waits is None else waits), None):
        try:
            return call()
        except Exception as error:
            late = time.monotonic() - start > PATIENCE_SECONDS
            if wait is None or late or not is_transient(error):
                raise
            pause(error, wait)
    raise AssertionError  # the last attempt returns or raises


def pause(error: BaseException, wait: float) -> None:
    """Waits before another attempt: as long as the Hub asks for, else for `wait` seconds.

    Raises:
        BaseException: the error itself, if the Hub asks for a longer wait than is reasonable.
    """
    asked = _retry_after(error)
    if asked is not None and asked > MAX_WAIT:
        raise error
    wait = wait if asked is None else asked
    logger.warning("%s: trying again in %.0f s", describe(error), wait)
    time.sleep(wait)


def is_transient(error: BaseException) -> bool:
    """Tells whether a fault may be gone in a moment: a 5xx, a 429, a lost or silent connection."""
    import httpx2
    from huggingface_hub import errors

    if isinstance(error, ClassifierError):
        return False
    for cause in causes(error):
        status = status_of(cause)
        if status is not None:
            return status in PASSING
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return False
        if isinstance(cause, (httpx2.TransportError, json.JSONDecodeError, ConnectionError)):
            return True
    return False


def status_of(error: BaseException) -> int | None:
    """Returns the HTTP status that an error of the Hub's client carries, None if it has none."""
    return getattr(getattr(error, "response", None), "status_code", None)


def is_missing(error: BaseException) -> bool:
    """Tells whether the Hub says that a repository, a revision or a file is not there."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return False
    return isinstance(error, errors.RepositoryNotFoundError) or status_of(error) in MISSING


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
    import httpx2
    from huggingface_hub import constants, errors

    if isinstance(error, ClassifierError):
        return str(error)
    for cause in causes(error):
        status = status_of(cause)
        if status is not None:
            said = getattr(cause, "server_message", None) or cause.response.reason_phrase  # type: ignore[attr-defined]
            return f"the Hub answered {status} ({_one_line(said)})"
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE forbids to ask the Hub"
        if isinstance(cause, httpx2.ConnectTimeout | httpx2.ConnectError):
            return f"cannot connect to {constants.ENDPOINT} ({_one_line(cause) or 'no answer'})"
        if isinstance(cause, (httpx2.TimeoutException, TimeoutError)):
            return f"{constants.ENDPOINT} does not answer"
        if isinstance(cause, httpx2.TransportError):
            return f"the connection to {constants.ENDPOINT} was lost"
        if isinstance(cause, json.JSONDecodeError):
            return f"{constants.ENDPOINT} does not answer as a Hub does"
    return _one_line(error) or type(error).__name__


def without_secret(error: BaseException, secret: str | None) -> str:
    """Takes a token out of an error and its causes, should the Hub have repeated it.

    Returns:
        The error's description, without it.
    """
    text = describe(error)
    if not secret:
        return text
    for cause in causes(error):
        cause.args = tuple(
            item.replace(secret, "***") if isinstance(item, str) else item for item in cause.args
        )
    return text.replace(secret, "***")


def _client() -> Any:
    """Makes the client of all requests: huggingface_hub's own, but none may wait for ever."""
    from huggingface_hub.utils._http import default_client_factory

    client = default_client_factory()
    hooks = client.event_hooks
    client.event_hooks = {**hooks, "request": [_limit_silence, *hooks.get("request", [])]}
    return client


def _limit_silence(request: Any) -> None:
    """Sets the timeouts of a request that has none: many of the client's calls ask for none."""
    silence = ANSWER_SECONDS.get(request.method, STORING_SECONDS)
    timeouts = request.extensions.get("timeout") or {}
    for kind in ("connect", "read", "write", "pool"):
        limit = ANSWER_SECONDS["GET"] if kind == "connect" else silence
        timeouts[kind] = min(timeouts.get(kind) or limit, limit)
    request.extensions["timeout"] = timeouts


def _retry_after(error: BaseException) -> float | None:
    from huggingface_hub.utils import parse_ratelimit_headers

    headers = getattr(getattr(error, "response", None), "headers", None)
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
