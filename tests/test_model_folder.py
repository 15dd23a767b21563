"""The model folder: what is read from it, what is refused before anything loads it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from classifier.errors import InputError
from classifier.files import write_atomically
from classifier.model_folder import folder as model_folder
from classifier.model_folder import saved_model
from classifier.model_folder.folder import ClassNames, ModelFolder
from model_folders import CLASSES, LABELS, make_model_folder, write_json


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model folder; tests take copies."""
    return make_model_folder(tmp_path_factory.mktemp("models") / "tiny").path


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> ModelFolder:
    """A model folder of the test's own."""
    shutil.copytree(made, tmp_path / "model")
    return ModelFolder(tmp_path / "model")


def change_config(folder: ModelFolder, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrites `config.json` after a change to it."""
    config = json.loads((folder.path / "config.json").read_text())
    change(config)
    write_json(folder.path / "config.json", config)


def layer(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns the first layer of a class in a configuration."""
    return next(item for item in config["config"]["layers"] if item["class_name"] == name)


def test_a_complete_folder_passes_and_gives_what_it_holds(folder: ModelFolder) -> None:
    folder.check(complete=True)
    assert folder.labels == LABELS
    assert folder.training["preset"] == "tiny"
    assert (folder.evaluation or {})["top1"] == pytest.approx(50 / 60, abs=1e-5)
    assert [row["epoch"] for row in folder.history] == [1, 2, 3]
    assert [path.name for path in folder.plots] == ["confusion_matrix.png", "training.png"]
    assert (folder.card or "").startswith("---\n")
    probabilities, labels = folder.predictions() or (None, None)
    assert probabilities is not None
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (60, 6)
    assert labels is not None
    assert labels.dtype == np.int32


def test_files_are_those_of_the_contract_and_no_other(folder: ModelFolder) -> None:
    expected = folder.files()
    (folder.path / "checkpoints").mkdir()
    (folder.path / "checkpoints" / "last.weights.h5").touch()
    (folder.path / ".config.json.1234.tmp").touch()
    (folder.path / "notes.txt").touch()
    (folder.path / "plots" / ".draft.png").touch()
    assert folder.files() == expected
    runs = folder.path / "runs" / "train"
    runs.mkdir(parents=True)
    (runs / "events.out.tfevents.1").touch()
    assert set(folder.files()) - set(expected) == {"runs/train/events.out.tfevents.1"}


def test_a_file_is_parsed_once_until_it_changes(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[Path] = []
    read = model_folder._read_json
    monkeypatch.setattr(model_folder, "_read_json", lambda path: parsed.append(path) or read(path))
    for _ in range(3):
        assert folder.training["preset"] == "tiny"
        assert folder.labels.classes == CLASSES
    assert [path.name for path in parsed] == ["training.json", "labels.json"]
    write_json(folder.path / "training.json", {"settings": {"sparsity": 0.8}})  # its old name
    assert folder.training == {"settings": {"prune_threshold": 0.8}}


def test_a_training_record_of_another_shape_is_not_used(folder: ModelFolder) -> None:
    write_json(folder.path / "training.json", {"preset": "mine", "settings": [1], "dataset": "x"})
    assert folder.training == {"preset": "mine"}


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "labels.json"])
def test_a_missing_file_is_named(folder: ModelFolder, name: str) -> None:
    (folder.path / name).unlink()
    with pytest.raises(InputError, match=f"lacks {name}"):
        folder.check()


# ClassNames


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "has 0 classes"),
        ('{"classes": ["a", "a"]}', "repeated"),
        ('{"classes": ["a", "b\\u0000"]}', "not printed"),
        ('{"classes": ["a", "b"], "superclasses": ["x", "y"]}', "superclass of each class"),
        (
            '{"classes": ["a", "b"], "superclasses": ["x", "y"], "superclass_of": [0, 2]}',
            "superclass of each class",
        ),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_labels_that_are_wrong_are_refused_with_one_line(
    tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(InputError, match=said) as caught:
        ClassNames.read(tmp_path)
    assert "\n" not in str(caught.value)


# What is refused of a configuration


def _layer(class_name: str, module: str = "keras.layers", **more: Any) -> Callable[..., None]:
    """Returns a change that adds a layer to a configuration."""
    added = {"module": module, "class_name": class_name, "config": {"name": "added"}, **more}
    return lambda config: config["config"]["layers"].append(added)


def _activation(function: object) -> Callable[..., None]:
    return lambda config: layer(config, "Dense")["config"].update(activation=function)


def _input(*shape: int | None) -> Callable[..., None]:
    return lambda config: layer(config, "InputLayer")["config"].update(batch_shape=[*shape])


OPERATIONS = saved_model.OPERATIONS_MODULE
CONFIGURATIONS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (_layer("Lambda"), r"keras\.layers\.Lambda"),
    (_layer("system", "os"), r"os\.system"),
    (_layer("Flatten", registered_name="mine>Flatten"), "mine>Flatten"),
    (_layer(["Flatten"]), r"\['Flatten'\]"),  # type: ignore[arg-type]
    (_layer("Flip", OPERATIONS, config={"axis": {"class_name": "Map"}}), "Map"),
    (_layer("Sequential", "keras", config={"layers": [{"class_name": "Lambda"}]}), "Lambda"),
    (_activation({"class_name": "__lambda__", "config": {"value": ["4wEAAA=="]}}), "__lambda__"),
    (_activation({"module": "builtins", "class_name": "function", "config": "eval"}), "'eval'"),
    (lambda config: config.update(config={}), "describes no layers"),
    (_input(None, 28, 28, 1), r"input must be \(None, S, S, 3\)"),
    (_input(None, 257, 257, 3), "S = 8 to 256"),
]


