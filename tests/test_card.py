"""The model card: figures from the model folder's own files, and metadata that the Hub reads."""

import re
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from PIL import Image, ImageOps

from classifier.data.images import open_image, to_model_input
from classifier.errors import InputError
from classifier.hub import card
from classifier.hub.dataset_id import KNOWN_FINGERPRINTS, name_dataset
from classifier.hub.sources import embedded_models
from classifier.model_folder.folder import ModelFolder
from conftest import PROJECT
from model_folders import make_model_folder, write_figures, write_json


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A complete model folder."""
    return make_model_folder(tmp_path_factory.mktemp("models") / "tiny")


def test_the_metadata_is_what_the_hub_wants_of_a_model(made: ModelFolder) -> None:
    data = ModelCard(card.render(made), ignore_metadata_errors=False).data
    assert data.license == "mit"
    assert data.library_name == "keras"
    assert data.pipeline_tag == "image-classification"
    assert data.datasets is None  # the name of a folder is no data set of the Hub
    assert data.language == "en"
    assert {"image-classification", "mlp"} <= set(data.tags)
    evaluation = made.evaluation or {}
    results = {result.metric_name: result.metric_value for result in data.eval_results}
    assert results == {
        "Top-1 accuracy": evaluation["top1"],
        "Top-5 accuracy": evaluation["top5"],
        "Macro F1": evaluation["macro_f1"],
    }
    assert {result.dataset_split for result in data.eval_results} == {"test"}


@pytest.mark.parametrize(
    ("recorded", "named"),
    [
        ({"id": "cifar100", "fingerprint": "7b0fbb77ff59ea4f0e5a818b7163a407"}, "uoft-cs/cifar100"),
        (
            {"id": "cifar-100-python.tar.gz", "fingerprint": next(iter(KNOWN_FINGERPRINTS))},
            "uoft-cs/cifar100",
        ),
        ({"id": "user/photos", "revision": "0" * 40, "fingerprint": "abc"}, "user/photos"),
        ({"id": "mnist", "revision": "0" * 40, "fingerprint": "abc"}, "mnist"),
        ({"id": "cifar100", "revision": None, "fingerprint": "abc"}, None),
        ({"id": "my photos", "revision": None}, None),
        ({}, None),
    ],
)
def test_the_data_set_is_named_by_its_id_on_the_hub_if_it_has_one(
    tmp_path: Path, recorded: dict[str, str], named: str | None
) -> None:
    folder = make_model_folder(tmp_path / "model")
    evaluation = {"dataset": recorded.get("id"), "dataset_revision": recorded.get("revision")}
    evaluation["dataset_fingerprint"] = recorded.get("fingerprint")
    write_json(folder.path / "training.json", {**folder.training, "dataset": recorded})
    write_json(folder.path / "evaluation.json", {**(folder.evaluation or {}), **evaluation})
    text = card.render(folder)
    data = ModelCard(text, ignore_metadata_errors=False).data
    assert data.datasets == ([named] if named else None)
    if named:
        assert {result.dataset_type for result in data.eval_results} == {named}
        assert f"classes of {named}." in text


def test_the_cards_of_the_embedded_models_name_the_data_set_once_they_are_written_again() -> None:
    for folder in embedded_models():
        text = card.render(folder, compare=card.others(folder))
        data = ModelCard(text, ignore_metadata_errors=False).data
        assert data.datasets == ["uoft-cs/cifar100"]
        assert {result.dataset_name for result in data.eval_results} == {"uoft-cs/cifar100"}


def test_a_given_id_is_written_wherever_the_folder_names_its_data_set(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "model")
    name_dataset(folder, "user/shapes")
    card.write(folder)
    written = ModelFolder(folder.path)
    assert written.training["dataset"] == {**folder.training["dataset"], "id": "user/shapes"}
    assert written.labels.dataset == (written.evaluation or {})["dataset"] == "user/shapes"
    assert ModelCard(str(written.card)).data.datasets == ["user/shapes"]
    written.check(complete=True)
    with pytest.raises(InputError, match="--dataset-id"):
        name_dataset(folder, "no-user")
    from_the_hub = {"id": "user/shapes", "revision": "0" * 40}
    write_json(folder.path / "training.json", {**folder.training, "dataset": from_the_hub})
    with pytest.raises(InputError, match="user/shapes on the Hub, not a local copy"):
        name_dataset(ModelFolder(folder.path), "user/others")


@pytest.mark.parametrize(
    ("init_from", "named"),
    [
        ("user/model", "user/model"),
        ("hf://user/model", "user/model"),
        ("hf://runs/model", "runs/model"),
        ("user/model@v1", "user/model"),
        ("pretrained/cnn", None),
        ("runs/mine", None),
        ("../other/model", None),
        ("/somewhere/model", None),
        ("model", None),
        ({"source": "user/model", "revision": "0" * 40}, "user/model"),
        ({"source": "user/model", "revision": None}, None),
        ({"source": "cnn", "revision": None}, None),
        ("tests/axe-core", None),  # a folder that is there
        (None, None),
    ],
)
def test_the_model_that_was_fine_tuned_is_named_if_it_is_on_the_hub(
    tmp_path: Path, init_from: object, named: str | None
) -> None:
    folder = make_model_folder(tmp_path / "model")
    write_json(folder.path / "training.json", {**folder.training, "init_from": init_from})
    assert ModelCard(card.render(ModelFolder(folder.path))).data.base_model == named


def test_the_text_states_the_figures_of_the_files(made: ModelFolder) -> None:
    text = card.render(made)
    for figure in ("83.33%", "11.7 percentage points", "24,646", "1.50 hours × 1 machine"):
        assert figure in text
    assert "Testprocessor 9000, 2 cores" in text
    assert "temperature of" in text


def test_other_figures_give_another_card(made: ModelFolder, tmp_path: Path) -> None:
    other = make_model_folder(tmp_path / "model", right=42)
    assert "accuracy is **70.00%**" in " ".join(card.render(other).split())
    assert "**83.33%**" not in card.render(other)


def test_every_setting_is_listed_also_those_that_the_card_does_not_know(
    made: ModelFolder,
) -> None:
    text = card.render(made)
    for name in made.training["settings"]:
        assert f"| `{name}` |" in text
    assert "| `a_setting_of_tomorrow` | 0.125 |" in text


def test_plots_are_shown_that_are_there_and_no_other(made: ModelFolder) -> None:
    shown = re.findall(r"!\[[^\]]+\]\((plots/\w+\.png)\)", card.render(made))
    assert sorted(shown) == [path.relative_to(made.path).as_posix() for path in made.plots]


def test_best_and_worst_classes_and_confusions_are_tables(made: ModelFolder) -> None:
    text = card.render(made)
    evaluation = made.evaluation or {}
    for name in (*evaluation["best_classes"], *evaluation["worst_classes"]):
        assert f"\n| {name} | " in text
    pair = evaluation["most_confused"][0]
    assert f"| {pair['true']} | {pair['predicted']} | {pair['count']} |" in text


def test_other_models_are_put_beside_it_best_first(made: ModelFolder, tmp_path: Path) -> None:
    better = make_model_folder(tmp_path / "better", right=54, preset="better")
    without_figures = make_model_folder(tmp_path / "raw", preset="raw")
    (without_figures.path / "evaluation.json").unlink()
    text = card.render(made, compare=[made, better, without_figures])
    rows = re.findall(r"^\| (?:\*\*)?(tiny|better|raw)", text, re.MULTILINE)
    assert rows == ["better", "tiny"]
    assert "Comparison" not in card.render(made, compare=[made])


def test_it_says_how_to_load_the_model_with_keras_alone_and_from_which_version(
    made: ModelFolder,
) -> None:
    text = card.render(made)
    assert 'keras.saving.load_model("hf://user/name")' in text
    assert "Keras 3.6.0 or newer" in text
    assert 'api_name="/classify"' in text


def test_the_limits_of_flattened_pixels_are_stated_only_where_they_apply(
    made: ModelFolder, tmp_path: Path
) -> None:
    assert "No translation equivariance" in card.render(made)
    other = make_model_folder(tmp_path / "cnn")
    training = other.training
    training["settings"]["architecture"] = "cnn"
    write_json(other.path / "training.json", training)
    text = card.render(other)
    assert "translation equivariance" not in text
    assert "convolution" in text


def test_layers_that_start_local_are_told_and_nothing_else_is_claimed(
    made: ModelFolder, tmp_path: Path
) -> None:
    assert "no information about which pixels are neighbours" in " ".join(card.render(made).split())
    folder = make_model_folder(tmp_path / "model")
    training = dict(folder.training)
    training["settings"] = {
        **training["settings"],
        "architecture": "residual_mlp",
        "local_units": 64,
        "local_patches": [7, 12],
        "prune_threshold": 0.8,
    }
    write_json(folder.path / "training.json", training)
    text = " ".join(card.render(ModelFolder(folder.path)).split())
    assert "no information about which pixels are neighbours" not in text
    assert "weights are not shared between positions: features are learnt" in text
    assert "The first 2 dense layers have a local receptive-field initialisation" in text
    assert "a random patch of 7×7 and 12×12 pixels; all weights are trained" in text
    assert "Towards Learning Convolutions from Scratch" in text


@pytest.mark.parametrize(
    ("settings", "origin"),
    [
        ({}, "An image classifier made of dense layers: the flattened pixels"),
        (
            {"local_units": 64, "teacher": "user/name"},
            "An image classifier made of dense layers, whose first layers were initialised with "
            "local receptive fields, trained by knowledge distillation: the flattened pixels",
        ),
        (
            {"local_units": 64, "local_maps": [8, 4]},
            "An image classifier made of dense layers, whose first layers were initialised from "
            "convolutions: ",
        ),
        (
            {"local_units": 64, "local_maps": [8, 4], "tied": True},
            "An image classifier made of convolutions and dense layers: ",
        ),
    ],
)
def test_the_first_sentence_says_what_the_layers_and_the_targets_come_from(
    settings: dict[str, Any], origin: str, tmp_path: Path
) -> None:
    folder = make_model_folder(tmp_path / "model")
    training = dict(folder.training)
    training["settings"] = {**training["settings"], "architecture": "residual_mlp", **settings}
    if "local_maps" in settings and "tied" not in settings:
        training["init_from"] = {"source": "mlp-tied", "revision": None}
    write_json(folder.path / "training.json", training)
    text = " ".join(card.render(ModelFolder(folder.path)).split())
    assert origin in text.split("It has ")[0]


def test_repeated_images_are_told_where_they_were_counted(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "model")
    evaluation = {
        **(folder.evaluation or {}),
        "duplicates": 10,
        "top1_without_duplicates": 0.8125,
    }
    write_json(folder.path / "evaluation.json", evaluation)
    text = " ".join(card.render(folder).split())
    assert "10 of the test images are exact duplicates of training images" in text
    assert "without them, top-1 is 81.25%" in text


def test_names_cannot_break_out_of_their_table(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "model")
    training = folder.training
    training["settings"]["note"] = "a | b\n## Heading <script>"
    write_json(folder.path / "training.json", training)
    text = card.render(folder)
    assert "| `note` | a \\| b ## Heading \\<script\\> |" in text
    assert "\n## Heading" not in text


def test_class_names_stand_in_the_tables_as_they_are(tmp_path: Path) -> None:
    names = ["$$", "$x$", "__init__", "~~cat~~", "&lt;"]
    folder = make_model_folder(tmp_path / "model")
    evaluation = {**(folder.evaluation or {}), "most_confused": []}
    for true, predicted in pairwise(names):
        evaluation["most_confused"].append({"true": true, "predicted": predicted, "count": 1})
    write_json(folder.path / "evaluation.json", evaluation)
    text = card.render(ModelFolder(folder.path))
    assert "| \\$\\$ | \\$x\\$ | 1 |" in text  # else two dollar signs open a formula
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)
    for true, predicted in pairwise(names):
        assert f"<td>{escape(true)}</td>\n<td>{escape(predicted)}</td>" in page


def test_only_early_stopping_takes_the_weights_of_the_best_epoch(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "model")
    training = folder.training or {}
    for patience, said in ((0, False), (6, True)):
        settings = {**training["settings"], "early_stopping_patience": patience}
        write_json(folder.path / "training.json", {**training, "settings": settings})
        text = card.render(ModelFolder(folder.path))
        assert ("the weights are those of epoch 2, the best on validation" in text) == said


def test_what_was_not_recorded_is_a_dash_and_no_error(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "model")
    write_json(folder.path / "training.json", {"preset": "tiny"})
    text = card.render(folder)
    assert "– hours × 1 machine (not recorded)" in text
    assert "None" not in text


def test_a_folder_without_figures_has_no_card(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "model")
    (folder.path / "evaluation.json").unlink()
    with pytest.raises(InputError, match=r"has no evaluation\.json"):
        card.render(folder)


def test_a_card_is_written_over_the_old_one(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "model")
    write_figures(folder.path, 42)
    assert card.write(folder) == folder.path / "README.md"
    assert "70.00%" in (folder.card or "")
    assert not [path for path in folder.path.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize("page", ["card", "docs/model-folder.md", "docs/formats.md"])
@pytest.mark.parametrize(
    ("size", "kind"),
    [
        *(((96, 64), "png"), ((40, 200), "png"), ((33, 32), "png"), ((500, 311), "png")),
        ((2000, 1200), "jpg"),
    ],
)
def test_the_examples_make_the_pixels_that_app_and_training_make(
    made: ModelFolder, tmp_path: Path, size: tuple[int, int], kind: str, page: str
) -> None:
    photo = tmp_path / f"photo.{kind}"
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(photo)
    text = card.render(made) if page == "card" else (PROJECT / page).read_text(encoding="utf-8")
    blocks = [block.split("```")[0] for block in text.split("```python\n")[1:]]
    lines = next(block for block in blocks if '"photo.jpg"' in block).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("image = "))
    last = next(i for i, line in enumerate(lines) if line.startswith(("prob", "(prob")))
    steps = "\n".join(lines[first:last]).replace("photo.jpg", str(photo))
    names: dict[str, Any] = {"Image": Image, "ImageOps": ImageOps}
    exec(steps, names)

    expected = to_model_input(open_image(photo), made.image_size)
    np.testing.assert_array_equal(np.asarray(names["image"]), expected)
