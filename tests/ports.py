"""Ports of loopback for the servers of the tests."""

import socket
import sys

_HELD: list[socket.socket] = []


def free_port() -> int:
    """Returns a port that nobody else is given until the tests end.

    A server that starts takes seconds until it listens: meanwhile a port that is only known to be
    free could go to another process. Linux lets it listen where a socket is bound and does not.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port = int(held.getsockname()[1])
    if sys.platform == "linux":
        _HELD.append(held)
    else:
        held.close()
    return port
