"""Finds and checks the token of the Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from classifier.errors import InputError
from classifier.hub_client import FORBIDDEN, status_of, with_retries

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TOKEN_HINT = (
    "create one with write access at {endpoint}/settings/tokens and log in: `hf auth login`"
)


def find_token(token: str | None = None) -> str:
    """Returns the token for writing: the given one, `HF_TOKEN`, or the stored one.

    Raises:
        InputError: there is no token.
    """
    from huggingface_hub import constants, get_token

    token = token or get_token()
    if not token:
        hint = TOKEN_HINT.format(endpoint=constants.ENDPOINT)
        raise InputError(f"publishing needs a token of the Hub, and there is none: {hint}")
    return token


def check_token(api: HfApi) -> None:
    """Asks the Hub about the token; raises `InputError` if it is unknown or read-only.

    Fine-grained tokens have a role of their own; only the role `read` certainly cannot write.
    """
    hint = TOKEN_HINT.format(endpoint=api.endpoint)
    try:
        answer = with_retries(api.whoami)
    except Exception as error:
        if status_of(error) in FORBIDDEN:
            raise InputError(f"the Hub does not accept the token: {hint}") from error
        raise
    access = (answer.get("auth") or {}).get("accessToken") or {}
    if access.get("role") == "read":
        raise InputError(f"the token is read-only: {hint}")
