"""A headless Chromium, and what is asked of every page in it."""

import contextlib
import shutil
import time
from collections.abc import Callable, Container, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 60_000  # milliseconds: the machine may be busy with other tests
PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1440, "height": 900}
AXE = Path(__file__).parent / "axe-core" / "axe.min.js"  # Deque Systems, MPL 2.0
expect.set_options(timeout=SECONDS)

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        pytest.skip(f"no browser is here: install one of {', '.join(CHROMIUMS)}")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextlib.contextmanager
def watched_pages(
    browser: Browser, address: str, kinds: Container[str] | None = None
) -> Iterator[tuple[Open, list[str]]]:
    """Yields a function that opens pages, and a list of what goes wrong in them.

    Args:
        browser: opens a context for each page.
        address: the only one that the pages may ask.
        kinds: of lines in the console that are faults; all by default.
    """
    faults: list[str] = []
    contexts = []

    def open_page(
        query: str = "", *, phone: bool = False, before: str = "", **options: object
    ) -> Page:
        options = {"viewport": PHONE if phone else DESKTOP, "locale": "en-GB", **options}
        context = browser.new_context(**options)  # type: ignore[arg-type]
        context.add_init_script(before)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SECONDS)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda line: faults.append(line.text) if kinds is None or line.type in kinds else None,
        )
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith((address, "data:", "blob:"))
                else faults.append(asked.url)
            ),
        )
        page.goto(f"{address}/{query}")
        return page

    yield open_page, faults
    for context in contexts:
        context.close()


def fits(page: Page) -> None:
    """Waits until nothing is wider than the window."""
    is_wider = "document.documentElement.scrollWidth > window.innerWidth"
    deadline = time.monotonic() + SECONDS / 1000
    while page.evaluate(is_wider) and time.monotonic() < deadline:
        page.wait_for_timeout(50)  # `wait_for_function` needs `eval`, which pages may forbid
    assert not page.evaluate(is_wider)


def look_for_barriers(page: Page, name: str) -> None:
    """Has axe-core look at what is shown, once no colour changes any more."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    page.evaluate(
        """Promise.allSettled(document.getAnimations()
            .filter((one) => one instanceof CSSTransition).map((one) => one.finished))"""
    )
    result = page.evaluate(
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})"
    )
    found = {rule["id"]: [node["html"] for node in rule["nodes"]] for rule in result["violations"]}
    assert found == {}, name
