"""The parts of the page that need no browser: words, names, looks, and what stands behind a tab."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from string import Formatter

import numpy as np
import pytest
from jinja2 import Environment

from classifier.errors import ClassifierError
from classifier.model_folder.folder import ModelFolder
from classifier.prediction.classifier import rank
from classifier.prediction.confidence import Confidence, choose_threshold
from classifier.prediction.occlusion import importance, occlude, overlay
from evaluation.metrics import METRICS
from hub_server import Hub, files_of
from interface import choose_models, classify, try_it
from interface.choose_models import choose, embedded
from interface.following import followers
from interface.markup import fill
from interface.serving import Models, Served
from interface.translations import LANGUAGES, class_names, locale, word, words

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
        shown = [locale(language).name(name) for name in split.classes]
        assert len(set(shown)) == 100
        assert not any("_" in name for name in shown)


def test_numbers_are_written_as_the_language_does() -> None:
    assert locale("en").percent(0.2863) == "28.6%"
    assert locale("es").percent(0.2863) == "28,6\N{NO-BREAK SPACE}%"
    assert locale("en").number(10000) == "10,000"
    assert locale("es").number(10000) == "10\N{NO-BREAK SPACE}000"
    assert locale("es").percent(None) == "–"
    assert word("tile_top1_note", "en", low="1%", high="2%") == "95% interval 1% to 2%"


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
    assert Confidence.read(dataclasses.asdict(found)) == found


def test_no_threshold_is_stated_where_none_keeps_the_promise() -> None:
    probabilities = np.full((200, 2), 0.5)
    assert choose_threshold(probabilities, np.ones(200, int)) is None
    for nonsense in (
        None,
        {},
        {"threshold": "high", "coverage": 0, "accuracy": 0, "samples": 1},
        "x",
    ):
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
        assert locale(language).percent(share, 0) in note
    assert ("6" in re.findall(r"\d+", note)) == (key == "unsure")  # perhaps none of the six


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


def test_a_model_is_followed_on_the_branch_that_its_source_names(
    hub: Hub, tiny_model_folder: Path
) -> None:
    repository = hub.create("models", "user/tiny")
    files = files_of(tiny_model_folder)
    repository.branches["next"] = hub.put(repository, files).sha
    models = Models(*choose(["user/tiny@next"]))
    try:
        models.runtime.start()
        (follower,) = followers(models, 60)
        hub.put(repository, {"README.md": b"of main"})
        assert not follower.look()
        newer = hub.put(repository, {"README.md": b"of next"}, branch="next")
        assert follower.look()
        assert (models.get().name, models.get().revision) == ("user/tiny", newer.sha)
    finally:
        models.stop()


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