@pytest.mark.parametrize(("change", "said"), CONFIGURATIONS)
def test_check_refuses_a_configuration(
    folder: ModelFolder, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    change_config(folder, change)
    with pytest.raises(InputError, match=said) as caught:
        folder.check()
    assert "\n" not in str(caught.value)


# What is refused of weights


def _add(path: Path, name: str, **options: Any) -> None:
    with h5py.File(path, "r+") as file:
        file.create_dataset(name, **options)


def _link(path: Path, link: object) -> None:
    with h5py.File(path, "r+") as file:
        file["layers/alias"] = link


def _virtual(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        layout = h5py.VirtualLayout((4,), "u1")
        layout[:] = h5py.VirtualSource("/etc/hostname", "data", (4,))
        file.create_virtual_dataset("virtual", layout)


def _empty(path: Path) -> None:
    path.unlink()
    h5py.File(path, "w").close()


EXTERNAL = {"shape": (4,), "dtype": "u1", "external": [("/etc/hostname", 0, 4)]}
BOMB = {"shape": (10**6, 10**4), "dtype": "f4", "chunks": True, "compression": "gzip"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: _link(path, h5py.ExternalLink("/etc/hostname", "/")), "'layers/alias'"),
        (lambda path: _link(path, h5py.SoftLink("/layers")), "'layers/alias'"),
        (lambda path: _add(path, "elsewhere", **EXTERNAL), "'elsewhere'"),
        (lambda path: _add(path, "bomb", **BOMB), "'bomb'"),
        (lambda path: _add(path, "text", data=["x"], dtype=h5py.string_dtype()), "'text'"),
        (_virtual, "'virtual'"),
        (_empty, "holds no weights"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "damaged or not an HDF5 file"),
    ],
)
def test_check_refuses_weights_that_are_no_arrays_inside_the_file(
    folder: ModelFolder, change: Callable[[Path], object], said: str
) -> None:
    change(folder.path / "model.weights.h5")
    with pytest.raises(InputError, match=said):
        folder.check()


def test_load_model_refuses_weights_of_another_network(folder: ModelFolder, tmp_path: Path) -> None:
    other = make_model_folder(tmp_path / "other", units=16)
    (folder.path / "config.json").write_bytes((other.path / "config.json").read_bytes())
    with pytest.raises(InputError, match="cannot load the model"):
        folder.load_model()


# Limits


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("a",), "has 1 classes: a model takes 2 to 4,000"),
        (tuple(map(str, range(4001))), "has 4,001 classes"),
        (("a", "b" * 201), "longer than 200"),
    ],
)
def test_check_refuses_names_that_a_folder_cannot_hold(classes: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ClassNames("data", classes).check("data")


def test_check_accepts_no_more_names_than_a_folder_can_be_read_with(tmp_path: Path) -> None:
    classes = tuple(f"{index:-<200}" for index in range(model_folder.MAX_CLASSES))
    names = ClassNames("data", classes, classes, tuple(range(len(classes))))
    names.check("data")
    names.write(tmp_path)
    assert ClassNames.read(tmp_path) == names
    matrix = 3 * len(classes) ** 2  # bytes of the zeros in evaluation.json
    assert matrix < 0.8 * model_folder.MAX_BYTES


# Predictions


@pytest.mark.parametrize(
    "arrays",
    [
        {"labels": np.zeros(3, "int32")},
        {"probabilities": np.array([object()]), "labels": np.zeros(1, "int32")},  # a pickle
        {"probabilities": np.zeros((3, 5), "float16"), "labels": np.zeros(3, "int32")},
        {"probabilities": np.zeros((3, 6), "float16"), "labels": np.full(3, 6)},
        {"probabilities": np.full((3, 6), np.nan, "float16"), "labels": np.zeros(3, "int32")},
    ],
)
def test_predictions_of_another_kind_are_refused(
    folder: ModelFolder, arrays: dict[str, np.ndarray]
) -> None:
    np.savez(folder.path / "predictions.npz", **arrays)
    with pytest.raises(InputError, match=r"predictions\.npz"):
        folder.predictions()


# Older Keras


def test_a_configuration_holds_nothing_that_the_oldest_promised_keras_does_not_know(
    folder: ModelFolder,
) -> None:
    text = (folder.path / "config.json").read_text()
    assert "kernel_initializer" in text
    assert not [name for name in saved_model.NEW_DEFAULTS if f'"{name}"' in text]


def test_for_older_keras_keeps_newer_options_that_are_used_and_drops_names_of_operations() -> None:
    used = {"rms_scaling": True, "quantization_config": None, "units": 3}
    assert saved_model.for_older_keras([used]) == [{"rms_scaling": True, "units": 3}]
    operation = {"module": "keras.src.ops.numpy", "class_name": "Flip", "name": "flip"}
    written = saved_model.for_older_keras({**operation, "config": {"name": "flip", "axis": 2}})
    assert written == {**operation, "config": {"axis": 2}}


# Writing


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_write_atomically_replaces_all_or_nothing(kind: str, tmp_path: Path) -> None:
    def write(text: str) -> Callable[[Path], None]:
        def make(temporary: Path) -> None:
            place = temporary
            if kind == "folder":
                temporary.mkdir()
                place = temporary / text
            place.write_text(text)
            if text == "three":
                raise OSError("disk full")

        return make

    path = tmp_path / kind
    write_atomically(path, write("one"))
    write_atomically(path, write("two"))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, write("three"))
    files = [item for item in tmp_path.rglob("*") if item.is_file()]
    assert [item.read_text() for item in files] == ["two"]
