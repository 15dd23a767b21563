"""Measures the serving performance of the app, compared with a Gradio app that returns a constant.

python -m benchmarks.serving                  # with nothing else running on the machine

Over plain HTTP with one connection per client: the time from the start of the process to the first
page and the first result of /classify (cold start), the median latency of one client, and the
latency and throughput of many concurrent clients. Both apps are started alternately, so that other
load on the machine affects both.

It writes `serving.json` and `serving.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import output
from benchmarks.output import PROJECT
from classifier import command_line
from classifier.errors import ClassifierError

PICTURE = "lion.jpg"  # an example image from Gradio
STARTS = 3
SINGLE_CALLS = 100
CALLS_OF_A_CLIENT = 5

# The lower bound: the same endpoint without a model, on unmodified Gradio.
CONSTANT_APP = """
import gradio as gr

def classify(image):
    return {"apple": 0.5, "bear": 0.2, "bed": 0.1, "bee": 0.1, "boy": 0.1}

with gr.Blocks() as page:
    image, label = gr.Image(type="filepath", image_mode=None), gr.Label(num_top_classes=5)
    image.change(classify, image, label, api_name="classify")
page.queue(max_size=1000)
page.launch(run_history=False, enable_monitoring=False, ssr_mode=False, quiet=True)
"""


@dataclass
class Started:
    """A running app and the times of its first responses, in seconds after the process start."""

    url: str
    first_page: float
    first_answer: float


def main(arguments: list[str]) -> None:
    """Measures both apps and writes the results."""
    options = parse(arguments)
    state = output.circumstances("serving", arguments)
    models = [part for source in options.model for part in ("--model", source)]
    ours = [sys.executable, "app.py", *models]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "constant.py"
        script.write_text(CONSTANT_APP)
        commands = {"constant": [sys.executable, str(script)], "app": ours}
        starts: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(STARTS):
            for name, command in commands.items():
                with started(command) as app:
                    starts[name].append((app.first_page, app.first_answer))
        table = {name: _starts(values) for name, values in starts.items()}
        for name, command in commands.items():
            with started(command) as app:
                table[name] |= measure(app, options.clients)
    result = {
        **state,
        **output.machine(),
        "clients": options.clients,
        "calls_of_a_client": CALLS_OF_A_CLIENT,
        "starts": starts,
        **table,
    }
    output.write("serving", result, {"serving.md": as_table(result)}, options.output)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    description = "Measures how fast the app is, beside one that returns a constant."
    parser = output.parser("serving", description)
    parser.add_argument("--model", action="append", default=[], help="as for app.py")
    parser.add_argument("--clients", type=int, default=200, metavar="N")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def started(command: Sequence[str]) -> Iterator[Started]:
    """Starts an app and waits for its first page and its first result."""
    port = output.free_port()
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port)}
    url = f"http://127.0.0.1:{port}"
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL)
    try:
        _first_page(url, process)
        first_page = time.perf_counter() - start
        Caller(url).classify()
        yield Started(url, first_page, time.perf_counter() - start)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


class Caller:
    """A client with one connection that uploads an image and classifies it.

    `gradio_client` itself takes several times as long for a call as the server.
    """

    def __init__(self, url: str) -> None:
        import gradio as gr
        import httpx

        self.picture = Path(gr.get_image(PICTURE)).read_bytes()
        self.http = httpx.Client(base_url=f"{url}/gradio_api", timeout=600)

    def classify(self) -> float:
        """Returns the seconds of an upload and its classification; raises `ClassifierError`."""
        start = time.perf_counter()
        files = {"files": (PICTURE, self.picture, "image/jpeg")}
        path = self.http.post("/upload", files=files).raise_for_status().json()[0]
        picture = {"path": path, "orig_name": PICTURE, "meta": {"_type": "gradio.FileData"}}
        asked = self.http.post("/call/classify", json={"data": [picture]}).raise_for_status()
        event = asked.json()["event_id"]
        answer = self.http.get(f"/call/classify/{event}").raise_for_status().text
        if "event: complete" not in answer:
            raise ClassifierError(f"a call failed: {answer[:200]}")
        return time.perf_counter() - start


def measure(app: Started, clients: int) -> dict[str, float]:
    """Measures single calls, and many concurrent clients with five images each."""
    visitor = Caller(app.url)
    single = [visitor.classify() for _ in range(SINGLE_CALLS)]
    callers = [Caller(app.url) for _ in range(clients)]

    def visit(visitor: Caller) -> list[float]:
        return [visitor.classify() for _ in range(CALLS_OF_A_CLIENT)]

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as visitors:
        seconds = list(visitors.map(visit, callers))
    whole = time.perf_counter() - start
    calls = sorted(value for values in seconds for value in values)
    return {
        "median": statistics.median(single),
        "throughput": len(calls) / whole,
        "p95": calls[int(0.95 * len(calls))],
    }


def as_table(result: dict[str, Any]) -> str:
    """Returns the figures as Markdown."""
    clients = f"{result['clients']} visitors at once"
    rows = (
        ("first_page", "page, after process start", "s", 2, "at most 1.15"),
        ("first_answer", "first `/classify`, after process start", "s", 2, "at most 1.6"),
        ("median", "`/classify`, median, one visitor", "ms", 0, "at most 1.8"),
        ("p95", f"95th percentile, {clients}", "s", 1, "at most 1.2"),
        ("throughput", f"answers a second, {clients}", "", 1, "at least 1.1"),
    )
    lines = []
    for key, name, unit, digits, target in rows:
        scale = 1000 if unit == "ms" else 1
        floor, ours = result["constant"][key] * scale, result["app"][key] * scale
        values = [f"{value:.{digits}f} {unit}".strip() for value in (floor, ours)]
        lines.append([name, *values, f"{ours / floor:.2f}", target])
    header = ["", "constant app", "this app", "ratio", "target"]
    machine = result["machine"]
    note = (
        f"{result['clients']} visitors, {result['calls_of_a_client']} images each, no errors. "
        f"Medians of {len(result['starts']['app'])} starts, on {machine['cores']} cores of "
        f"{machine['processor']}, visitors included. {result['date']}, `{result['command']}`."
    )
    return f"{output.markdown(header, lines, 'lrrrr')}\n\n{note}\n"


def _starts(values: list[tuple[float, float]]) -> dict[str, float]:
    pages, answers = zip(*values, strict=True)
    return {"first_page": statistics.median(pages), "first_answer": statistics.median(answers)}


def _first_page(url: str, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(url, timeout=60) as answer:
                answer.read()
            return
        time.sleep(0.02)
    raise ClassifierError("the app ended before it answered: see its message above")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
