"""The parts of the page that need no browser: words, names, looks, and what stands behind a tab."""

import json
import re
import shutil
from pathlib import Path
from string import Formatter
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from jinja2 import Environment

from classifier.data.images import MAX_MEGABYTES, MAX_MEGAPIXELS
from classifier.errors import ClassifierError, InputError
from classifier.model_folder.folder import ModelFolder
from classifier.prediction.classifier import rank
from classifier.prediction.confidence import Confidence, choose_threshold
from classifier.prediction.occlusion import importance, occlude, overlay
from evaluation.metrics import METRICS
from evaluation.themes import DARK, LIGHT
from interface import about, api, choose_models, classify, header, page, try_it
from interface.choose_models import choose, embedded
from interface.markup import fill
from interface.serving import Models, Served
from interface.theme import COLOURS, CSS_FILE, SCRIPT_FILES
from interface.translations import (
    LANGUAGES,
    class_name,
    class_names,
    language_of,
    number,
    percent,
    word,
    words,
)
from model_folders import make_model_folder

PROJECT = Path(__file__).resolve().parent.parent
BY_SCRIPT = {"label_number", "label_range"}  # put together by gradio_adapter.js
SOURCES = {".py", ".js", ".html"}
NOTHING = {"card_language"}  # the card is in English: there is nothing to say of it in English


def test_every_text_is_there_in_every_language() -> None:
    for key, texts in words().items():
        assert set(texts) == set(LANGUAGES), key
        assert all(text.strip() for text in texts.values()) or key in NOTHING, key


def test_every_translation_fills_in_the_same_values() -> None:
    for key, texts in words().items():
        fields = {
            language: {name for _, name, _, _ in Formatter().parse(text) if name}
            for language, text in texts.items()
        }
        assert all(found == fields["en"] for found in fields.values()), key


def test_every_tile_has_a_name_and_a_note() -> None:
    for key, metric in METRICS.items():
        if metric.tile:
            assert {f"tile_{key}", f"tile_{key}_note"} <= set(words()), key


def test_every_text_that_the_page_uses_is_in_the_table_and_none_is_idle() -> None:
    rooms = ("interface", "static_page/templates", "static_page/scripts")
    found = [path for room in rooms for path in (PROJECT / room).rglob("*")]
    files = [path for path in found if path.suffix in SOURCES]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    used = set(re.findall(r'\b(?:word|text)\(\s*["\'](\w+)["\']', code))
    assert used <= set(words())
    idle = [key for key in words() if key not in used | BY_SCRIPT and not _composed(key, code)]
    assert idle == []


def test_all_hundred_and_twenty_names_are_translated(cifar100_folder: Path) -> None:
    from classifier.data.loading import load_split

    split = load_split(str(cifar100_folder), "test")
    names = {*split.classes, *(split.superclasses or ())}
    for language in LANGUAGES:
        assert names <= set(class_names(language))
        shown = [class_name(name, language) for name in split.classes]
        assert len(set(shown)) == 100
        assert not any("_" in name for name in shown)


@pytest.mark.parametrize(
    ("wanted", "language"),
    [("es-MX", "es"), ("ES", "es"), ("en-GB", "en"), ("fr", "en"), ("", "en"), (None, "en")],
)
def test_the_language_of_a_browser_is_understood(wanted: str | None, language: str) -> None:
    assert language_of(wanted) == language


def test_numbers_are_written_as_the_language_does() -> None:
    assert percent(0.2863, "en") == "28.6%"
    assert percent(0.2863, "es") == "28,6\N{NO-BREAK SPACE}%"
    assert number(10000, "en") == "10,000"
    assert number(10000, "es") == "10\N{NO-BREAK SPACE}000"
    assert percent(None, "es") == "–"
    assert word("tile_top1_note", "en", low="1%", high="2%") == "95% interval 1% to 2%"


def test_cards_have_the_colours_of_the_figures_on_them() -> None:
    rules = CSS_FILE.read_text(encoding="utf-8")
    for variable, option, light, dark in (
        ("ink", "body_text_color", LIGHT.ink, DARK.ink),
        ("sheet", "background_fill_primary", LIGHT.background, DARK.background),
        ("blue", "link_text_color", LIGHT.main, DARK.main),
    ):
        assert f"--{variable}: var(--{option.replace('_', '-')});" in rules
        assert COLOURS[option] == (light, dark)


@pytest.mark.parametrize("size", [8, 20, 33, 64, 224])
def test_every_size_is_occluded_in_as_many_places(size: int) -> None:
    images, masks = occlude(np.full((size, size, 3), 9, np.uint8))
    assert images.shape == (len(masks), size, size, 3)
    assert len(set(masks.sum(axis=0).ravel())) == 1
    assert 64 <= len(masks) <= 144


def test_the_page_names_the_size_that_the_chosen_model_sees(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "model", size=64)
    served = Served("large", folder, "folder")
    models = cast(Models, SimpleNamespace(get=lambda name=None: served, notice=None))
    assert re.search(r"classification at 64\s×\s64\spixels", header.render(models, "en"))
    assert re.search(r"a 64\s×\s64\spíxeles", header.render(models, "es"))
    view = classify.render_view(np.zeros((64, 64, 3), np.uint8), None, "en")
    assert re.search(r"64\s×\s64", view)
    assert "64 by 64" in view


