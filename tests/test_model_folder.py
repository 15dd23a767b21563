"""The model folder: what is read from it, what is refused before anything loads it."""

import copy
import json
import shutil
import subprocess
import sys
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
from model_folders import CLASSES, LABELS, SUPERCLASS_OF, make_model_folder, write_json


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


def test_a_check_imports_neither_keras_nor_a_backend(folder: ModelFolder) -> None:
    program = (
        "import sys\nfrom classifier.model_folder.folder import ModelFolder\n"
        f"ModelFolder({str(folder.path)!r}).check(complete=True)\n"
        "print([name for name in ('keras', 'tensorflow', 'jax', 'torch') if name in sys.modules])"
    )
    project = Path(model_folder.__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_a_folder_loads_uncompiled_with_the_shapes_of_the_contract(folder: ModelFolder) -> None:
    model = folder.load_model()
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 6)
    assert not model.compiled


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


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "labels.json"])
def test_a_missing_file_is_named(folder: ModelFolder, name: str) -> None:
    (folder.path / name).unlink()
    with pytest.raises(InputError, match=f"lacks {name}"):
        folder.check()


def test_a_folder_that_is_not_there_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("nothing", "file"):
        with pytest.raises(InputError, match="is not a folder"):
            ModelFolder(tmp_path / name).check()


def test_an_evaluation_of_other_images_than_the_predictions_is_refused(
    folder: ModelFolder,
) -> None:
    write_json(folder.path / "evaluation.json", {**(folder.evaluation or {}), "samples": 61})
    with pytest.raises(InputError, match="of different images"):
        folder.check(complete=True)


# ClassNames


def test_labels_are_written_as_the_contract_says_and_read_again(tmp_path: Path) -> None:
    LABELS.write(tmp_path)
    assert json.loads((tmp_path / "labels.json").read_text()) == {
        "dataset": "shapes",
        "classes": list(CLASSES),
        "superclasses": ["animals", "things"],
        "superclass_of": list(SUPERCLASS_OF),
    }
    assert ClassNames.read(tmp_path) == LABELS
    plain = ClassNames("digits", ("zero", "one"))
    plain.write(tmp_path)
    assert ClassNames.read(tmp_path) == plain


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "`classes` must be a list"),
        ('{"classes": ["one"]}', "`classes` must be a list"),
        ('{"classes": ["a", 3]}', "`classes` must be a list"),
        ('{"classes": ["a", "a"]}', "more than once"),
        ('{"classes": ["a", "b\\u0000"]}', "printable"),
        ('{"classes": ["a", "b"], "dataset": 7}', "`dataset` must be"),
        ('{"classes": ["a", "b"], "superclasses": ["x", "y"]}', "must come together"),
        (
            '{"classes": ["a", "b"], "superclasses": ["x", "y"], "superclass_of": [0, 2]}',
            "from 0 to 1",
        ),
        (
            '{"classes": ["a", "b"], "superclasses": ["x", "y"], "superclass_of": [true, 0]}',
            "from 0 to 1",
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


def _insert_lambda(config: dict[str, Any]) -> None:
    config["config"]["layers"].append(
        {
            "module": "keras.layers",
            "class_name": "Lambda",
            "config": {"name": "code"},
            "registered_name": None,
        }
    )


def _name(module: str, class_name: str, registered: str | None = None) -> Callable[..., None]:
    def change(config: dict[str, Any]) -> None:
        layer(config, "Flatten").update(
            module=module, class_name=class_name, registered_name=registered
        )

    return change


def _operation(name: str, **arguments: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"].append(
            {
                "module": "keras.src.ops.numpy",
                "class_name": name,
                "config": {"name": "operation", **arguments},
                "registered_name": name,
            }
        )

    return change


def _concatenation(count: int, axis: int) -> Callable[[dict[str, Any]], None]:
    tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": ["images", 0, 0]}}

    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"].append(
            {
                "module": "keras.layers",
                "class_name": "Concatenate",
                "config": {"name": "joined", "axis": axis},
                "registered_name": None,
                "inbound_nodes": [{"args": [[tensor] * count], "kwargs": {}}],
            }
        )

    return change


