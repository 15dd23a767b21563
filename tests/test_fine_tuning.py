"""Training that starts from a trained model: what is taken over, what is new, what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from classifier.architectures import LAST_LAYER, build_network
from classifier.errors import InputError
from classifier.model_folder.folder import ClassNames, ModelFolder
from classifier.presets import ARCHITECTURE_SETTINGS
from classifier.settings import Settings
from classifier.training import saving
from classifier.training.checkpoints import RunState
from classifier.training.fast_convolution import accelerate
from classifier.training.fine_tuning import (
    InitialModel,
    adopt,
    last_layer_only,
    last_layer_settings,
)
from classifier.training.resuming import fit_or_resume
from conftest import Run
from data_files import encode, write_image_folder
from test_train_command import assert_one_line
from test_training import Data

CLASSES = ("apple", "bridge", "cloud")
OTHERS = ("one", "two", "three", "four")
MEAN, DEVIATION = np.float32([101, 102, 103]), np.float32([61, 62, 63])
SETTINGS = {
    "cnn": Settings(architecture="cnn", channels=(4, 4, 6, 6), image_size=20, tta_flip=True),
    "mlp": Settings(architecture="mlp", hidden_units=(16, 8), image_size=8, dropout=0.1),
    "local": Settings(
        architecture="local_mlp", width=8, depth=2, local_units=12, local_patches=(9, 9)
    ),
}


TIED = Settings(
    architecture="local_mlp",
    local_units=48,
    local_maps=(4, 4, 2),
    local_patches=(7, 3, 3),
    image_size=16,
    width=8,
    depth=1,
    tied=True,
)


def make_source(folder: Path, settings: Settings) -> Path:
    """Writes what `train.py` leaves of a training with these settings, but for its figures."""
    folder.mkdir(parents=True)
    network = build_network(settings, classes=3, mean=MEAN, deviation=DEVIATION)
    random = np.random.default_rng(0)
    network.set_weights([random.uniform(0.05, 0.15, x.shape) for x in network.get_weights()])
    model = saving.exportable(network, settings, mean=MEAN, deviation=DEVIATION)
    saving.save_model(model, folder)
    ClassNames("shapes", CLASSES).write(folder)
    write_training(folder, settings.to_dict())
    return folder


def write_training(folder: Path, settings: dict[str, Any]) -> None:
    (folder / "training.json").write_text(json.dumps({"settings": settings}))


def test_layers_that_share_their_weights_become_dense_ones_that_answer_the_same(
    tmp_path: Path,
) -> None:
    source = make_source(tmp_path / "tied", TIED)
    network, start, settings = initialise(source, CLASSES)
    assert settings == TIED.replace(tied=False)
    assert not start.new_layer
    assert not any(isinstance(layer, keras.layers.Conv2D) for layer in network.layers)
    tied = ModelFolder(source).load_model()
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in tied.layers) == 3
    images = np.random.default_rng(0).uniform(0, 255, (5, 16, 16, 3)).astype("float32")
    np.testing.assert_allclose(network(images), tied(images), atol=1e-6)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("classes", [CLASSES, OTHERS])
def test_everything_but_a_last_layer_for_other_classes_comes_from_the_source(
    name: str, classes: tuple[str, ...], tmp_path: Path
) -> None:
    source = make_source(tmp_path / "source", SETTINGS[name])
    network, start, settings = initialise(source, classes, Settings(dropout=0.3, seed=7))
    for field in ARCHITECTURE_SETTINGS:
        assert getattr(settings, field) == getattr(SETTINGS[name], field)
    assert (settings.dropout, settings.tta_flip) == (0.3, False)  # the recipe is the new one's
    np.testing.assert_allclose(start.mean, MEAN)
    np.testing.assert_allclose(start.deviation, DEVIATION, rtol=1e-6)
    new = build_network(settings, classes=len(classes), mean=start.mean, deviation=start.deviation)
    fresh = new.get_layer(LAST_LAYER).get_weights()
    assert start.new_layer == (classes != CLASSES)
    loaded = ModelFolder(source).load_model()
    for layer in network.layers:
        expected = loaded.get_layer(layer.name).get_weights() if layer.weights else []
        expected = fresh if start.new_layer and layer.name == LAST_LAYER else expected
        for one, other in zip(layer.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_same_classes_in_another_order_or_normal_form_keep_their_weights(
    tmp_path: Path,
) -> None:
    source = make_source(tmp_path / "source", SETTINGS["mlp"])
    ClassNames("shapes", ("apple", "caf\u00e9", "cloud")).write(source)
    network, start, _ = initialise(source, ("cloud", "apple", "cafe\u0301"))
    assert not start.new_layer
    images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
    expected = np.asarray(ModelFolder(source).load_model()(images))[:, [2, 0, 1]]
    np.testing.assert_allclose(network(images), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"image_size": 64}, "has image_size 20, not 64: leave image_size out"),
        ({"channels": (8, 8)}, r"has channels \[4, 4, 6, 6\], not \[8, 8\]"),
        ({"architecture": "mlp"}, "has architecture 'cnn', not 'mlp'"),
    ],
)
def test_a_setting_that_contradicts_the_source_is_refused(
    named: dict[str, Any], said: str, tmp_path: Path
) -> None:
    source = make_source(tmp_path / "source", SETTINGS["cnn"])
    with pytest.raises(InputError, match=said) as caught:
        adopt(str(source), Settings(**named), named)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "transformer"}, "architecture must be one of"),
        ({"channels": [4, 4, 6]}, "other layers than its settings"),
    ],
)
def test_a_source_that_says_wrongly_how_it_was_built_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    source = make_source(tmp_path / "source", SETTINGS["cnn"])
    write_training(source, {**SETTINGS["cnn"].to_dict(), **changes})
    with pytest.raises(InputError, match=said) as caught:
        initialise(source, CLASSES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [None, {}, [], {"epochs": 3}])
def test_a_source_that_does_not_say_how_it_was_built_is_refused(
    settings: Any, tmp_path: Path
) -> None:
    source = make_source(tmp_path / "source", SETTINGS["mlp"])
    write_training(source, settings)
    with pytest.raises(InputError, match="does not record its architecture"):
        initialise(source, CLASSES)


def initialise(
    source: Path, classes: tuple[str, ...], new: Settings | None = None
) -> tuple[keras.Model, InitialModel, Settings]:
    """Returns a network that starts from a source, its start and its settings."""
    settings, record = adopt(str(source), new or Settings(), ())
    start = InitialModel(record, source.parent / "initial.weights.h5", settings)
    network = build_network(
        settings, classes=len(classes), mean=start.mean, deviation=start.deviation
    )
    start.initialise(network, classes)
    return network, start, settings


def test_while_the_last_layer_trains_alone_no_other_weight_changes(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", SETTINGS["cnn"])
    recipe = Settings(freeze_epochs=2, batch_size=8, l2=0.01, learning_rate=1e-4)
    network, _, settings = initialise(source, OTHERS[:3], recipe)
    network = accelerate(network)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (16, 20, 20, 3)).astype("uint8")
    part = (images, np.eye(3, dtype="float32")[np.arange(16) % 3])
    data = Data(part, part)
    before = {layer.name: layer.get_weights() for layer in network.layers}
    with last_layer_only(network):
        state = fit_or_resume(network, data, last_layer_settings(settings), tmp_path / "last")
    assert len(state.rows) == 2
    for layer in network.layers:
        same = all(map(np.array_equal, before[layer.name], layer.get_weights()))
        assert same == (layer.name != LAST_LAYER or not layer.weights)
        assert layer.trainable
    fit_or_resume(network, data, settings.replace(epochs=3), tmp_path / "all")
    assert not np.array_equal(
        network.get_layer("stem_convolution").get_weights()[0], before["stem_convolution"][0]
    )


def test_best_epoch_is_not_one_of_the_last_layer_alone(tmp_path: Path) -> None:
    frozen, state = (RunState(tmp_path / name, []) for name in ("frozen", "state"))
    frozen.rows = [{"epoch": 1, "val_loss": 0.1}]
    state.rows = [{"epoch": 1, "val_loss": 0.5}, {"epoch": 2, "val_loss": 0.4}]
    state.prepend(frozen)
    assert state.best_epoch == 3


# The command


@pytest.fixture(scope="module")
def other_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image files of four classes, 20 of each to train on, that differ in their colour."""
    folder = tmp_path_factory.mktemp("other") / "colours"
    random = np.random.default_rng(0)
    colours = {name: random.integers(40, 216, 3) for name in OTHERS}
    for split, count in (("train", 20), ("test", 5)):
        files = {
            name: [
                encode(np.clip(random.normal(colour, 30, (40, 40, 3)), 0, 255).astype("uint8"))
                for _ in range(count)
            ]
            for name, colour in colours.items()
        }
        write_image_folder(folder / split, files)
    return folder


