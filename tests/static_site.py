"""A static page of tiny models, and a server of plain files for it."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from chromium import Open, watched_pages
from classifier.hub.pulling import ResolvedModel
from classifier.model_folder.folder import EVALUATION, PREDICTIONS
from model_folders import make_model_folder


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
    """Opens the page; when the test ends, nothing went wrong in it and nobody else was asked."""
    with watched_pages(browser, site_address) as (open_page, faults):
        yield open_page
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