CONFIGURATIONS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a Lambda layer": (_insert_lambda, "Lambda layer"),
    "a lambda as activation": (
        lambda config: layer(config, "Dense")["config"].update(
            activation={"class_name": "__lambda__", "config": {"value": ["4wEAAA=="]}}
        ),
        "Lambda layer",
    ),
    "a layer of another module": (_name("os", "system"), "os.system"),
    "a layer that was registered": (
        _name("keras.layers", "Flatten", "mine>Flatten"),
        "mine>Flatten",
    ),
    "a layer without a module": (_name("", "Custom"), "Custom"),
    "a layer of TensorFlow": (_name("keras.layers", "TFSMLayer"), "TFSMLayer"),
    "a layer that reads files": (_name("keras.layers", "StringLookup"), "StringLookup"),
    "a function of Keras": (_name("keras.utils", "get_file"), "get_file"),
    "a function that is no activation": (
        lambda config: layer(config, "Dense")["config"].update(
            activation={"module": "builtins", "class_name": "function", "config": "eval"}
        ),
        "'eval'",
    ),
    "other images": (
        lambda config: layer(config, "InputLayer")["config"].update(batch_shape=[None, 28, 28, 1]),
        r"input must be \(None, S, S, 3\)",
    ),
    "a fixed batch": (
        lambda config: layer(config, "InputLayer")["config"].update(batch_shape=[1, 32, 32, 3]),
        r"input must be \(None, S, S, 3\)",
    ),
    "images of two different sides": (
        lambda config: layer(config, "InputLayer")["config"].update(batch_shape=[None, 32, 48, 3]),
        r"input must be \(None, S, S, 3\)",
    ),
    "images of too small a size": (
        lambda config: layer(config, "InputLayer")["config"].update(batch_shape=[None, 7, 7, 3]),
        "S = 8 to 256",
    ),
    "images of too large a size": (
        lambda config: layer(config, "InputLayer")["config"].update(
            batch_shape=[None, 257, 257, 3]
        ),
        "S = 8 to 256",
    ),
    "an operation that is not one of views": (_operation("Tile", reps=[10**6, 1]), "Tile"),
    "an operation of another module": (
        lambda config: config["config"]["layers"].append(
            {"module": "keras.src.ops.core", "class_name": "Map", "config": {"f": "eval"}}
        ),
        "keras.src.ops.core.Map",
    ),
    "an operation with a further argument": (_operation("Flip", axis=2, out="x"), "out='x'"),
    "an operation with a text for an axis": (_operation("Mean", axis="0"), "axis='0'"),
    "an operation with an object for an axis": (
        _operation("Flip", axis={"class_name": "__numpy__", "config": {}}),
        "calls Flip with axis",
    ),
    "an operation that reshapes to a huge array": (
        _operation("Reshape", newshape=[-1, 10**9]),
        "calls Reshape with newshape",
    ),
    "an operation under another name": (
        lambda config: (
            _operation("Flip", axis=2)(config),
            config["config"]["layers"][-1].update(registered_name="mine>Flip"),
        ),
        "mine>Flip",
    ),
    "too many views in a batch": (_concatenation(17, axis=0), "concatenates 17 arrays"),
    "views counted from the other end": (_concatenation(17, axis=-4), "along the axis -4"),
    "a class that is no name": (
        lambda config: layer(config, "Flatten").update(class_name=["Flatten"], module={}),
        r"\['Flatten'\], which is not a layer",
    ),
    "an activation that is no name": (
        lambda config: layer(config, "Dense")["config"].update(
            activation={"module": "builtins", "class_name": "function", "config": ["relu"]}
        ),
        r"the function \['relu'\]",
    ),
    "a layer without a class": (
        lambda config: layer(config, "Flatten").pop("class_name"),
        "None, which is not a layer",
    ),
    "a part without a class": (
        lambda config: config["config"]["layers"].append({"config": {}}),
        "a layer without a configuration",
    ),
    "no layers": (lambda config: config["config"].update(layers=[]), "without layers"),
    "another format": (
        lambda config: config.update(module="tensorflow.keras"),
        "describes no Keras 3 model",
    ),
    "a huge layer": (
        lambda config: layer(config, "Dense")["config"].update(units=10**9),
        "larger than is allowed",
    ),
    "many large layers": (
        lambda config: layer(config, "Dense").update(
            config={**layer(config, "Dense")["config"], "units": 60_000},
            build_config={"input_shape": [None, 60_000]},
        ),
        "parameters",
    ),
    "a huge array between layers": (
        lambda config: layer(config, "Flatten").update(
            build_config={"input_shape": [None, 4096, 4096, 3]}
        ),
        "larger than is allowed",
    ),
}


