"""The app as its users meet it: a process of its own, with a tiny model, on a free port."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
SECONDS_TO_START = 120


@dataclass
class RunningApp:
    """A started app."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def get(self, path: str, timeout: float = 20) -> bytes:
        """Returns the content at a path of the app."""
        with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
            return answer.read()

    def stop(self, seconds: float = 20) -> int:
        """Ends it with SIGTERM, and returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextlib.contextmanager
def running_app(
    folder: Path, *arguments: object, command: Sequence[str] = ("app.py",), **environment: str
) -> Iterator[RunningApp]:
    """Starts `app.py` on a free port and waits until it answers.

    Args:
        folder: where its log goes.
        arguments: of the command line.
        command: what Python is given before them, in the place of `app.py`.
        environment: variables to add; the port is named in `GRADIO_SERVER_PORT`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / f"app-{port}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *command, *map(str, arguments)],
            cwd=PROJECT,
            env={**os.environ, "GRADIO_SERVER_PORT": str(port), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
        )
    app = RunningApp(f"http://127.0.0.1:{port}", process, log)
    try:
        _wait(app)
        yield app
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def app(
    tiny_run: Path, small_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningApp]:
    """The app with two models, `tiny` and its copy `twin`; their test images are at hand."""
    folder = tmp_path_factory.mktemp("app")
    twin = folder / "twin"
    shutil.copytree(tiny_run / "model", twin)
    models = ("--model", tiny_run, "--model", twin)
    with running_app(folder, *models, DATASET=str(small_dataset)) as started:
        yield started
        assert started.process.poll() is None, started.log.read_text()


def kill_worker(app: RunningApp) -> None:
    """Kills the process that holds the models, as a shortage of memory would."""
    for worker in _workers(app):
        os.kill(worker, signal.SIGKILL)


@contextlib.contextmanager
def busy_worker(app: RunningApp) -> Iterator[None]:
    """Halts the process that holds the models, as if it had a lot to compute."""
    workers = _workers(app)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):  # the app has ended, and it with it
                os.kill(worker, signal.SIGCONT)


def _workers(app: RunningApp) -> list[int]:
    # Those of the main thread: the processes that decode pictures belong to others.
    children = Path(f"/proc/{app.process.pid}/task/{app.process.pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def _wait(app: RunningApp) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        if app.process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            app.get("/health", timeout=2)
            return
        time.sleep(0.1)
    raise AssertionError(f"the app did not start:\n{app.log.read_text()}")
