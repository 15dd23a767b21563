"""Measures the static page in Chromium, beside ONNX Runtime for Python on the same models.

python deploy.py --sdk static --model pretrained/cnn,pretrained/mlp --output site
python -m benchmarks.static_page --site site        # with nothing else running on the machine

From localhost: the time from the first click on an example to its answer, later answers, the
occlusion map, one prediction in the page's worker and in Python on one thread, and the peak memory
of the renderer.
"""

from __future__ import annotations

import gzip
import re
import shutil
import statistics
import sys
import threading
import timeit
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from playwright.sync_api import Browser, sync_playwright

from benchmarks import output
from classifier import command_line

STARTS, ANSWERS, PREDICTIONS = 3, 8, 50
# Each returns the milliseconds until what a click started is done: an answer, an occlusion map. The
# maps of small models start without a click.
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
MAP = """() => new Promise((done) => {
    const start = performance.now();
    document.querySelector("[data-do=map]")?.click();
    const look = () => document.querySelector("#view [data-do]") ? setTimeout(look, 5)
        : done(performance.now() - start);
    look();
})"""
PREDICT = """async ({url, size, count}) => {
    const worker = new Worker("scripts/worker.js", {type: "module"});
    const absolute = (path) => new URL(path, document.baseURI).href;
    const ask = (task, input) => new Promise((done, failed) => {
        worker.onmessage = ({data}) => "result" in data ? done() : data.error && failed(data.error);
        worker.postMessage({id: 1, task, model: absolute(url), ...input});
    });
    await ask("load", {runtime: absolute("runtime/ort-wasm-simd-threaded.wasm.gz")});
    const pixels = new Uint8Array(size * size * 3), times = [];
    for (let index = 0; index < count; index++) {
        const start = performance.now();
        await ask("classify", {pixels, size});
        times.push(performance.now() - start);
    }
    worker.terminate();
    return times;
}"""
HEADER = (
    *("Model", "First answer", "Later answers", "Occlusion map"),
    *("Prediction", "in Python", "Ratio", "Memory (MB)"),
)


def main(arguments: list[str]) -> None:
    """Measures each model of the page."""
    parser = output.parser("static_page", "Measures the static page in Chromium.")
    parser.add_argument("--site", type=Path, required=True, help="that deploy.py has written")
    options = parser.parse_args(arguments)
    site = options.site
    state = output.circumstances("static_page", arguments)
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        url = f"http://127.0.0.1:{server.server_port}/"
        with browser.new_page() as page:
            page.goto(url)
            models = page.evaluate("page.data.models")
        rows = [measure(browser, url, site, model) for model in models]
        state["chromium"] = browser.version
        server.shutdown()
    result = {**state, "rows": rows, **output.machine()}
    output.write("static_page", result, {"static_page.md": table(result)}, options.output)


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *arguments: object) -> None:
        """Writes nothing."""


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
                if not page.locator("[data-do=map]").count():
                    page.evaluate(MAP)  # the next answer would wait for it
            memory = max(memory, peak_megabytes(browser))
    request = {"url": model["url"], "size": model["image_size"], "count": PREDICTIONS}
    with browser.new_page() as page:
        page.goto(url)
        times = {
            "first": firsts,
            "later": laters,
            "map": maps,
            "prediction": page.evaluate(PREDICT, request),
            "python": python_predictions(site, model),
        }
    medians = {name: round(statistics.median(values), 1) for name, values in times.items()}
    ratio = round(medians["prediction"] / medians["python"], 1)
    return {"model": model["name"], **medians, "ratio": ratio, "megabytes": round(memory)}


def peak_megabytes(browser: Browser) -> float:
    """Returns the largest memory that a renderer has had, in megabytes (Linux)."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    states = [Path(f"/proc/{one['id']}/status") for one in processes if one["type"] == "renderer"]
    peaks = [re.search(r"VmHWM:\s+(\d+)", state.read_text()) for state in states]
    return max(int(peak[1]) / 1024 for peak in peaks if peak)


def python_predictions(site: Path, model: dict[str, Any]) -> list[float]:
    """Returns the milliseconds of predictions of an image in ONNX Runtime for Python."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = gzip.decompress((site / model["url"]).read_bytes())
    session = onnxruntime.InferenceSession(content, options)
    image = np.zeros((1, model["image_size"], model["image_size"], 3), np.float32)
    predict = partial(session.run, None, {"images": image})
    return [1000 * seconds for seconds in timeit.repeat(predict, number=1, repeat=PREDICTIONS)]


def table(result: dict[str, Any]) -> str:
    """Returns the table in Markdown, and how it was measured."""
    rows = [
        [row["model"], *(f"{value:.{1 if value < 50 else 0}f}" for value in [*row.values()][1:])]
        for row in result["rows"]
    ]
    return (
        f"{output.markdown(HEADER, rows, 'lrrrrrrr')}\n\nMedians in milliseconds, Chromium "
        f"{result['chromium']} from localhost, {result['machine']['cores']} cores of "
        f"{result['machine']['processor']}, load {result['load_before']} before; "
        f"{result['date']}, `{result['command']}`.\n"
    )


if __name__ == "__main__":
    sys.exit(command_line.run(main))
