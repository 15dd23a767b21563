"""The model card: figures from the model folder's own files, and metadata that the Hub reads."""

import os
import shutil
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from classifier.errors import InputError
from classifier.hub import card
from classifier.hub.card import KNOWN_FINGERPRINTS, name_dataset
from classifier.hub.publishing import check_card
from classifier.hub.sources import embedded_models
from classifier.model_folder.folder import ModelFolder
from model_folders import make_model_folder, write_json

SNAPSHOT = Path(__file__).with_name("card_snapshot.md")
CIFAR = next(iter(KNOWN_FINGERPRINTS))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A complete model folder."""
    return make_model_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def folder(made: ModelFolder, tmp_path: Path) -> ModelFolder:
    """A model folder of the test's own."""
    return ModelFolder(shutil.copytree(made.path, tmp_path / "model"))


def changed(folder: ModelFolder, file: str = "training", **changes: Any) -> ModelFolder:
    """Changes entries of `training.json` or `evaluation.json`."""
    write_json(folder.path / f"{file}.json", {**(getattr(folder, file) or {}), **changes})
    return ModelFolder(folder.path)


def data_of(folder: ModelFolder) -> Any:
    """Returns the metadata of the rendered card."""
    return ModelCard(card.render(folder), ignore_metadata_errors=False).data


def test_render_states_what_the_snapshot_states(folder: ModelFolder, tmp_path: Path) -> None:
    """Every sentence that a card can have; `UPDATE_CARD=1 pytest tests/test_card.py` accepts it."""
    settings = {
        **folder.training["settings"],
        "architecture": "local_mlp",
        "local_units": 64,
        "local_patches": [7, 12],
        "local_filters": "patches",
        "prune_threshold": 0.8,
        "teacher": "runs/teacher",
        "flip": 0.5,
        "crop_area": 0.6,
        "cutmix": 0.5,
        "early_stopping_patience": 6,
    }
    command = "python train.py --preset tiny --dataset ../my photos --init-from runs/first"
    command = command.replace("../my photos", "'../my photos'")
    few = {"interval": [0.9, 1.1], "images": 30, "determined": False}
    changed(folder, settings=settings, command=command, calibration=few)
    unequal = {"balanced_accuracy": 0.75}
    changed(folder, "evaluation", duplicates=10, top1_without_duplicates=0.8125, **unequal)
    for name in ("model.onnx", *(f"plots/{name}.png" for name in ("roc", "reliability"))):
        (folder.path / name).write_bytes(b"")
    better = make_model_folder(tmp_path / "better", right=54, preset="better")
    text = card.render(ModelFolder(folder.path), compare=[better])
    if os.environ.get("UPDATE_CARD"):
        SNAPSHOT.write_text(text, encoding="utf-8")
    assert text == SNAPSHOT.read_text(encoding="utf-8")


def test_render_metadata_is_what_the_hub_wants(made: ModelFolder) -> None:
    data = data_of(made)
    assert (data.license, data.library_name, data.language) == ("mit", "keras", "en")
    assert data.pipeline_tag == "image-classification"
    assert data.datasets is None  # the name of a folder is no data set of the Hub
    assert {"image-classification", "mlp"} <= set(data.tags)
    evaluation = made.evaluation or {}
    results = {result.metric_type: result.metric_value for result in data.eval_results}
    names = {"accuracy": "top1", "top_5_accuracy": "top5", "f1": "macro_f1"}
    assert results == {kind: evaluation[name] for kind, name in names.items()}
    assert {result.dataset_split for result in data.eval_results} == {"test"}


