"""The app as its users meet it: a process of its own, with a tiny model, on a free port."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ports import free_port

PROJECT = Path(__file__).resolve().parent.parent
SECONDS_TO_START = 300
BUSY = "busy"
BUSY_APP = """
import sys, time
from pathlib import Path
sys.path.insert(0, "")
import app
from classifier import command_line
if __name__ == "__main__":
    from classifier.prediction.runtime import OnnxModel
    from interface import page, uploads
    {changes}
    answer = OnnxModel.probabilities
    def wait(model, images):
        while Path("{flag}").exists():
            time.sleep(0.02)
        return answer(model, images)
    OnnxModel.probabilities = wait
    sys.exit(command_line.run(app.main))
"""


@dataclass
class RunningApp:
    """A started app."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def get(self, path: str, timeout: float = 60) -> bytes:
        """Returns the content at a path of the app."""
        with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
            return answer.read()

    def stop(self, seconds: float = 60) -> int:
        """Ends it with SIGTERM, and returns its exit status.

        It takes at most five seconds, and longer on a busy machine.
        """
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextlib.contextmanager
def running_app(
    folder: Path,
    *arguments: object,
    command: Sequence[str] = ("app.py",),
    project: Path = PROJECT,
    **environment: str,
) -> Iterator[RunningApp]:
    """Starts `app.py` on a free port and waits until it answers.

    Args:
        folder: where its log goes.
        arguments: of the command line.
        command: what Python is given before them, in the place of `app.py`.
        project: the folder of the project.
        environment: variables to add; the port is named in `GRADIO_SERVER_PORT`.
    """
    port = free_port()
    log = folder / f"app-{port}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *command, *map(str, arguments)],
            cwd=project,
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


@pytest.fixture(scope="module")
def logged(app: RunningApp) -> Callable[[], str]:
    """Returns what the app has logged since the tests of a file began: others share the app."""
    before = len(app.log.read_text())
    return lambda: app.log.read_text()[before:]


def app_that_can_be_busy(folder: Path, *changes: str) -> tuple[str, ...]:
    """Writes a script that starts the app, with lines of Python before; returns the `command`."""
    script = folder / "busy_app.py"
    script.write_text(BUSY_APP.format(changes="\n    ".join(changes), flag=folder / BUSY))
    return (str(script),)


@contextlib.contextmanager
def busy_models(app: RunningApp) -> Iterator[None]:
    """Halts the models of an `app_that_can_be_busy`, as if they had a lot to compute."""
    flag = app.log.parent / BUSY
    flag.touch()
    try:
        yield
    finally:
        flag.unlink()


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
