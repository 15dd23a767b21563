"""Checks what a request's headers say about the address of this server, and its path.

No request can put an address into the page or a redirect unless a trusted proxy passed it on.
"""

from __future__ import annotations

import os
import re
import socket

from starlette.types import Scope

# What tells the app that a proxy stands before it, which alone sets the headers below: a Space, a
# path that the proxy adds, or uvicorn's own list of proxies.
PROXY_VARIABLES = ("SPACE_ID", "SPACE_HOST", "GRADIO_ROOT_PATH", "FORWARDED_ALLOW_IPS")
FORWARDED = re.compile(rb"forwarded|x-forwarded-.*", re.IGNORECASE)
NODE_SERVER = b"x-gradio-server"  # of Gradio's own proxy, which this app does not start
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", re.IGNORECASE)


def trusts_proxy() -> bool:
    """Tells whether the app was told that a proxy stands before it."""
    return any(os.environ.get(name) for name in PROXY_VARIABLES)


def path_of(scope: Scope) -> str:
    """Returns the path that a request is routed by.

    Below `GRADIO_ROOT_PATH`, some proxies pass the whole path on, others only what follows.
    """
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    below = bool(root) and (path == root or path.startswith(f"{root}/"))
    return (path[len(root) :] or "/") if below else path


def with_own_host(scope: Scope, *, trusting: bool = False) -> tuple[Scope, bool]:
    """Returns a request without what a stranger may have written as the address of this server.

    Args:
        scope: of a request.
        trusting: whether a proxy has passed it on: then its headers count if they are well-formed.

    Returns:
        The request without the headers of proxies that do not count, and whether its `Host` was
        none that is known and the address that it came to has taken its place.
    """
    kept = _is_well_formed if trusting else _is_no_proxys
    headers = [pair for pair in scope["headers"] if pair[0] != NODE_SERVER and kept(*pair)]
    name, port = scope.get("server") or ("127.0.0.1", None)
    own = {"localhost", "127.0.0.1", "::1", name, socket.gethostname().lower()}
    hosts = [value.decode("latin-1") for key, value in headers if key == b"host"]
    found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    foreign = found is None or not (trusting or found["name"].strip("[]").lower() in own)
    if foreign:
        address = f"[{name}]" if ":" in name else name
        value = f"{address}:{port}" if port else address
        headers = [pair for pair in headers if pair[0] != b"host"]
        headers.append((b"host", value.encode("latin-1")))
    scheme = scope.get("scheme", "http") if trusting else "http"  # as uvicorn read it from a header
    return {**scope, "headers": headers, "scheme": scheme}, foreign


def _is_no_proxys(name: bytes, value: bytes) -> bool:
    del value
    return not FORWARDED.fullmatch(name)


def _is_well_formed(name: bytes, value: bytes) -> bool:
    """Tells whether a header names a host or a protocol, if it should: the first one counts."""
    first = value.decode("latin-1").partition(",")[0].strip()
    if name == b"x-forwarded-host":
        return _HOST.fullmatch(first) is not None
    return name != b"x-forwarded-proto" or first in ("http", "https")


def root_of(scope: Scope) -> str:
    """Returns the address of the server in a request, as the page would have it."""
    host = dict(scope["headers"])[b"host"].decode("latin-1")
    return f"{scope['scheme']}://{host}"
