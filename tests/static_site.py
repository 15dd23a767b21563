"""A static page of tiny models, and a server of plain files for it."""

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request

from chromium import DESKTOP, PHONE, SECONDS
from classifier.hub.pulling import ResolvedModel
from classifier.model_folder.folder import EVALUATION, PREDICTIONS
from model_folders import make_model_folder

Open = Callable[..., Page]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of `tiny`, and of `user/large` from the Hub: of 48 pixels, and not evaluated."""
    from static_page.builder import build_site

    place = tmp_path_factory.mktemp("static")
    tiny = make_model_folder(place / "tiny")
    large = make_model_folder(place / "large", units=9, size=48)
    for record in (EVALUATION, PREDICTIONS):
        (large.path / record).unlink()
    models = [
        ResolvedModel("tiny", tiny, "folder"),
        ResolvedModel("user/large", large, "hub", "c0ffee" + 34 * "0"),
    ]
    build_site(models, place / "site")
    return place / "site"


@pytest.fixture(scope="module")
def site_address(site: Path) -> Iterator[str]:
    with served(site) as url:
        yield url


@pytest.fixture
def open_site(site_address: str, browser: Browser) -> Iterator[Open]:
    """Opens the page; when the test ends, nothing went wrong in it and nobody else was asked.

    Its options: the browser's `locale`, `phone` for a small window, `scripts` for JavaScript, and
    `before`, a script that runs before those of the page.
    """
    faults: list[str] = []
    contexts: list[BrowserContext] = []

    def note(request: Request) -> None:
        if not request.url.startswith((site_address, "data:", "blob:")):
            faults.append(request.url)

    def open_page(
        query: str = "",
        *,
        locale: str = "en-GB",
        phone: bool = False,
        scripts: bool = True,
        before: str = "",
    ) -> Page:
        context = browser.new_context(
            viewport=PHONE if phone else DESKTOP, locale=locale, java_script_enabled=scripts
        )
        contexts.append(context)
        context.add_init_script(before)
        page = context.new_page()
        page.set_default_timeout(SECONDS)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text))
        page.on("request", note)
        page.goto(f"{site_address}/{query}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serves a folder as `python -m http.server` does; yields its address."""
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Writes nothing: the tests' output is about the tests."""
