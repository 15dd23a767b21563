"""Measures the answers of the static page in Chromium.

python -m benchmarks.static_page                    # with nothing else running on the machine
python -m benchmarks.static_page --site site        # a page that deploy.py has made

From localhost: the time from the first click on an example to its answer, later answers, and the
occlusion map.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from benchmarks import output
from benchmarks.output import PROJECT
from classifier import command_line
from classifier.hub import sources
from static_page.builder import build_site

STARTS, ANSWERS = 3, 8
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
HEADER = ("Model", "First answer", "Later answers", "Occlusion map")


def main(arguments: list[str]) -> None:
    """Measures each model of the page."""
    parser = output.parser("static_page", "Measures the static page in Chromium.")
    parser.add_argument("--site", type=Path, help="default: a page of the embedded models is made")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        site = options.site or Path(place) / "site"
        if options.site is None:
            folders = sorted(PROJECT.glob("pretrained/*/"))
            build_site([sources.locate(str(folder)) for folder in folders], site)
        state = output.circumstances("static_page", arguments)
        handler = partial(SimpleHTTPRequestHandler, directory=str(site))
        with (
            ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
            sync_playwright() as playwright,
        ):
            threading.Thread(target=server.serve_forever, daemon=True).start()
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
            url = f"http://127.0.0.1:{server.server_port}/"
            page = browser.new_page()
            page.goto(url)
            models = page.evaluate("page.data.models")
            page.close()
            rows = [measure(browser, url, model) for model in models]
            state["chromium"] = browser.version
            server.shutdown()
    result = {**state, "rows": rows, **output.machine()}
    output.write("static_page", result, {"static_page.md": table(result)}, options.output)


def measure(browser: Browser, url: str, model: dict[str, Any]) -> dict[str, Any]:
    """Returns the medians of a model, in milliseconds."""
    firsts, laters, maps = [], [], []
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
    times = {"first": firsts, "later": laters, "map": maps}
    medians = {name: round(statistics.median(values)) for name, values in times.items()}
    return {"model": model["name"], **medians}


def table(result: dict[str, Any]) -> str:
    """Returns the table in Markdown, and how it was measured."""
    rows = [[str(value) for value in row.values()] for row in result["rows"]]
    return (
        f"{output.markdown(HEADER, rows, 'lrrr')}\n\nMedians in milliseconds, Chromium "
        f"{result['chromium']} from localhost; {result['date']}, load "
        f"{result['load_before']}, `{result['command']}`.\n"
    )


if __name__ == "__main__":
    sys.exit(command_line.run(main))
