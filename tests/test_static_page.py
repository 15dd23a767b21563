"""The static page: what its builder writes, and its tabs in a real headless Chromium."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from playwright.sync_api import Page, expect

from chromium import Open, fits, look_for_barriers
from classifier.errors import InputError
from classifier.hub.pulling import ResolvedModel
from classifier.model_folder.folder import ModelFolder
from classifier.prediction.classifier import Classifier, keras_predict
from model_folders import CLASSES, LABELS, make_model_folder
from static_page.builder import CONTENTS, build_site

TABS = ("classify", "try", "evaluation", "compare", "about")
INSIDE = ("#picture", "#tab-try h2", "#matrix", "#compare", "#card")
FIRST_LOAD = 200_000  # bytes
# Every pair of a language, a size and an appearance is there once.
PAIRWISE = [
    ("en", False, "light"),
    ("en", True, "dark"),
    ("es", False, "dark"),
    ("es", True, "light"),
]


def page_data(site: Path) -> dict:
    """Returns what the page tells its scripts."""
    text = (site / "index.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', text)
    assert found is not None
    return json.loads(found[1])


def addresses(text: str) -> list[str]:
    """Returns what the elements of a page load."""
    loaded = re.findall(r'<(?!a\b)[^>]*?\s(?:src|srcset|href)="([^"]*)"', text)
    return [name for name in loaded if name not in ("", "#")]  # those that scripts fill in


def tab(page: Page, name: str) -> None:
    page.locator(f"#tabs [role=tab][data-tab-id={name}]").click()


def test_every_address_in_the_page_is_a_file_of_it(site: Path) -> None:
    pages = [*site.glob("*.html"), *site.glob("tabs/**/*.html")]
    assert len(pages) == 1 + 2 + 2 * (2 * 2) + 2 * 2  # the second model is not evaluated
    for path in pages:
        text = path.read_text(encoding="utf-8")
        for name in addresses(text):
            assert (site / name).is_file(), (path, name)
    links = re.findall(r'<a\b[^>]*?href="([^"]*)"', "".join(map(Path.read_text, pages)))
    for name in links:
        elsewhere = not name or name.startswith(("https://", "?"))  # "" is filled in by scripts
        assert elsewhere or (site / name).is_file(), name


def test_the_scripts_have_all_texts_that_they_name(site: Path) -> None:
    texts = page_data(site)["texts"]
    assert texts["en"].keys() == texts["es"].keys()
    script = "".join(path.read_text(encoding="utf-8") for path in site.glob("scripts/*.js"))
    page = (site / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'\btext\("(\w+)"', script) + re.findall(
        r'data-(?:text|label)="(\w+)"', page
    )
    assert len(named) > 10
    assert set(named) <= texts["en"].keys()


def test_the_curves_have_the_areas_of_the_evaluation(site: Path) -> None:
    page = next(site.glob("tabs/*/tiny/curves-en.html")).read_text(encoding="utf-8")
    evaluation = ModelFolder(site.parent / "tiny").evaluation
    assert evaluation is not None
    for kind, area in (("precision_recall", "average_precision"), ("roc", "roc_auc")):
        drawing = page[page.index(f'data-when="curve={kind}"') :].partition("</svg>")
        for index, row in enumerate(evaluation["per_class"]):
            pattern = rf'<path data-when="curves={index}" d="M(\d+) (\d+)l([^"]*)"'
            found = re.search(pattern, drawing[0])
            assert found is not None
            steps = np.array(found[3].split(), int).reshape(-1, 2)
            x, y = np.cumsum([[int(found[1]), int(found[2])], *steps], axis=0).T / 100
            assert abs(np.trapezoid(1 - y, x)) == pytest.approx(row[area], abs=0.05)
            assert f'<span class="value">{row[area]:.3f}</span> {row["name"]}<' in drawing[2]


def test_the_models_of_the_page_answer_as_keras_does(site: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 48, 48, 3)).astype(np.float32)
    folder = ModelFolder(site.parent / "large")
    model = page_data(site)["models"][1]
    session = onnxruntime.InferenceSession(gzip.decompress((site / model["url"]).read_bytes()))
    answers = session.run(None, {"images": images})[0]
    expected = Classifier(keras_predict(folder.load_model()), folder).probabilities(
        images.astype(np.uint8)
    )
    np.testing.assert_allclose(answers, expected, atol=1e-2)


def test_a_model_with_a_layer_that_onnx_lacks_is_refused_by_name(tmp_path: Path) -> None:
    import keras

    images = keras.Input((32, 32, 3))
    hidden = keras.layers.UnitNormalization(name="unit")(keras.layers.Flatten()(images))
    model = keras.Model(images, keras.layers.Dense(6, activation="softmax")(hidden))
    model.save(tmp_path / "odd", zipped=False)
    LABELS.write(tmp_path / "odd")
    folder = ModelFolder(tmp_path / "odd")
    with pytest.raises(InputError, match=r"^odd cannot become a static page: .*UnitNormalization"):
        build_site([ResolvedModel("odd", folder, "folder")], tmp_path / "site")


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    found = ResolvedModel("tiny", make_model_folder(tmp_path / "tiny"), "folder")
    with pytest.raises(InputError, match="same name"):
        build_site([found, found], tmp_path / "site")


def test_a_page_is_replaced_only_if_it_holds_nothing_else(site: Path) -> None:
    assert {path.name for path in site.iterdir()} <= CONTENTS


def test_a_model_of_other_images_has_a_page_of_its_own(tmp_path: Path) -> None:
    """Without superclasses, and with a card that refers to files that are not there."""
    classes = json.loads((make_model_folder(tmp_path / "own").path / "labels.json").read_text())
    known = {"dataset": "pets", "classes": classes["classes"]}
    (tmp_path / "own" / "labels.json").write_text(json.dumps(known))
    card = "# Pets\n\n[data](downloads/x.csv) ![](figures/y.png) data:image/png;base64,abc …\n"
    (tmp_path / "own" / "README.md").write_text(card)
    folder = ModelFolder(tmp_path / "own")
    build_site([ResolvedModel("own", folder, "folder")], tmp_path / "site")
    (tabs,) = tmp_path.glob("site/tabs/*/own")
    matrix = (tabs / "evaluation-en.html").read_text().partition('id="matrix"')[2]
    assert not matrix.split("<img")[0].count("data-when")
    about = (tabs / "about-en.html").read_text()
    assert "downloads/x" not in about
    assert "figures/y" not in about
    assert "data:image/png;base64,abc …" in about
    assert "6 classes" in page_data(tmp_path / "site")["heads"]["own"]["en"]


def test_a_card_cannot_put_elements_into_the_page(site: Path, tmp_path: Path) -> None:
    from interface.serving import Models, Served
    from static_page.tabs import render_about

    folder = make_model_folder(tmp_path / "tiny")
    (folder.path / "README.md").write_text(
        "# Card\n\n<img src=x> <b onclick=x>\n\n## More\n\ntext\n"
    )
    served_model = Served("tiny", folder, "folder")
    models = Models([served_model])
    text = render_about(models, served_model, "en")
    models.stop()
    assert "&lt;img src=x&gt;" in text
    assert "<b " not in text
    assert "<details><summary>More</summary>" in text


@pytest.mark.browser
def test_the_first_load_is_small_and_complete_without_a_click(open_site: Open) -> None:
    page = open_site("?__theme=light")
    page.wait_for_load_state("networkidle")
    sizes = page.evaluate(
        "performance.getEntries().filter((one) => 'decodedBodySize' in one)"
        ".map((one) => one.decodedBodySize)"
    )
    assert len(sizes) > 5
    assert sum(sizes) < FIRST_LOAD
    expect(page.locator("h1")).to_contain_text("32 × 32")


@pytest.mark.browser
@pytest.mark.parametrize(("language", "phone", "theme"), PAIRWISE)
def test_every_tab_is_accessible_and_fits(
    open_site: Open, language: str, phone: bool, theme: str
) -> None:
    page = open_site(f"?lang={language}&__theme={theme}&zoom=1", phone=phone)
    expect(page.locator("html")).to_have_attribute("lang", language)
    for name, inside in zip(TABS, INSIDE, strict=True):
        tab(page, name)
        expect(page.locator(inside)).to_be_visible()
        if name == "evaluation":
            expect(page.locator("section.one-class:visible")).to_have_count(1)
        page.evaluate("document.querySelectorAll('#card details').forEach((d) => d.open = true)")
        fits(page)
        look_for_barriers(page, name)


@pytest.mark.browser
def test_the_language_is_switched_in_place_and_kept_in_the_address(open_site: Open) -> None:
    page = open_site("?tab=evaluation")
    expect(page.locator("#headline h2")).to_have_text("Accuracy")
    page.locator("[data-language=es]").click()
    expect(page.locator("#headline h2")).to_have_text("Exactitud")
    expect(page.locator("h1")).to_contain_text("Clasificación")
    expect(page.locator("[data-tab-id=compare]")).to_have_text("Comparar")
    expect(page.locator("[data-language=es]")).to_be_focused()
    expect(page).to_have_title(re.compile("Clasificación"))
    expect(page).to_have_url(re.compile("lang=es"))
    page.reload()
    expect(page.locator("#headline h2")).to_have_text("Exactitud")


@pytest.mark.browser
def test_the_browsers_language_and_theme_are_the_default(open_site: Open) -> None:
    page = open_site(locale="es-MX")
    expect(page.locator("html")).to_have_attribute("lang", "es")
    expect(page.locator("body.dark")).to_have_count(0)
    page.locator("[data-appearance]").click()
    expect(page.locator("body.dark")).to_have_count(1)
    expect(page).to_have_url(re.compile("__theme=dark"))
    page.reload()
    expect(page.locator("body.dark")).to_have_count(1)


@pytest.mark.browser
def test_a_model_is_chosen_for_all_tabs(open_site: Open) -> None:
    page = open_site("?tab=evaluation")
    expect(page.locator("#headline .tile").first).to_contain_text("83.3%")
    page.locator("#model input[value='user/large']").check()
    expect(page.locator("#headline")).to_contain_text("Not evaluated")
    expect(page.locator("#head .facts")).to_contain_text("user/large")
    expect(page.locator("h1")).to_contain_text("48 × 48")
    tab(page, "about")
    expect(page.locator(".sources")).to_contain_text("c0ffee")
    page.reload()
    expect(page.locator("#model input[value='user/large']")).to_be_checked()
    expect(page.locator("#card")).to_be_visible()


@pytest.mark.browser
def test_tabs_are_entries_of_the_history_and_open_with_the_keyboard(open_site: Open) -> None:
    page = open_site()
    page.locator("[data-tab-id=classify]").focus()
    page.keyboard.press("ArrowLeft")  # from the first to the last
    expect(page.locator("[data-tab-id=about]")).to_be_focused()
    expect(page.locator("#card")).to_be_visible()
    page.keyboard.press("Home")
    expect(page.locator("#picture")).to_be_visible()
    page.go_back()
    expect(page.locator("#card")).to_be_visible()
    page.locator("[data-language=es]").click()
    page.reload()
    page.go_back()  # to the first tab; the language stays
    expect(page.locator("#picture")).to_be_visible()
    expect(page).to_have_url(re.compile("lang=es"))
    expect(page.locator("html")).to_have_attribute("lang", "es")


@pytest.mark.browser
def test_choices_on_the_evaluation_tab_are_kept_in_the_address(open_site: Open) -> None:
    page = open_site("?tab=evaluation&curve=roc")
    expect(page.locator("#curves svg[aria-label^='ROC']:visible")).to_have_count(1)
    page.locator("input[name=level][value=superclass]").check()
    expect(page.locator("#matrix img[alt*='superclass']:visible")).to_have_count(1)
    page.locator("#zoom").select_option(label="apple")
    expect(page.locator(".one-class h3:visible")).to_have_text("Confusions of “apple”")
    expect(page.locator(".zoomed:visible tbody th")).to_have_text(["apple", "fox"])
    expect(page.locator(".zoomed:visible tbody td")).to_have_text(["100", "", "100", ""])
    page.reload()
    expect(page.locator(".one-class h3:visible")).to_have_text("Confusions of “apple”")
    expect(page.locator("#matrix img[alt*='superclass']:visible")).to_have_count(1)
    page.locator("#zoom").select_option("-1")
    expect(page.locator(".one-class h3:visible")).to_have_count(0)
    expect(page).not_to_have_url(re.compile("zoom"))


@pytest.mark.browser
def test_the_curves_of_the_chosen_classes_are_shown(open_site: Open) -> None:
    page = open_site("?tab=evaluation&curve=roc&curves=0,5,77")
    shown = page.locator("#curves .series li:visible")
    expect(shown).to_have_text([re.compile("apple"), re.compile("fox")])
    page.locator("#curve-classes").click()
    group = page.locator("[data-most]")
    group.evaluate("group => { group.dataset.most = 3 }")
    group.get_by_label("cloud").check()
    expect(shown).to_have_count(3)
    expect(page.locator("#curves .series path:visible")).to_have_count(3)
    expect(group.get_by_label("bridge")).to_be_disabled()
    page.reload()
    expect(shown).to_have_count(3)
    page.locator("#curve-classes").click()
    for name in CLASSES:  # all are drawn when nothing is chosen: the best and the worst
        group.get_by_label(name).check()
    expect(page).not_to_have_url(re.compile("curves"))


@pytest.mark.browser
def test_the_table_of_the_classes_is_sorted_and_filtered(open_site: Open) -> None:
    page = open_site("?tab=evaluation")
    rows = page.locator("table.classes tbody tr:visible th")
    expect(rows).to_have_text(list(CLASSES))
    head = page.locator("table.classes thead button").first
    head.click()
    head.click()
    expect(rows).to_have_text(sorted(CLASSES, reverse=True))
    page.locator("[data-search]").fill("phi")
    expect(rows).to_have_text(["dolphin"])


@pytest.mark.browser
def test_without_javascript_the_figures_are_shown(open_site: Open) -> None:
    page = open_site(java_script_enabled=False)
    expect(page.locator("noscript img:visible")).not_to_have_count(0)
    expect(page.locator("#picture")).to_be_hidden()
    loaded = page.locator("noscript img:visible").first
    loaded.scroll_into_view_if_needed()
    assert loaded.get_attribute("src")


@pytest.mark.browser
def test_a_tab_that_cannot_be_loaded_says_so_and_is_tried_again(open_site: Open) -> None:
    page = open_site()
    page.route("**/tabs/**", lambda route: route.fulfill(body=""))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    tab(page, "compare")
    expect(page.locator("#tab-compare .notice")).to_contain_text("no connection")
    page.wait_for_timeout(300)
    assert len([url for url in asked if "/tabs/" in url]) == 1
    page.unroute("**/tabs/**")
    tab(page, "about")
    tab(page, "compare")
    expect(page.locator("#compare")).to_be_visible()
