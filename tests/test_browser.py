"""The app in a real headless Chromium: every tab, in both languages, sizes and appearances."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from app_server import RunningApp
from chromium import DESKTOP, SECONDS, Open, fits, look_for_barriers, watched_pages
from pictures import encoded, scene

pytestmark = pytest.mark.browser
TABS = {
    "en": ("Classify", "Try it", "Evaluation", "Compare", "About"),
    "es": ("Clasificar", "Pruébalo", "Evaluación", "Comparar", "Ficha"),
}
OPEN_CARD = "document.querySelectorAll('#card details').forEach((d) => d.open = true)"
INSIDE = ("#picture", "#answers", "#matrix", "#compare", "#card")

ANYTHING = re.compile("")

# What Gradio's client says of the questions of a page that is left while they are under way.
ABANDONED = re.compile("^AbortError|Connection errored out")

# Messages are closed after these milliseconds: here by a click alone, as the machine may be busy.
KEEP_MESSAGES = """
const later = window.setTimeout;
window.setTimeout = (call, time, ...rest) => later(call, time === 10000 ? 2 ** 30 : time, ...rest);
"""


@pytest.fixture
def opened(browser: Browser, app: RunningApp) -> Iterator[Open]:
    """Opens the page; when the test ends, nothing went wrong in it and nobody else was asked."""
    left: list[Page] = []

    def open_app(query: str = "", **options: object) -> Page:
        page = open_page(query, before=KEEP_MESSAGES, **options)
        page.on("load", lambda page: left.append(page))
        expect(page.locator("#tabs")).to_be_visible(timeout=SECONDS)
        return page

    with watched_pages(browser, app.url, ("error", "warning")) as (open_page, faults):
        yield open_app
    assert [fault for fault in faults if not (left and ABANDONED.search(fault))] == []


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photographs") / "scene.jpg"
    path.write_bytes(encoded(scene(900, 600), "JPEG"))
    return path


def choose(page: Page, path: Path) -> None:
    """Uploads a picture."""
    page.locator("#picture input[type=file]").first.set_input_files(path)


def tab(page: Page, name: str) -> None:
    """Opens a tab."""
    page.get_by_role("tab", name=name).locator("visible=true").click()
    if name in (TABS["en"][2], TABS["es"][2]):  # the first answer sets all choices there
        expect(page.locator("#headline .tile").first).to_be_visible()


def size(image: Locator) -> list[int]:
    """Returns the width and the height of an image in its pixels, once it has come."""
    return image.evaluate(
        "image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])"
    )


def has_address(page: Page, part: str) -> None:
    """Waits until the address of the page has this part."""
    expect(page).to_have_url(re.compile(re.escape(part)))


def test_an_upload_is_answered_without_a_click(opened: Open, photograph: Path) -> None:
    page = opened()
    choose(page, photograph)
    expect(page.locator("#answer .confidence-set")).to_have_count(5, timeout=SECONDS)
    expect(page.locator("#answer")).to_contain_text("%")
    expect(page.locator(".superclasses li")).not_to_have_count(0)
    seen = page.locator(".view img.pixels").first
    assert size(seen) == [32, 32]
    assert seen.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"


def test_a_refused_file_is_told_once_and_the_next_one_is_answered(
    opened: Open, photograph: Path, tmp_path: Path
) -> None:
    page = opened()
    bad = tmp_path / "text.jpg"
    bad.write_text("no picture")
    for time in range(3):
        if time:
            page.get_by_role("button", name="Remove Image").click()
            expect(page.locator("#details .waiting")).to_be_visible()
        with all_answered(page):
            choose(page, bad)
        expect(page.locator("#details .refused")).to_be_visible()
        expect(page.get_by_test_id("toast-body")).to_contain_text("not a supported image")
        assert page.get_by_test_id("toast-body").inner_text().count("not a supported image") == 1
    tab(page, "Try it")
    expect(page.locator("#answers")).to_contain_text("not a supported image")
    with all_answered(page):
        page.locator("#try-turn input[type=range]").fill("90")
    assert page.get_by_test_id("toast-body").inner_text().count("not a supported image") == 1
    tab(page, "Classify")
    page.get_by_role("button", name="Remove Image").click()
    choose(page, photograph)
    expect(page.locator("#answer .confidence-set")).to_have_count(5, timeout=SECONDS)


def test_a_picture_that_is_chosen_while_another_is_refused_is_answered(
    opened: Open, tmp_path: Path
) -> None:
    page = opened()
    slow = tmp_path / "cut.png"
    slow.write_bytes(encoded(Image.new("RGBA", (7000, 7000), "red"), "PNG")[:-100])
    with page.expect_request("**/queue/join*"):
        choose(page, slow)
    page.get_by_role("button", name="lions").click()
    expect(page.locator("#answer .confidence-set")).to_have_count(5, timeout=SECONDS)
    expect(page.locator("#details .refused")).to_have_count(0)
    has_address(page, "example=lion")
    page.get_by_role("button", name="Remove Image").click()
    expect(page).not_to_have_url(re.compile("example="))


@pytest.mark.parametrize("name", ["photograph.mpo", "photograph.txt"])
def test_the_content_of_a_file_decides_and_not_its_name(
    opened: Open, tmp_path: Path, name: str
) -> None:
    page = opened()
    file = tmp_path / name
    file.write_bytes(encoded(scene(), "JPEG"))
    expect(page.locator("#picture input[type=file]")).not_to_have_attribute("accept", ANYTHING)
    choose(page, file)
    expect(page.locator("#answer .confidence-set")).to_have_count(5)


@contextlib.contextmanager
def all_answered(page: Page) -> Iterator[None]:
    """Waits, at its end, so long that a second message would have come: a fixed time.

    Gradio closes its stream of answers without an event that could be waited for.
    """
    yield
    page.wait_for_timeout(1500)


def test_a_switch_changes_the_language_and_the_address_keeps_it(opened: Open) -> None:
    page = opened()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Image classification")
    page.get_by_role("link", name="Español").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Clasificación de imágenes")
    has_address(page, "lang=es")
    page.get_by_role("link", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Image classification")


def test_a_switch_changes_the_appearance_and_the_address_keeps_it(opened: Open) -> None:
    page = opened("?__theme=light")
    page.get_by_role("button", name="Switch between light and dark").click()
    expect(page.locator("body")).to_have_class(re.compile("dark"))
    has_address(page, "__theme=dark")
    page.reload()
    expect(page.locator("body")).to_have_class(re.compile("dark"))


def test_the_gallery_shows_what_was_got_wrong(opened: Open) -> None:
    page = opened("?lang=es", phone=True)
    tab(page, "Evaluación")
    items = page.locator("ul.mistakes li")
    expect(items).not_to_have_count(0)
    every = items.count()
    picture = items.locator("img").first
    assert size(picture) == [32, 32]
    assert picture.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"
    page.locator("#mistakes-class input").click()
    page.get_by_role("option", name="nube").click()
    expect(items).not_to_have_count(every)
    expect(items.filter(has_not=page.locator("strong", has_text="nube"))).to_have_count(0)


def test_the_model_is_evaluated_again_before_the_visitors_eyes(opened: Open) -> None:
    page = opened(phone=True)
    tab(page, "Evaluation")
    published = page.locator(".tile.wide dd").first.inner_text()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#rerun")).to_contain_text("All 60 images classified")
    measured = page.locator("#rerun .tile").first
    expect(measured).to_contain_text(published)
    expect(measured).to_contain_text("95% interval")
    expect(page.locator("#rerun")).to_contain_text("60 of 60 predictions match")
    expect(page.locator("#rerun progress")).to_have_js_property("position", 1)
    expect(page.locator("#rerun-start")).to_be_enabled()
    expect(page.locator("#rerun-stop")).to_be_disabled()
    page.locator("#model input").last.check()
    expect(page.locator("#rerun .tile")).to_have_count(0)


def test_the_address_brings_back_the_evaluation_and_the_opacity(opened: Open) -> None:
    page = opened()
    page.get_by_role("button", name="lions").click()
    page.locator("[data-opacity]").fill("20")
    tab(page, "Evaluation")
    page.get_by_role("radio", name="Superclasses").check()
    page.get_by_label("Zoom to class").click()
    page.get_by_role("option", name="fox").click()
    page.get_by_role("radio", name="ROC").check()
    page.locator("#mistakes-class input").click()
    page.get_by_role("option", name="cloud").click()
    for kept in ("opacity=20", "level=superclass", "zoom=5", "curve=roc"):
        page.wait_for_function("kept => window.location.search.includes(kept)", arg=kept)
    page.wait_for_function("window.location.search.includes('mistakes=2')")
    page.goto(page.url)
    expect(page.get_by_role("radio", name="Superclasses")).to_be_checked()
    expect(page.locator("#zoom input")).to_have_value("fox")
    expect(page.get_by_role("radio", name="ROC")).to_be_checked()
    expect(page.locator("#curves img").first).to_have_attribute("src", re.compile("roc.png"))
    expect(page.locator("#matrix img").last).to_have_attribute("src", re.compile("/superclass_"))
    expect(page.locator("#mistakes-class input")).to_have_value("cloud")
    others = page.locator("ul.mistakes li").filter(has_not=page.locator("strong", has_text="cloud"))
    expect(others).to_have_count(0)
    tab(page, "Classify")
    expect(page.locator("[data-opacity]")).to_have_value("20")
    expect(page.locator(".view .layer")).to_have_css("opacity", "0.2")


def test_on_a_phone_the_answer_comes_into_view(opened: Open) -> None:
    page = opened(phone=True)
    page.get_by_role("button", name="lions").click()
    expect(page.locator("#answer .confidence-set")).to_have_count(5)
    expect(page.locator("#answer h2")).to_be_in_viewport()


def test_arrows_home_and_end_move_between_the_tabs(opened: Open) -> None:
    page = opened()
    selected = page.locator("#tabs [role=tab][aria-selected=true]")
    page.get_by_role("tab", name="Classify").focus()
    for key, name in (
        ("ArrowRight", "Try it"),
        ("ArrowRight", "Evaluation"),
        ("End", "About"),
        ("ArrowRight", "Classify"),
        ("ArrowLeft", "About"),
        ("Home", "Classify"),
    ):
        page.keyboard.press(key)
        expect(selected).to_have_text(name)
        expect(page.get_by_role("tab", name=name)).to_be_focused()
        expect(page.locator("#tabs [role=tab][tabindex='0']")).to_have_text([name])
        panel = page.locator(f"#{selected.get_attribute('aria-controls')}")
        expect(panel).to_have_attribute("aria-labelledby", selected.get_attribute("id") or "")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") != "tab"


def test_each_tab_is_a_step_of_the_browsers_history(opened: Open) -> None:
    page = opened("?tab=compare")
    selected = page.locator("#tabs [role=tab][aria-selected=true]")
    expect(selected).to_have_text("Compare")
    tab(page, "Evaluation")
    page.get_by_role("radio", name="ROC").check()
    page.wait_for_function("window.location.search.includes('curve=roc')")
    tab(page, "Classify")
    expect(page).not_to_have_url(re.compile("tab="))
    page.go_back()
    expect(selected).to_have_text("Evaluation")
    page.go_back()
    expect(selected).to_have_text("Compare")
    # What is chosen on another tab still stands there, and so it does in the address.
    has_address(page, "tab=compare")
    has_address(page, "curve=roc")
    page.go_forward()
    expect(selected).to_have_text("Evaluation")
    page.get_by_role("tab", name="Evaluation").click()  # no step: it is open already
    page.get_by_role("link", name="Español").click()  # nor is this
    expect(selected).to_have_text("Evaluación")
    page.go_back()
    expect(selected).to_have_text("Comparar")


def test_a_page_without_javascript_says_so_in_both_languages(
    browser: Browser, app: RunningApp
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(app.url)
    for language, text in (("en", "This page needs"), ("es", "Esta página necesita")):
        said = page.locator(f"noscript p[lang={language}]")
        expect(said).to_contain_text(f"{text} JavaScript")
        expect(said).to_be_in_viewport()
    context.close()


def test_on_a_phone_figures_have_a_narrow_form_and_nothing_is_swiped(opened: Open) -> None:
    page = opened("?zoom=1", phone=True)
    for name, inside in (("Evaluation", "#matrix"), ("Compare", "#compare"), ("About", "#card")):
        tab(page, name)
        expect(page.locator(inside)).to_be_visible()
        if name == "About":
            expect(page.locator("#card summary").first).to_be_visible()  # the card has arrived
            page.evaluate(OPEN_CARD)
        for image in page.locator("figure.plot img:visible").all():
            image.scroll_into_view_if_needed()
            assert size(image)[0] > 500
            assert "form=narrow" in image.evaluate("image => image.currentSrc")
        for figure in page.locator("figure.plot:visible, #compare .scroll:visible").all():
            assert figure.evaluate("figure => figure.scrollWidth <= figure.clientWidth")
    page.set_viewport_size(DESKTOP)
    image = page.locator("#card figure.plot img:visible").first
    page.wait_for_function(
        "image => !image.currentSrc.includes('narrow')", arg=image.element_handle()
    )


def test_the_page_is_used_with_the_keyboard_alone(opened: Open) -> None:
    page = opened()
    page.locator("#example-lion").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#answer .confidence-set")).to_have_count(5)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "example-bus"
    page.get_by_role("radio", name="twin").focus()
    page.keyboard.press("Space")
    expect(page.locator(".facts")).to_contain_text("twin")
    page.get_by_role("tab", name="Try it").locator("visible=true").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".answers .model")).to_have_count(2)
    before = page.locator(".seen img").get_attribute("src") or ""
    page.locator("#try-turn input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".seen img")).not_to_have_attribute("src", before)
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.get_by_role("tab", name="Evaluation").locator("visible=true").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#matrix img").first).to_have_attribute("src", re.compile("model=twin"))
    page.locator("#zoom input").focus()
    page.keyboard.type("eleph")
    page.keyboard.press("Enter")
    expect(page.locator("#matrix img").first).to_have_attribute(
        "src", re.compile("class_confusions.*classes=4")
    )
    page.get_by_role("button", name="F1").focus()
    page.keyboard.press("Enter")
    expect(page.locator("table.classes th[aria-sort=descending]")).to_contain_text("F1")


def test_the_table_of_classes_is_sorted_and_searched(opened: Open) -> None:
    page = opened()
    tab(page, "Evaluation")
    rows = page.locator("table.classes tbody tr:not([hidden])")
    expect(rows).to_have_count(6)
    page.get_by_role("button", name="Class", exact=True).click()
    expect(rows.first).to_contain_text("apple")
    page.get_by_role("button", name="F1").click()
    shares = [float(cell.rstrip("%")) for cell in rows.locator("td:nth-child(6)").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    page.get_by_label("Search the classes").first.fill("ELEPH")
    expect(rows).to_have_count(1)


def test_the_figures_can_be_taken_away(opened: Open) -> None:
    page = opened()
    tab(page, "Evaluation")
    for name, start in (("evaluation.json", b"{"), ("classes as CSV", b"name"), ("ZIP", b"PK")):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        assert download.value.path().read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("language", "phone", "theme"),
    [
        ("en", False, "light"),
        ("es", True, "dark"),
        pytest.param("en", False, "dark", marks=pytest.mark.slow),
        pytest.param("es", True, "light", marks=pytest.mark.slow),
    ],
)
def test_axe_finds_no_barrier_on_any_tab(
    opened: Open, photograph: Path, theme: str, language: str, phone: bool
) -> None:
    page = opened(f"?lang={language}&__theme={theme}&zoom=1", phone=phone)
    assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
    look_for_barriers(page, "nothing chosen")
    choose(page, photograph)
    expect(page.locator(".view .layer")).to_be_visible(timeout=SECONDS)
    expect(page.locator("#others li")).to_have_count(2)
    for name, inside in zip(TABS[language], INSIDE, strict=True):
        tab(page, name)
        expect(page.locator(inside)).to_be_visible()
        fits(page)
        if inside == "#matrix":
            assert size(page.locator(f"#matrix .only-{theme} img").first)[0] > 500
            expect(page.locator("ul.mistakes li")).not_to_have_count(0)
            page.locator("#rerun-start").click()
            expect(page.locator("#rerun .tile")).to_have_count(2)
            expect(page.locator("#rerun-start")).to_be_enabled()
        page.evaluate(OPEN_CARD)
        look_for_barriers(page, name)
