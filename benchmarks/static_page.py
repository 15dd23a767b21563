"""Measures the static page in Chromium, beside ONNX Runtime for Python on the same models.

python -m benchmarks.static_page                    # with nothing else running on the machine
python -m benchmarks.static_page --site site        # a page that deploy.py has made

From localhost, with the example photographs: the time from the first click to the first answer,
later answers, the occlusion map, one call of the model in the page's worker and in Python (one
thread each), and the peak memory of the renderer. It writes `static_page.json` and `.md`.
"""

from __future__ import annotations

import gzip
import json
import re
import statistics
import sys
import tempfile
import threading
import timeit
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks import output
from benchmarks.output import PROJECT
from classifier import command_line
from classifier.hub import sources
from static_page.builder import build_site

STARTS, ANSWERS, CALLS = 3, 12, 30
# Clicks on an example, and returns the milliseconds until its answer is there.
ANSWER = """(name) => new Promise((done) => {
    const answer = document.getElementById("answer");
    const start = performance.now();
    delete answer.dataset.file;
    new MutationObserver((_, observer) => {
        if (!answer.dataset.file) return;
        observer.disconnect();
        done(performance.now() - start);
    }).observe(answer, {attributes: true});
    document.getElementById(`example-${name}`).click();
})"""
# Returns the milliseconds until the occlusion map is done; most models need a click for it.
MAP = """() => new Promise((done) => {
    const start = performance.now();
    document.querySelector("[data-do=map]")?.click();
    const look = () => document.querySelector("#view [data-do]") ? setTimeout(look, 5)
        : done(performance.now() - start);
    look();
})"""
# Returns the milliseconds of calls of a model in a worker of the page.
CALL = """async ([model, runtime, size, count]) => {
    const at = (path) => new URL(path, document.baseURI).href;
    const worker = new Worker(at("scripts/worker.js"), {type: "module"});
    const ask = (task, input) => new Promise((done, fail) => {
        worker.onmessage = ({data}) => data.error ? fail(data.error) : "result" in data && done();
        worker.postMessage({id: 1, task, model: at(model), ...input});
    });
    await ask("load", {runtime: at(runtime)});
    const times = [];
    for (let call = 0; call < count; call++) {
        const pixels = Uint8Array.from({length: size * size * 3}, () => 256 * Math.random());
        const start = performance.now();
        await ask("classify", {pixels, size});
        times.push(performance.now() - start);
    }
    worker.terminate();
    return times;
}"""
RUNTIME = "runtime/ort-wasm-simd-threaded.wasm.gz"
COLUMNS = {
    "first_ms": "First answer",
    "later_ms": "Later answers",
    "map_ms": "Occlusion map",
    "call_ms": "Model in the browser",
    "python_ms": "Model in Python",
    "megabytes": "Memory (MB)",
}


def main(arguments: list[str]) -> None:
    """Measures each model of the page."""
    parser = output.parser("static_page", "Measures the static page in Chromium.")
    parser.add_argument("--site", type=Path, help="default: a page of the embedded models is made")
    parser.add_argument("--browser", default="/usr/bin/chromium", help="the program")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        site = options.site or Path(place) / "site"
        if options.site is None:
            folders = sorted(PROJECT.glob("pretrained/*/"))
            build_site([sources.locate(str(folder)) for folder in folders], site)
        state = output.circumstances("static_page", arguments)
        with (
            ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server,
            sync_playwright() as playwright,
        ):
            threading.Thread(target=server.serve_forever, daemon=True).start()
            browser = playwright.chromium.launch(executable_path=options.browser)
            rows = [
                measure(browser, f"http://127.0.0.1:{server.server_port}/", site, model)
                for model in models_of(site)
            ]
            version = browser.version
            server.shutdown()
    result = {**state, "chromium": version, "rows": rows, **output.machine()}
    output.write("static_page", result, {"static_page.md": table(result)}, options.output)


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *arguments: object) -> None:
        """Writes nothing."""


def models_of(site: Path) -> list[dict[str, Any]]:
    """Returns what the page knows of its models."""
    text = (site / "index.html").read_text(encoding="utf-8")
    found = re.search(r'id="page-data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1])["models"] if found else []


def measure(browser: Browser, url: str, site: Path, model: dict[str, Any]) -> dict[str, Any]:
    """Returns the medians of a model, in milliseconds, and the memory."""
    firsts, laters, maps, memory = [], [], [], 0.0
    for _ in range(STARTS):
        with browser.new_context() as context:
            page = context.new_page()
            page.goto(f"{url}?model={model['name']}", wait_until="networkidle")
            firsts.append(page.evaluate(ANSWER, "lion"))
            maps.append(page.evaluate(MAP))
            for index in range(ANSWERS):
                laters.append(page.evaluate(ANSWER, ("tower", "lion")[index % 2]))
                if not page.locator("[data-do=map]").count():  # the map comes by itself
                    page.evaluate(MAP)
            memory = max(memory, peak_megabytes(browser, page))
            inputs = [model["url"], RUNTIME, model["image_size"], CALLS]
            calls = page.evaluate(CALL, inputs)
    row = {"first_ms": firsts, "later_ms": laters, "map_ms": maps, "call_ms": calls[5:]}
    row["python_ms"] = python_calls(site, model)
    medians = {name: round(statistics.median(times), 1) for name, times in row.items()}
    return {"model": model["name"], **medians, "megabytes": round(memory)}


def peak_megabytes(browser: Browser, page: Page) -> float:
    """Returns the largest memory that a renderer has had, in megabytes."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    states = [Path(f"/proc/{one['id']}/status") for one in processes if one["type"] == "renderer"]
    peaks = [re.search(r"VmHWM:\s+(\d+)", state.read_text()) for state in states]
    return max(int(peak[1]) / 1024 for peak in peaks if peak)


def python_calls(site: Path, model: dict[str, Any]) -> list[float]:
    """Returns the milliseconds of calls of a model in ONNX Runtime for Python, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = gzip.decompress((site / model["url"]).read_bytes())
    session = onnxruntime.InferenceSession(content, options)
    size = model["image_size"]
    images = np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype(np.float32)
    seconds = timeit.repeat(lambda: session.run(None, {"images": images}), number=1, repeat=CALLS)
    return [1000 * second for second in seconds[5:]]


def table(result: dict[str, Any]) -> str:
    """Returns the table in Markdown, and how it was measured."""
    rows = [
        [row["model"], *(f"{row[name]:g}" for name in COLUMNS)]
        + [f"{row['call_ms'] / row['python_ms']:.1f}"]
        for row in result["rows"]
    ]
    header = ["Model", *COLUMNS.values(), "Browser / Python"]
    note = (
        f"Medians in milliseconds, Chromium {result['chromium']}, one thread, from localhost; "
        f"{result['date']}, load {result['load_before']}, `{result['command']}`."
    )
    return f"{output.markdown(header, rows, 'l' + 'r' * 7)}\n\n{note}\n"


if __name__ == "__main__":
    sys.exit(command_line.run(main))
