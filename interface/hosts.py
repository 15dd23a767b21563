"""Checks the headers of a request that state the address of this server, and its path.

Only a trusted proxy can determine the address in the page and in redirects.
"""

from __future__ import annotations

import os
import re
import socket

from starlette.types import Scope

# If one of these is set, the app is behind a proxy that sets the headers below: in a Space, with a
# path prefix, or with uvicorn's list of proxies.
PROXY_VARIABLES = ("SPACE_ID", "SPACE_HOST", "GRADIO_ROOT_PATH", "FORWARDED_ALLOW_IPS")
FORWARDED = re.compile(rb"forwarded|x-forwarded-.*", re.IGNORECASE)
NODE_SERVER = b"x-gradio-server"  # of Gradio's Node proxy, which this app does not use
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", re.IGNORECASE)


def trusts_proxy() -> bool:
    """Returns whether the app is configured to be behind a proxy."""
    return any(os.environ.get(name) for name in PROXY_VARIABLES)


def path_of(scope: Scope) -> str:
    """Returns the path of a request without `GRADIO_ROOT_PATH`, which some proxies strip."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    below = bool(root) and (path == root or path.startswith(f"{root}/"))
    return (path[len(root) :] or "/") if below else path


def with_own_host(scope: Scope, *, trusting: bool = False) -> tuple[Scope, bool]:
    """Returns a request without untrusted headers about the address of this server.

    Args:
        scope: of a request.
        trusting: whether to trust the well-formed headers of a proxy.

    Returns:
        The request, and whether its `Host` was unknown and has been replaced by the address that
        the request was sent to.
    """
    headers = [(key, value) for key, value in scope["headers"] if _is_kept(key, value, trusting)]
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


def _is_kept(name: bytes, value: bytes, trusting: bool) -> bool:
    """Returns whether a header is no proxy's, or a trusted one's and well-formed."""
    if name == NODE_SERVER or (FORWARDED.fullmatch(name) and not trusting):
        return False
    # Of several values, the first is used.
    first = value.decode("latin-1").partition(",")[0].strip()
    if name == b"x-forwarded-host":
        return _HOST.fullmatch(first) is not None
    return name != b"x-forwarded-proto" or first in ("http", "https")


def root_of(scope: Scope) -> str:
    """Returns the address of the server that Gradio writes into the page."""
    host = dict(scope["headers"])[b"host"].decode("latin-1")
    return f"{scope['scheme']}://{host}"
