"""Processes that are to train together find each other, and that they agree, before JAX starts.

JAX cannot report a missing process: when `initialization_timeout` has passed, JAX 0.10.2 ends this
process in native code (`LOG(FATAL)`, a stack trace, exit status 134), also with
`jax_enable_recoverability`, and Python has nothing to catch. So the first process listens at the
address that JAX is to use; each other one connects and says who it is and what it is about to do.
When all are there and agree, the first lets them go and frees the port.
"""

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from classifier.errors import ClassifierError, InputError

PAUSE = 0.2  # seconds between two attempts to connect
MAX_LINE = 1 << 20  # bytes that a process may say of itself
SECONDS_TO_SPEAK = 5  # whoever connects and says nothing is no process of ours

Plan = Mapping[str, Any]  # what all processes must have in common, as JSON can hold it


def wait_for_processes(address: str, *, processes: int, plan: Plan, seconds: float) -> None:
    """Waits, as the first process, for all others, and lets them go.

    Args:
        address: host:port; the port is bound on this machine.
        processes: how many there are, this one counted.
        plan: of this process.
        seconds: to wait at most.

    Raises:
        InputError: a process says something else than this one, or two have the same number.
        ClassifierError: the port cannot be used, or not all processes came.
    """
    end = time.monotonic() + seconds
    there: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as connections:
        server = connections.enter_context(_listen(address))
        while len(there) < processes - 1:
            server.settimeout(max(0.01, end - time.monotonic()))
            try:
                connection = connections.enter_context(server.accept()[0])
            except TimeoutError:
                raise _missing(address, set(range(1, processes)) - set(there), seconds) from None
            said = _read(connection)
            if said is None or not {"number", "processes", "plan"} <= set(said):
                continue
            wrong = _objection(said, there, processes, plan)
            if wrong:
                _answer([*there.values(), connection], wrong)
                raise InputError(wrong)
            there[said["number"]] = connection
        _answer(list(there.values()), "")


def report(address: str, *, number: int, processes: int, plan: Plan, seconds: float) -> None:
    """Reports to the first process, and returns when all are there.

    Args:
        address: host:port of the first process.
        number: of this process, counted from 0.
        processes: how many there are.
        plan: of this process.
        seconds: to wait at most.

    Raises:
        InputError: the processes do not agree.
        ClassifierError: the first process does not answer.
    """
    host, _, port = address.rpartition(":")
    end = time.monotonic() + seconds
    reason = "it hung up"
    while time.monotonic() < end:
        try:
            left = max(0.01, end - time.monotonic())
            with socket.create_connection((host.strip("[]"), int(port)), timeout=left) as first:
                _write(first, {"number": number, "processes": processes, "plan": plan})
                answer = _read(first, left)
        except OSError as error:
            answer, reason = None, str(error)
        if answer is not None:
            if answer.get("wrong"):
                raise InputError(str(answer["wrong"]))
            return
        time.sleep(PAUSE)
    raise ClassifierError(
        f"the first process does not answer at {address} within {seconds:g} s ({reason}): start "
        "it, and name its address in KERAS_DISTRIBUTION_JOB_ADDRESSES"
    )


def _listen(address: str) -> socket.socket:
    port = int(address.rpartition(":")[2])
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except (OSError, OverflowError) as error:
        raise ClassifierError(
            f"cannot listen at port {port} ({getattr(error, 'strerror', None) or error}): choose "
            "another one in KERAS_DISTRIBUTION_JOB_ADDRESSES"
        ) from None


def _missing(address: str, numbers: set[int], seconds: float) -> ClassifierError:
    names = ", ".join(map(str, sorted(numbers)))
    return ClassifierError(
        f"not all processes came to {address} within {seconds:g} s; missing: {names}. Start all of "
        "them with the same KERAS_DISTRIBUTION_JOB_ADDRESSES"
    )


def _objection(
    said: dict[str, Any], there: Mapping[int, Any], processes: int, plan: Plan
) -> str | None:
    """Returns what is wrong with a process that reports, in one line."""
    number, advice = said["number"], "give all of them the same command and variables"
    if said["processes"] != processes:
        counts = f"counts {said['processes']} processes, process 0 {processes}"
        return f"process {number} {counts}: {advice}"
    if number in there or number == 0:
        return f"two processes have the number {number}: give each its own PROCESS_ID"
    for name in dict.fromkeys([*plan, *said["plan"]]):
        own, other = plan.get(name), said["plan"].get(name)
        if own != other:
            return f"process {number} has {name} {other!r}, process 0 {own!r}: {advice}"
    return None


def _answer(connections: list[socket.socket], wrong: str) -> None:
    """Tells all what is wrong, or to go on; they hang up first, and the port is free at once."""
    for connection in connections:
        _write(connection, {"wrong": wrong})
    for connection in connections:
        _read(connection)


def _write(connection: socket.socket, content: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # it is gone
        connection.sendall(json.dumps(content).encode() + b"\n")


def _read(connection: socket.socket, seconds: float = SECONDS_TO_SPEAK) -> dict[str, Any] | None:
    """Returns what the other side says in one line; None if it says nothing of the kind."""
    connection.settimeout(seconds)
    try:
        with connection.makefile("rb") as lines:
            content = json.loads(lines.readline(MAX_LINE))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