@pytest.mark.parametrize("what", CONFIGURATIONS)
def test_a_configuration_is_refused_that_has(folder: ModelFolder, what: str) -> None:
    change, said = CONFIGURATIONS[what]
    change_config(folder, change)
    with pytest.raises(InputError, match=said) as caught:
        folder.check()
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        folder.load_model()


@pytest.mark.parametrize("size", [8, 33, 256])
def test_a_model_folder_says_the_size_of_its_images(tmp_path: Path, size: int) -> None:
    folder = make_model_folder(tmp_path / "model", size=size)
    folder.check(complete=True)
    assert folder.image_size == size
    assert folder.load_model().input_shape == (None, size, size, 3)


@pytest.mark.parametrize("name", ["cnn", "mlp", "mlp-baseline"])
def test_the_embedded_model_folders_pass(name: str) -> None:
    folder = ModelFolder(Path(model_folder.__file__).parents[2] / "pretrained" / name)
    folder.check(complete=True)
    assert folder.image_size == 32


def test_arrays_that_are_larger_than_the_configuration_states_are_refused(tmp_path: Path) -> None:
    import keras

    images = keras.Input((32, 32, 3))
    large = keras.layers.UpSampling2D(100, name="large")(images)
    answer = keras.layers.Dense(6)(keras.layers.GlobalAveragePooling2D(name="pool")(large))
    keras.Model(images, answer).save(tmp_path, zipped=False)
    LABELS.write(tmp_path)
    folder = ModelFolder(tmp_path)

    def lie(config: dict[str, Any]) -> None:
        text = json.dumps(config).replace("[null, 3200, 3200, 3]", "[null, 32, 32, 3]")
        config.update(json.loads(text))

    with pytest.raises(InputError, match="larger than is allowed"):
        folder.check()
    change_config(folder, lie)
    folder.check()
    with pytest.raises(InputError, match=r"3200, 3200, 3\]: larger than is allowed"):
        folder.load_model()


def test_outputs_that_are_not_the_classes_are_refused(folder: ModelFolder) -> None:
    ClassNames("shapes", CLASSES[:5]).write(folder.path)
    with pytest.raises(InputError, match=r"6 outputs and labels\.json names 5"):
        folder.check()


def test_a_configuration_nested_too_deeply_is_refused(folder: ModelFolder) -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"config": deep}
    change_config(folder, lambda config: config["config"].update(deep=deep))
    with pytest.raises(InputError, match="too deeply nested"):
        folder.check()


def test_a_model_inside_a_model_is_looked_through(folder: ModelFolder) -> None:
    inner = copy.deepcopy(json.loads((folder.path / "config.json").read_text()))
    _insert_lambda(inner)
    change_config(folder, lambda config: config["config"]["layers"].append(inner))
    with pytest.raises(InputError, match="Lambda layer"):
        folder.check()


def test_a_compiled_model_is_not_for_publishing(folder: ModelFolder) -> None:
    change_config(folder, lambda config: config.update(compile_config={"optimizer": "sgd"}))
    folder.check()
    with pytest.raises(InputError, match="save it uncompiled"):
        folder.check(complete=True)


# What is refused of weights