@pytest.mark.parametrize(
    ("recorded", "named"),
    [
        ({"id": "cifar-100-python.tar.gz", "fingerprint": CIFAR}, "uoft-cs/cifar100"),
        ({"id": "mnist", "revision": "0" * 40, "fingerprint": "abc"}, "mnist"),
        ({"id": "cifar100", "revision": None, "fingerprint": "abc"}, None),
        ({"id": "my photos", "revision": None}, None),
        ({}, None),
    ],
)
def test_render_names_the_data_set_by_its_hub_id(
    folder: ModelFolder, recorded: dict[str, str], named: str | None
) -> None:
    command = "python train.py --preset tiny --dataset ../data --dataset-id user/data"
    keys = {"dataset": "id", "dataset_revision": "revision", "dataset_fingerprint": "fingerprint"}
    changed(folder, dataset=recorded, command=command)
    folder = changed(folder, "evaluation", **{key: recorded.get(of) for key, of in keys.items()})
    data, text = data_of(folder), card.render(folder)
    assert data.datasets == ([named] if named else None)
    if named:
        assert {result.dataset_type for result in data.eval_results} == {named}
        assert f"classes of {named}." in text
        assert f"\npython train.py --preset tiny --dataset {named}\n" in text
    else:
        assert "\npython train.py --preset tiny --dataset data --dataset-id" in text


def test_render_keeps_the_revision_of_a_data_set_in_the_command(folder: ModelFolder) -> None:
    recorded = {"id": "user/pets", "revision": "0" * 40, "fingerprint": "abc"}
    command = "python train.py --preset tiny --dataset user/pets@v1"
    folder = changed(folder, dataset=recorded, command=command)
    assert f"\n{command}\n" in card.render(folder)


def test_cards_of_embedded_models_can_be_published() -> None:
    for folder in embedded_models():
        check_card(folder)
        assert ModelCard(str(folder.card)).data.datasets == ["uoft-cs/cifar100"]


def test_name_dataset_writes_the_id_everywhere(folder: ModelFolder) -> None:
    name_dataset(folder, "user/shapes")
    card.write(folder)
    written = ModelFolder(folder.path)
    assert written.training["dataset"] == {**folder.training["dataset"], "id": "user/shapes"}
    assert written.labels.dataset == (written.evaluation or {})["dataset"] == "user/shapes"
    assert ModelCard(str(written.card)).data.datasets == ["user/shapes"]
    written.check(complete=True)
    with pytest.raises(InputError, match="--dataset-id"):
        name_dataset(folder, "no-user")
    from_the_hub = changed(folder, dataset={"id": "user/shapes", "revision": "0" * 40})
    with pytest.raises(InputError, match="user/shapes on the Hub, not a local copy"):
        name_dataset(from_the_hub, "user/others")


@pytest.mark.parametrize(
    ("init_from", "named"),
    [
        ({"source": "user/model", "revision": "0" * 40}, "user/model"),
        ({"source": "user/model", "revision": None}, None),
        ("runs/first", None),  # as earlier versions recorded it
        (None, None),
    ],
)
def test_render_names_the_base_model_if_it_is_on_the_hub(
    folder: ModelFolder, init_from: object, named: str | None
) -> None:
    assert data_of(changed(folder, init_from=init_from)).base_model == named


def test_render_says_mlp_only_of_networks_that_flatten(folder: ModelFolder) -> None:
    for settings, tag in (
        ({"architecture": "mlp"}, "mlp"),
        ({"architecture": "cnn"}, "cnn"),
        ({"architecture": "local_mlp", "tied": True, "local_maps": [8]}, "cnn"),
    ):
        model = changed(folder, settings=settings)
        assert data_of(model).tags[-1] == tag
        assert ("No translation equivariance" in card.render(model)) == (tag == "mlp")


def test_render_escapes_names(folder: ModelFolder) -> None:
    names = ["$$", "$x$", "__init__", "~~cat~~", "&lt;", "a | b\n## Heading <script>"]
    pairs = [{"true": true, "predicted": other, "count": 1} for true, other in pairwise(names)]
    text = card.render(changed(folder, "evaluation", most_confused=pairs))
    assert "\n## Heading" not in text
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)
    for true, predicted in pairwise(" ".join(name.split()) for name in names):
        assert f"<td>{escape(true)}</td>\n<td>{escape(predicted)}</td>" in page


def test_render_without_evaluation_is_refused(folder: ModelFolder) -> None:
    (folder.path / "evaluation.json").unlink()
    with pytest.raises(InputError, match=r"has no evaluation\.json"):
        card.render(folder)