@pytest.fixture(scope="module")
def tuned(
    tmp_path_factory: pytest.TempPathFactory,
    other_dataset: Path,
    run_command: Callable[..., Run],
) -> Path:
    """The run folder of a fine-tuning; its source lies beside it."""
    folder = tmp_path_factory.mktemp("tuned")
    make_source(folder / "source", SETTINGS["cnn"])
    result = run_command(
        *("train.py", "--init-from", folder / "source", "--dataset", other_dataset),
        *("--output", folder / "run", "--epochs", 2, "--set", "freeze_epochs=1"),
    )
    assert result.returncode == 0, result.stderr
    return folder / "run"


def test_a_fine_tuned_model_says_what_it_started_from(tuned: Path) -> None:
    folder = ModelFolder(tuned / "model")
    folder.check(complete=True)
    assert folder.image_size == 20
    assert folder.labels.classes == tuple(sorted(OTHERS))
    training = folder.training
    seconds = ModelFolder(tuned.parent / "source").training.get("wall_seconds")
    origin = {"source": "source", "revision": None, "wall_seconds": seconds}
    assert training["init_from"] == origin
    assert training["settings"]["channels"] == [4, 4, 6, 6]
    assert training["preset"] == "fine-tune"
    assert training["epochs_run"] == 3
    assert [row["epoch"] for row in folder.history] == [1, 2, 3]
    assert f"--init-from {tuned.parent / 'source'}" in training["command"]
    assert "channels" not in training["command"]
    normalisation = folder.load_model().get_layer("normalisation").get_config()
    np.testing.assert_allclose(np.ravel(normalisation["mean"]), MEAN)