def _external_link(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/hostname", "/")


def _soft_link(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["alias"] = h5py.SoftLink("/layers")


def _external_storage(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.create_dataset("raw", (4,), "u1", external=[("/etc/hostname", 0, 4)])


def _virtual(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        layout = h5py.VirtualLayout((4,), "u1")
        layout[:] = h5py.VirtualSource("/etc/hostname", "data", (4,))
        file.create_virtual_dataset("virtual", layout)


def _bomb(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.create_dataset("bomb", (10**6, 10**4), "f4", chunks=True, compression="gzip")


def _objects(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.create_dataset("text", data=["code"], dtype=h5py.string_dtype())


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def _empty(path: Path) -> None:
    path.unlink()
    h5py.File(path, "w").close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_external_link, "holds a link"),
        (_soft_link, "holds a link"),
        (_external_storage, "is in another file"),
        (_virtual, "is in another file"),
        (_bomb, "numbers: more than"),
        (_objects, "of type object"),
        (_truncated, "damaged or not an HDF5 file"),
        (_empty, "holds no weights"),
        (lambda path: path.write_text("no HDF5"), "damaged or not an HDF5 file"),
    ],
)
def test_weights_are_refused_before_keras_opens_them(
    folder: ModelFolder, change: Callable[[Path], object], said: str
) -> None:
    change(folder.path / "model.weights.h5")
    with pytest.raises(InputError, match=said):
        folder.check()


def test_weights_of_another_network_are_refused_on_loading(
    folder: ModelFolder, tmp_path: Path
) -> None:
    other = make_model_folder(tmp_path / "other", units=16)
    (folder.path / "config.json").write_bytes((other.path / "config.json").read_bytes())
    with pytest.raises(InputError, match="cannot load the model"):
        folder.load_model()


# Predictions


def test_predictions_are_never_unpickled(folder: ModelFolder) -> None:
    np.savez(
        folder.path / "predictions.npz",
        probabilities=np.array([object()], dtype=object),
        labels=np.zeros(1, "int32"),
    )
    with pytest.raises(InputError, match="does not hold the arrays"):
        folder.predictions()


@pytest.mark.parametrize(
    "arrays",
    [
        {"labels": np.zeros(3, "int32")},
        {"probabilities": np.zeros((3, 5), "float16"), "labels": np.zeros(3, "int32")},
        {"probabilities": np.zeros((3, 6), "float16"), "labels": np.full(3, 6)},
        {"probabilities": np.full((3, 6), np.nan, "float16"), "labels": np.zeros(3, "int32")},
        {"probabilities": np.zeros((3, 6), "int8"), "labels": np.zeros(3, "int32")},
    ],
)
def test_predictions_of_another_kind_are_refused(
    folder: ModelFolder, arrays: dict[str, np.ndarray]
) -> None:
    np.savez(folder.path / "predictions.npz", **arrays)
    with pytest.raises(InputError, match=r"predictions\.npz"):
        folder.predictions()


def test_predictions_that_unpack_to_too_much_are_refused(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_folder, "MAX_UNPACKED_BYTES", 100)
    with pytest.raises(InputError, match="more than is allowed"):
        folder.predictions()


# Older Keras


def test_a_configuration_holds_nothing_that_the_oldest_promised_keras_does_not_know(
    folder: ModelFolder,
) -> None:
    text = (folder.path / "config.json").read_text()
    assert "kernel_initializer" in text
    assert not [name for name in saved_model.NEW_DEFAULTS if f'"{name}"' in text]


def test_a_newer_setting_that_is_used_is_kept() -> None:
    used = {"rms_scaling": True, "quantization_config": None, "units": 3}
    assert saved_model.for_older_keras([used]) == [{"rms_scaling": True, "units": 3}]


def test_operations_are_written_without_the_name_that_older_keras_does_not_take() -> None:
    operation = {"module": "keras.src.ops.numpy", "class_name": "Flip", "name": "flip"}
    written = saved_model.for_older_keras({**operation, "config": {"name": "flip", "axis": 2}})
    assert written == {**operation, "config": {"axis": 2}}


# Writing


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, lambda temporary: temporary.write_text("one"))

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, lambda temporary: temporary.write_text("two"))
    assert path.read_text() == "two"


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder"

    def write(text: str) -> Callable[[Path], None]:
        def make(temporary: Path) -> None:
            temporary.mkdir()
            (temporary / text).write_text(text)
            if text == "three":
                raise OSError("disk full")

        return make

    write_atomically(path, write("one"))
    write_atomically(path, write("two"))
    assert [item.name for item in path.iterdir()] == ["two"]
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, write("three"))
    assert [item.name for item in path.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [path]


def test_settings_that_an_earlier_version_named_otherwise_have_their_names_of_today(
    folder: ModelFolder, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder.path, copy)
    training = {**folder.training, "settings": {"sparsity": 0.8, "average_flip": True}}
    (copy / "training.json").write_text(json.dumps(training), encoding="utf-8")
    assert ModelFolder(copy).training["settings"] == {"prune_threshold": 0.8, "tta_flip": True}
