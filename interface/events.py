"""What the events of all tabs share: the visitor's language, and errors put into words."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import gradio as gr

from classifier.data.images import ImageError
from classifier.errors import ClassifierError, InputError
from interface.serving import UnknownModelError
from interface.translations import language_of, word
from interface.uploads import AddressError, RefusedFileError

logger = logging.getLogger(__name__)

# Where a request's own faults are noted, for who gives its answer a status.
refusals: ContextVar[list[InputError]] = ContextVar("refusals")

# The last input of an event of the page is the visitor's language, which the browser knows.
WITH_LANGUAGE = "(...inputs) => [...inputs.slice(0, -1), document.documentElement.lang]"

# How events that only write text run: at once, beside the queue, and not as part of the API.
TEXT_EVENT: dict[str, Any] = {
    "js": WITH_LANGUAGE,
    "preprocess": False,
    "show_progress": "hidden",
    "queue": False,
    "api_visibility": "private",
}


class RequestError(InputError):
    """A request has not the form that its endpoint takes."""

    def __init__(self) -> None:
        super().__init__("the request does not have the form that this endpoint takes")


def with_user_errors(
    answer: Callable[..., Awaitable[Any]], language: str | None = None
) -> Callable[..., Awaitable[Any]]:
    """Turns what an event's function raises into a `gr.Error`.

    The page shows it, the API gives it as the error of the call, and the next request works.

    Args:
        answer: the function of an event.
        language: of the message; that of the function's last argument if not given.
    """
    fixed = language

    @functools.wraps(answer)
    async def guarded(*arguments: Any) -> Any:
        language = fixed or language_of(arguments[-1])
        try:
            return await answer(*arguments)
        except gr.Error:
            raise
        except Exception as error:
            raise as_error(error, language) from None

    # Gradio looks at it with every call, and finds it here at once.
    guarded.__signature__ = inspect.signature(answer)  # type: ignore[attr-defined]
    return guarded


def as_error(error: Exception, language: str) -> gr.Error:
    """Returns the message for a visitor; what is our own fault is logged in full."""
    if isinstance(error, InputError):
        refusals.get([]).append(error)
    if isinstance(error, ImageError):
        text = word(f"error_{error.reason}", language)
    elif isinstance(error, UnknownModelError):
        served = ", ".join(error.served)
        text = word("error_unknown_model", language, name=error.name, served=served)
    elif isinstance(error, RequestError):
        text = word("error_request", language)
    elif isinstance(error, AddressError):
        text = word("error_address", language)
    elif isinstance(error, RefusedFileError):
        text = word("error_no_image", language)
    elif isinstance(error, ClassifierError):
        logger.error("%s", error)
        text = word("error_model", language)
    else:
        logger.exception("an event failed")
        text = word("error_model", language)
    return gr.Error(text, title=word("error_title", language), print_exception=False)
