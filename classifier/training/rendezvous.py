"""Connects the processes of a distributed training, and compares their plans, before JAX starts.

JAX cannot report a missing process: after `initialization_timeout`, JAX 0.10.2 aborts in native
code (`LOG(FATAL)`, a stack trace, exit status 134), also with `jax_enable_recoverability`, and
raises no exception. Therefore the first process listens at the address that JAX will use, and every
other process connects and sends its number and plan. When all plans are the same, the first process
confirms and closes the port.
"""

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from classifier.errors import ClassifierError, InputError

PAUSE = 0.2  # seconds between two attempts to connect
MAX_LINE = 1 << 20  # bytes of a message
SECONDS_TO_SEND = 5  # connections that send nothing for so long are ignored

Plan = Mapping[str, Any]  # values that must be the same in all processes, as JSON


def wait_for_processes(address: str, *, processes: int, plan: Plan, seconds: float) -> None:
    """Waits, in the first process, for the reports of all others.

    Args:
        address: host:port; the port is bound on this machine.
        processes: the number of processes, including this one.
        plan: of this process.
        seconds: the timeout.

    Raises:
        InputError: a process has another plan, or two have the same number.
        ClassifierError: the port cannot be used, or a process is missing.
    """
    end = time.monotonic() + seconds
    connected: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as connections:
        server = connections.enter_context(_listen(address))
        while len(connected) < processes - 1:
            server.settimeout(max(0.01, end - time.monotonic()))
            try:
                connection = connections.enter_context(server.accept()[0])
            except TimeoutError:
                raise _missing(
                    address, set(range(1, processes)) - set(connected), seconds
                ) from None
            reported = _read(connection)
            if reported is None or not {"number", "processes", "plan"} <= set(reported):
                continue
            wrong = _difference(reported, connected, processes, plan)
            if wrong:
                _answer([*connected.values(), connection], wrong)
                raise InputError(wrong)
            connected[reported["number"]] = connection
        _answer(list(connected.values()), "")


def report(address: str, *, number: int, processes: int, plan: Plan, seconds: float) -> None:
    """Reports to the first process, and returns when all processes have reported.

    Args:
        address: host:port of the first process.
        number: of this process, counted from 0.
        processes: the number of processes.
        plan: of this process.
        seconds: the timeout.

    Raises:
        InputError: the processes have different plans.
        ClassifierError: the first process does not answer.
    """
    host, _, port = address.rpartition(":")
    end = time.monotonic() + seconds
    reason = "it closed the connection"
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
        f"not all processes connected to {address} within {seconds:g} s; missing: {names}. Start "
        "all of them with the same KERAS_DISTRIBUTION_JOB_ADDRESSES"
    )


def _difference(
    reported: dict[str, Any], connected: Mapping[int, Any], processes: int, plan: Plan
) -> str | None:
    """Returns the first difference between a process and this one, in one line."""
    number, advice = reported["number"], "give all of them the same command and variables"
    if reported["processes"] != processes:
        counts = f"counts {reported['processes']} processes, process 0 {processes}"
        return f"process {number} {counts}: {advice}"
    if number in connected or number == 0:
        return f"two processes have the number {number}: give each its own PROCESS_ID"
    for name in dict.fromkeys([*plan, *reported["plan"]]):
        own, other = plan.get(name), reported["plan"].get(name)
        if own != other:
            return f"process {number} has {name} {other!r}, process 0 {own!r}: {advice}"
    return None


def _answer(connections: list[socket.socket], wrong: str) -> None:
    """Sends an error, or "" to confirm; the others close first, which frees the port at once."""
    for connection in connections:
        _write(connection, {"wrong": wrong})
    for connection in connections:
        _read(connection)


def _write(connection: socket.socket, content: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the connection is closed
        connection.sendall(json.dumps(content).encode() + b"\n")


def _read(connection: socket.socket, seconds: float = SECONDS_TO_SEND) -> dict[str, Any] | None:
    """Receives a line with a JSON object; returns None for anything else."""
    connection.settimeout(seconds)
    try:
        with connection.makefile("rb") as lines:
            content = json.loads(lines.readline(MAX_LINE))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