@pytest.mark.slow
@pytest.mark.parametrize("replaced", [False, True])
def test_a_fine_tuning_is_resumed_from_its_own_folder_alone(
    replaced: bool, tuned: Path, tmp_path: Path, run_command: Callable[..., Run]
) -> None:
    """After its last layer was trained, with an initial model that is gone or another one."""
    shutil.copytree(tuned, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    for name in ("state.npz", "best-*"):
        for file in (tmp_path / "run" / "checkpoints").glob(name):
            file.unlink()  # as if it was stopped there
    start = tmp_path / "run" / "run.json"
    source = tmp_path / "elsewhere"
    start.write_text(start.read_text().replace(str(tuned.parent / "source"), str(source)))
    if replaced:
        make_source(source, SETTINGS["mlp"])
    result = run_command("train.py", "--output", tmp_path / "run", "--resume")
    assert result.returncode == 0, result.stderr
    models = [ModelFolder(path / "model").load_model() for path in (tuned, tmp_path / "run")]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)
    config = models[1].get_layer("normalisation").get_config()
    np.testing.assert_allclose(np.ravel(config["mean"]), MEAN)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--init-from", "nowhere"], "'nowhere' is neither a local folder"),
        (["--init-from", ""], "--init-from is empty"),
        (["--init-from", "{empty}"], "contains no model"),
        (["--init-from", "{source}/labels.json"], "is a file: name the model folder"),
        (["--init-from", "{source}", "--set", "image_size=64"], "has image_size 20, not 64"),
        (["--set", "freeze_epochs=2"], "freeze_epochs goes with --init-from"),
        (["--resume", "--output", "{run}", "--init-from", "{other}"], "leave it out to resume"),
        (["--init-from", "{damaged}"], "damaged or not an HDF5 file"),
        (["--init-from", "{source}", "--set", "teacher={source}"], "trained on other classes"),
        (["--set", "teacher={other}", "--set", "average_teacher=true", "--seed", "7"], "learnt"),
        (["--push", "--from", "x", "--repo-id", "a/b", "--init-from", "y"], "without training"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line_and_writes_nothing(
    arguments: list[str],
    said: str,
    tuned: Path,
    other_dataset: Path,
    tmp_path: Path,
    call_command: Callable[..., Run],
) -> None:
    shutil.copytree(tuned.parent / "source", tmp_path / "damaged")
    (tmp_path / "damaged" / "model.weights.h5").write_bytes(b"nothing")
    (tmp_path / "empty").mkdir()
    places = {"run": tuned, "source": tuned.parent / "source", "other": tuned / "model"}
    places |= {name: tmp_path / name for name in ("damaged", "empty")}
    words = [word.format(**places) for word in arguments]
    if "--push" not in words and "--resume" not in words:
        words += ["--dataset", str(other_dataset), "--output", str(tmp_path / "run")]
    assert_one_line(call_command("train.py", *words), 2, said)
    assert {path.name for path in (tmp_path / "run").glob("*")} <= {".lock"}
