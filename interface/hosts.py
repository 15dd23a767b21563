"""By which addresses the app knows itself, so that no request can put another one into its page."""

from __future__ import annotations

import os
import re
import socket

from starlette.types import Scope

# What tells the app that a proxy stands before it, which alone sets the headers below: a Space, a
# path that the proxy adds, or uvicorn's own list of proxies.
PROXY_VARIABLES = ("SPACE_ID", "SPACE_HOST", "GRADIO_ROOT_PATH", "FORWARDED_ALLOW_IPS")
FORWARDED = re.compile(rb"forwarded|x-forwarded-.*|x-gradio-server", re.IGNORECASE)
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", re.IGNORECASE)


def trusts_proxy() -> bool:
    """Tells whether the app was told that a proxy stands before it."""
    return any(os.environ.get(name) for name in PROXY_VARIABLES)


def with_own_host(scope: Scope) -> tuple[Scope, bool]:
    """Returns a request without what a stranger may have written as the address of this server.

    Args:
        scope: of a request that no trusted proxy has passed on.

    Returns:
        The request without the headers of proxies, and whether its `Host` was none that is known
        and the address that it came to has taken its place.
    """
    headers = [pair for pair in scope["headers"] if not FORWARDED.fullmatch(pair[0])]
    name, port = scope.get("server") or ("127.0.0.1", None)
    own = {"localhost", "127.0.0.1", "::1", name, socket.gethostname().lower()}
    host = next((value for key, value in headers if key == b"host"), b"").decode("latin-1")
    found = _HOST.fullmatch(host)
    foreign = found is None or found["name"].strip("[]").lower() not in own
    if foreign:
        address = f"[{name}]" if ":" in name else name
        value = f"{address}:{port}" if port else address
        headers = [pair for pair in headers if pair[0] != b"host"]
        headers.append((b"host", value.encode("latin-1")))
    return {**scope, "headers": headers}, foreign


def root_of(scope: Scope) -> str:
    """Returns the address of the server in a request, as the page would have it."""
    host = dict(scope["headers"])[b"host"].decode("latin-1")
    return f"{scope['scheme']}://{host}"
