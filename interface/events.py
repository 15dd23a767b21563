"""Shared by the events of all tabs: the visitor's language and error messages."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from typing import Any

import gradio as gr

from classifier.data.images import ImageError
from classifier.errors import ClassifierError, InputError
from interface.serving import UnknownModelError
from interface.translations import word
from interface.uploads import AddressError, RefusedFileError

logger = logging.getLogger(__name__)

# The input errors of a request, which determine the status of its response.
refusals: ContextVar[list[InputError]] = ContextVar("refusals")

LANGUAGE_INPUT = "language"  # element id of the input that holds the visitor's language
# Sets the last input of an event to that language, which the browser knows.
WITH_LANGUAGE = "(...inputs) => [...inputs.slice(0, -1), document.documentElement.lang]"


def store_in_url(**defaults: object) -> str:
    """Returns JavaScript for an event that stores its last inputs in the address of the page.

    Args:
        defaults: their names in the address, in the order of the inputs, and their default values,
            which are left out. After them comes the language.
    """
    return f"(...inputs) => pageAddress.store({json.dumps(defaults)}, ...inputs)"


def restore_from_url(**defaults: object) -> str:
    """Returns JavaScript for an event that takes its last inputs from the address."""
    return f"(...inputs) => pageAddress.restore({json.dumps(defaults)}, ...inputs)"


# Options of events that are not queued, and not part of the API.
INSTANT: dict[str, Any] = {"queue": False, "api_visibility": "private"}
# Those of events that only write text.
TEXT_EVENT: dict[str, Any] = {
    "js": WITH_LANGUAGE,
    "preprocess": False,
    "show_progress": "hidden",
    **INSTANT,
}


class RequestError(InputError):
    """A request does not have the form that its endpoint takes."""

    def __init__(self) -> None:
        super().__init__("the request does not have the form that this endpoint takes")


ERROR_TEXTS: dict[type[InputError], str] = {
    AddressError: "error_address",
    RefusedFileError: "error_no_image",
}


def as_error(error: Exception, language: str) -> gr.Error:
    """Returns the message for a visitor; errors of the app are logged."""
    if isinstance(error, InputError):
        refusals.get([]).append(error)
    if isinstance(error, ImageError):
        text = word(f"error_{error.reason}", language)
    elif isinstance(error, UnknownModelError):
        served = ", ".join(error.served)
        text = word("error_unknown_model", language, name=error.name, served=served)
    elif isinstance(error, InputError):
        text = word(ERROR_TEXTS.get(type(error), "error_request"), language)
    else:
        text = word("error_model", language)
        if isinstance(error, ClassifierError):
            logger.error("%s", error)
        else:
            logger.exception("an event failed")
    return gr.Error(text, title=word("error_title", language), print_exception=False)