def test_the_part_that_mattered_is_found() -> None:
    """A model whose answer is the brightness of one corner: that corner matters."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[20:, 20:] = 255
    images, masks = occlude(pixels)
    found = importance(1.0, images[:, 24:, 24:].mean(axis=(1, 2, 3)) / 255, masks)
    assert found[24:, 24:].min() > 0.4
    assert np.abs(found[:16, :16]).max() < 1e-9
    layer = overlay(found)
    assert layer.shape == (32, 32, 4)
    assert layer[..., 3].max() == 255
    assert layer[0, 0, 3] == 0


def test_the_threshold_keeps_its_promise() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.2, 1.0, 5000)
    right = random.uniform(size=5000) < confidence
    probabilities = np.stack([confidence, 1 - confidence - 0.001], axis=1)
    probabilities[confidence < 0.5] = probabilities[confidence < 0.5][:, ::-1]
    answers = probabilities.argmax(axis=1)
    labels = np.where(right, answers, 1 - answers)
    found = choose_threshold(probabilities, labels, accuracy=0.8)
    assert found is not None
    sure = probabilities.max(axis=1) >= found.threshold
    assert (answers == labels)[sure].mean() == pytest.approx(found.accuracy)
    assert found.accuracy >= 0.8
    assert sure.mean() == pytest.approx(found.coverage)
    assert Confidence.read(found.to_dict()) == found


def test_no_threshold_is_stated_where_none_keeps_the_promise() -> None:
    probabilities = np.full((200, 2), 0.5)
    assert choose_threshold(probabilities, np.ones(200, int)) is None
    for nonsense in (None, {}, {"threshold": 2, "coverage": 0, "accuracy": 0, "samples": 1}, "x"):
        assert Confidence.read(nonsense) is None


@pytest.mark.parametrize(("probability", "key"), [(0.41, "sure"), (0.39, "unsure")])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_note_says_how_far_the_answer_can_be_trusted(
    tiny_model_folder: Path, tmp_path: Path, probability: float, key: str, language: str
) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "stated")
    training = json.loads((folder / "training.json").read_text())
    stated = {"threshold": 0.4, "coverage": 0.52, "accuracy": 0.71, "samples": 5000}
    (folder / "training.json").write_text(json.dumps({**training, "confidence": stated}))
    served = Served("stated", ModelFolder(folder), "folder")
    answer = np.array([probability, *[(1 - probability) / 5] * 5])
    prediction = rank(answer, served.labels, np.zeros((32, 32, 3), np.uint8), 5)
    note = classify.render_note(prediction, served, language)
    assert word(f"{key}_title", language) in note
    for share in (0.4, 0.52, 0.71):
        assert percent(share, language, 0) in note
    assert ("6" in re.findall(r"\d+", note)) == (key == "unsure")  # perhaps none of the six


def test_what_gradio_says_only_in_english_is_in_the_table() -> None:
    script = (PROJECT / "interface" / "gradio_adapter.js").read_text()
    keys = set(re.findall(r'"((?:error|label)_\w+)"', script)) | BY_SCRIPT
    given = {key for key in words() if key in page.SCRIPT_TEXTS or key.startswith("label_")}
    assert keys == given


@pytest.mark.parametrize("side", [32, 64])
def test_the_sliders_shift_turn_and_blur_images_of_any_size_in_proportion(side: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    scale = side // 32
    assert np.array_equal(try_it.corrupt(pixels, 0, 0, 0, 0), pixels)
    shifted = try_it.corrupt(pixels, 3, -2, 0, 0)
    assert np.array_equal(shifted[: -2 * scale, 3 * scale :], pixels[2 * scale :, : -3 * scale])
    assert np.array_equal(try_it.corrupt(pixels, 0, 0, 180, 0), pixels[::-1, ::-1])
    assert np.array_equal(try_it.corrupt(pixels, 0, 0, 90, 0), np.rot90(pixels, -1))  # clockwise
    assert try_it.corrupt(pixels, 0, 0, 0, 4).std() < pixels.std() / 3


def test_nonsense_for_a_slider_counts_as_nothing_or_as_the_most() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(try_it.corrupt(pixels, None, "x", float("nan"), True), pixels)
    most = try_it.corrupt(pixels, 12, -12, 180, 4)
    assert np.array_equal(try_it.corrupt(pixels, 1e9, -1e9, 1e9, 1e9), most)


def test_folders_of_the_same_name_are_told_apart(tiny_model_folder: Path, tmp_path: Path) -> None:
    for parent in ("one", "two"):
        shutil.copytree(tiny_model_folder, tmp_path / parent / "mine")
    served, notice = choose([str(tmp_path / "one" / "mine"), str(tmp_path / "two" / "mine")])
    assert [item.name for item in served] == ["mine", "mine (2)"]
    assert [item.source for item in served] == ["folder", "folder"]
    assert notice is None


def test_without_a_name_the_embedded_models_are_served_the_best_mlp_first(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    for name in ("cnn", "mlp-baseline", "mlp", "other"):
        shutil.copytree(tiny_model_folder, tmp_path / name)
    assert [item.name for item in embedded(tmp_path)] == ["mlp", "mlp-baseline", "cnn", "other"]
    assert {item.source for item in embedded(tmp_path)} == {"embedded"}
    with pytest.raises(ClassifierError, match="holds no model"):
        embedded(tmp_path / "nothing")


def test_a_folder_has_no_revision(tiny_model_folder: Path) -> None:
    with pytest.raises(InputError, match="a revision is for models on the Hub"):
        choose([str(tiny_model_folder)], "v1")


def test_a_wrong_name_in_the_environment_leaves_the_embedded_models_and_a_notice(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model_folder, tmp_path / "mlp")
    monkeypatch.setattr(choose_models, "PRETRAINED", tmp_path)
    monkeypatch.setenv("MODEL_ID", f"no such name!, {tmp_path / 'nothing'}")
    served, notice = choose()
    assert [item.name for item in served] == ["mlp"]
    assert notice is not None
    assert "no such name!" in notice
    monkeypatch.setenv("MODEL_ID", f"nothing here!, {tiny_model_folder}")
    served, notice = choose()
    assert [item.folder for item in served] == [ModelFolder(tiny_model_folder)]
    assert notice is not None


def _composed(key: str, code: str) -> bool:
    """Tells whether the code names a key otherwise, whole or put together: `f"tile_{name}"`."""
    parts = key.split("_")
    starts = ["_".join(parts[:count]) + "_{" for count in range(1, len(parts))]
    ends = ["}_" + "_".join(parts[count:]) for count in range(1, len(parts))]
    return any(piece in code for piece in (f'"{key}"', *starts, *ends))


@pytest.mark.parametrize("path", sorted((PROJECT / "interface" / "templates").iterdir()), ids=str)
def test_no_template_lets_a_value_through_unescaped(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    Environment(autoescape=True).parse(text)
    assert not re.search(r"\|\s*safe|autoescape\s+false", text)


def test_what_a_template_is_given_is_escaped_and_what_it_gave_is_not() -> None:
    inner = fill("line", "en", text="<script>alert(1)</script>")
    assert "<script>" not in inner
    assert "&lt;script&gt;" in inner
    outer = fill("matrix", "en", zoomed=[], matrix=inner)
    assert '<p class="line">&lt;script&gt;' in outer


def test_the_sections_of_a_card_fold_away_but_for_its_first_table() -> None:
    def table(rows: int, head: str = "| Setting | Value |") -> str:
        return "\n".join([head, "| --- | --- |", *(f"| a | {row} |" for row in range(rows)), ""])

    card = (
        f"# mine\n\nIt is small.\n\n## Use <it>\n\n```\n## no heading\n```\n\n"
        f"## Results\n\n{table(20, '| Metric | Value |')}\n{table(3)}\n## Settings\n\n{table(30)}"
    )
    folded = about.folded(card, "en")
    assert re.findall("<summary>(.*)</summary>", folded) == [
        "Use &lt;it&gt;",
        "Results: figures and lists",
        "Settings",
    ]
    outside = re.sub(r"<details>.*?</details>", "", folded, flags=re.DOTALL)
    assert re.findall("^#.*", outside, re.MULTILINE) == ["# mine", "## Results"]
    assert "It is small." in outside
    assert outside.rstrip().endswith(table(20, "| Metric | Value |").rstrip())
    assert table(3) in folded
    assert "</summary>\n\n```\n## no heading\n```\n\n</details>\n\n" in folded
    for plain in ("", "# mine\n", f"# mine\n\n{table(40)}"):
        assert about.folded(plain, "en").strip() == plain.strip()


def test_the_curves_of_a_card_are_those_of_its_best_and_worst_classes() -> None:
    served = Served("mlp", ModelFolder(PROJECT / "pretrained" / "mlp"), "embedded")
    card = about.render(served, "en")
    assert re.search(r'figures/precision_recall\.png\?[^"]*classes=\d', card)


def test_the_limits_of_pictures_are_written_once() -> None:
    limits = f"at most {MAX_MEGABYTES} MB and {MAX_MEGAPIXELS} megapixels"
    assert limits in api.IMAGE
    assert limits in " ".join((PROJECT / "docs" / "api.md").read_text(encoding="utf-8").split())
    table = (PROJECT / "interface" / "words.yaml").read_text(encoding="utf-8")
    assert not re.search(r"\d MB|\d mega", table)
    for language in LANGUAGES:
        assert f"{MAX_MEGABYTES} MB" in word("error_upload_limit", language)
        assert f"{MAX_MEGAPIXELS} mega" in word("error_too_many_pixels", language)
        assert not [key for key, texts in words().items() if "{max_" in texts[language]]


def test_the_scripts_of_the_page_name_no_language() -> None:
    for path in SCRIPT_FILES:
        code = path.read_text(encoding="utf-8")
        named = re.findall(r"""["'](\w\w)["']""", code)
        assert not set(named) & set(LANGUAGES) - {LANGUAGES[0]}, path.name
