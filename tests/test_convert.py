"""Converted models: one file that answers as Keras does, or none."""

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier import command_line, convert
from classifier.architectures import build_network
from classifier.architectures.views import average_views
from classifier.data.labelled_images import label_images
from classifier.data.loading import load_split
from classifier.errors import ClassifierError, InputError
from classifier.formats import onnx_graph
from classifier.hub import card
from classifier.hub.published_files import handler
from classifier.model_folder.folder import ModelFolder
from classifier.prediction.classifier import Classifier, Predict
from classifier.presets import load_preset
from hub_server import Hub
from model_folders import CLASSES, LABELS, make_model_folder
from pictures import encoded, scene

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return make_model_folder(tmp_path_factory.mktemp("models") / "tiny")


def save(path: Path, model: Any) -> ModelFolder:
    """Writes what serving needs of a model."""
    path.mkdir(parents=True)
    model.save(path, zipped=False)
    LABELS.write(path)
    return ModelFolder(path)


def saved(path: Path, build: Callable[[Any], Any]) -> ModelFolder:
    """Writes a model; `build` maps its input to its features."""
    import keras

    keras.utils.set_random_seed(0)
    images = keras.Input((32, 32, 3), name="images")
    features = keras.layers.Flatten()(build(images))
    answer = keras.layers.Dense(len(CLASSES), activation="softmax")(features)
    model = keras.Model(images, answer)
    random = np.random.default_rng(0)
    for weights in model.weights:  # also those that start at zero and at one
        if "normalization" in weights.path:
            weights.assign(random.uniform(0.5, 1.5, weights.shape))
    path.mkdir(parents=True)
    model.save(path, zipped=False)
    LABELS.write(path)
    return ModelFolder(path)


def answers(path: Path, images: np.ndarray) -> np.ndarray:
    """Returns what onnxruntime answers by a file, as any program would ask it."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    (entry,) = session.get_inputs()
    return session.run(None, {entry.name: images.astype(np.float32)})[0]


@pytest.mark.parametrize(
    ("count", "preset", "changes"),
    [
        (2, "mlp-baseline", {"hidden_units": [16]}),
        (2, "cnn", {"channels": [4, 8, 8], "tta_flip": True, "tta_zoom": 0.8}),
        (1, "cnn", {"channels": [4, 8, 8], "tta_flip": False, "tta_zoom": 1.0}),
        (1, "mlp", {"local_units": 64, "width": 16, "depth": 1, "tta_flip": True, "tta_zoom": 0.9}),
        (1, "mlp-tied", {"local_units": 64, "width": 16, "depth": 1}),
    ],
)
def test_every_architecture_answers_as_in_keras_whatever_the_batch(
    tmp_path: Path, count: int, preset: str, changes: dict[str, Any]
) -> None:
    mean, deviation = np.array([120.0, 110.0, 100.0]), np.array([60.0, 61.0, 62.0])
    settings = load_preset(preset).replace(**changes)
    networks = [
        build_network(settings.replace(seed=seed), classes=6, mean=mean, deviation=deviation)
        for seed in range(count)
    ]
    folder = save(tmp_path / "model", average_views(networks, settings))
    path = tmp_path / "model.onnx"
    assert convert.convert(folder, "onnx", path) < 1e-5
    model = folder.load_model()
    for batch in (1, 2, 7):
        images = convert.sample_images(32)[:batch]
        assert np.abs(answers(path, images) - model.predict(images, verbose=0)).max() < 1e-5


@pytest.mark.parametrize("to", convert.FORMATS)
def test_convert_writes_smaller_files_for_half_and_int8(
    to: str, tiny: ModelFolder, tmp_path: Path
) -> None:
    sizes = []
    for precision, difference in {"float32": 1e-4, "half": 1e-2, "int8": 0.2}.items():
        path = tmp_path / f"{precision}{convert.FORMATS[to].suffix}"
        assert convert.convert(tiny, to, path, precision=precision) <= difference
        sizes.append(path.stat().st_size)
    assert sizes[0] > 1.8 * sizes[1] > 1.8 * 1.5 * sizes[2]


def test_files_hold_the_class_names_or_have_them_beside(tiny: ModelFolder, tmp_path: Path) -> None:
    import onnxruntime

    convert.convert(tiny, "onnx", tmp_path / "model.onnx", precision="int8")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (entry,) = session.get_inputs()
    assert (entry.type, entry.shape[1:]) == ("tensor(float)", [32, 32, 3])
    assert isinstance(entry.shape[0], str)
    classes = session.get_modelmeta().custom_metadata_map["classes"]
    assert tuple(json.loads(classes)) == CLASSES
    convert.convert(tiny, "litert", tmp_path / "model.tflite")
    assert (tmp_path / "model.txt").read_text().split() == list(CLASSES)
    assert len(list(tmp_path.iterdir())) == 3


def layers() -> dict[str, Callable[[Any], Any]]:
    """Returns for each layer that is translated to ONNX a use of it."""
    import keras

    of = keras.layers

    def chain(*chosen: Any) -> Callable[[Any], Any]:
        return lambda x: keras.Sequential([of.Rescaling(1 / 128, offset=-1), *chosen])(x)

    def merged(kind: Any) -> Callable[[Any], Any]:
        def build(x: Any) -> Any:
            x = of.Rescaling(1 / 128, offset=-1)(x)
            return kind()([of.Conv2D(3, 3, padding="same")(x), x])

        return build

    def activated(x: Any) -> Any:
        functions = ("gelu", "linear", "relu", "sigmoid", "silu", "softmax", "tanh")
        small = of.Rescaling(1 / 64, offset=-2)(x)
        return of.Concatenate()([of.Activation(name)(small) for name in functions])

    return {
        "Activation": activated,
        "Add": merged(of.Add),
        "AveragePooling2D": chain(of.AveragePooling2D(3, 2, "same"), of.AveragePooling2D(2)),
        "BatchNormalization": chain(of.BatchNormalization(), of.Conv2D(4, 3)),
        "Concatenate": merged(of.Concatenate),
        "Conv2D": chain(
            of.Conv2D(6, 4, strides=2, padding="same", activation="relu"),
            of.Conv2D(4, 3, padding="same", groups=2, use_bias=False),
            of.Conv2D(4, (1, 3)),
        ),
        "Cropping2D": chain(of.Cropping2D(((1, 0), (2, 3)))),
        "Dense": chain(of.Dense(5, activation="tanh"), of.Dense(4, use_bias=False)),
        "DepthwiseConv2D": chain(of.DepthwiseConv2D(3, depth_multiplier=2, padding="same")),
        "Flatten": chain(of.Conv2D(4, 3), of.Flatten()),
        "GlobalAveragePooling2D": chain(of.Conv2D(4, 3), of.GlobalAveragePooling2D()),
        "GlobalMaxPooling2D": chain(of.Conv2D(4, 3), of.GlobalMaxPooling2D(keepdims=True)),
        "LayerNormalization": chain(of.LayerNormalization(), of.LayerNormalization(scale=False)),
        "MaxPooling2D": chain(of.MaxPooling2D(3, 2, "same"), of.MaxPooling2D()),
        "Normalization": chain(of.Normalization(mean=[0.1, 0.2, 0.3], variance=[1, 2, 3])),
        "ReLU": chain(of.ReLU(), of.ReLU(max_value=0.5)),
        "Rescaling": chain(of.Rescaling(2)),
        "Reshape": chain(of.Reshape((16, -1, 3)), of.Conv2D(4, 3)),
        "Resizing": chain(of.Resizing(24, 40)),
        "Softmax": chain(of.Conv2D(4, 3), of.Softmax()),
        "ZeroPadding2D": chain(of.ZeroPadding2D(((1, 2), (3, 0)))),
        "Dropout": chain(of.Dropout(0.5), of.SpatialDropout2D(0.5), of.GaussianNoise(0.5)),
        "RandomFlip": chain(of.RandomFlip(), of.RandomTranslation(0.2, 0.2), of.Identity()),
    }


def test_convert_translates_each_layer_to_onnx_as_keras_computes_it(tmp_path: Path) -> None:
    uses = layers()
    assert uses.keys() >= onnx_graph._LAYERS.keys()
    for name, build in uses.items():
        folder = saved(tmp_path / name, build)
        assert convert.convert(folder, "onnx", tmp_path / f"{name}.onnx") < 2e-5, name


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("GroupNormalization", {"groups": 3}, "GroupNormalization"),
        ("Conv2D", {"filters": 3, "kernel_size": 3, "dilation_rate": 2}, "with dilation_rate"),
        (
            "Resizing",
            {"height": 9, "width": 9, "interpolation": "nearest"},
            "interpolation nearest",
        ),
    ],
)
def test_convert_names_what_is_not_translated(
    name: str, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    import keras

    folder = saved(tmp_path / "model", getattr(keras.layers, name)(**options))
    with pytest.raises(InputError, match=rf"{said}.*convert to litert"):
        convert.convert(folder, "onnx", tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("to", ["onnx", "litert"])
def test_a_file_that_answers_otherwise_is_not_written(
    tiny: ModelFolder, tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = convert.FORMATS[to]

    def wrong(*arguments: Any) -> Predict:
        answer = form.write(*arguments)
        return lambda images: answer(images) * np.float32(1.001)

    monkeypatch.setitem(convert.FORMATS, to, form._replace(write=wrong))
    with pytest.raises(ClassifierError, match="differs from Keras") as caught:
        convert.convert(tiny, to, tmp_path / f"model{form.suffix}")
    assert caught.value.exit_status == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("images", "lost"), [(60, 1), (60, 10), (10_000, 60), (10_000, 100)])
def test_convert_refuses_a_loss_of_top1_that_chance_does_not_explain(
    images: int, lost: int, tiny: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = iter([np.arange(images) >= 0, np.arange(images) >= lost])  # in Keras, and converted
    monkeypatch.setattr(convert, "is_right", lambda *_: next(right))
    pixels = convert.sample_images(32)
    labels = np.zeros(len(pixels), np.int32)
    test = label_images(pixels, labels, list(CLASSES), None, None, dataset="shapes", revision=None)
    refused = lost in (10, 100)
    with (
        pytest.raises(ClassifierError, match=r"100\.00% with Keras.*nothing is written")
        if refused
        else nullcontext()
    ):
        convert.convert(tiny, "onnx", tmp_path / "model.onnx", test=test)
    assert (tmp_path / "model.onnx").exists() is not refused


def test_convert_calibrates_int8_on_training_images_and_judges_it_on_the_test_split(
    tiny_model_folder: Path,
    small_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calibrated: list[np.ndarray] = []
    quantize = convert.quantize
    monkeypatch.setattr(
        convert,
        "quantize",
        lambda path, images: calibrated.append(images) or quantize(path, images),
    )
    data = ["--dataset", str(small_dataset), "--label-column", "fine_label", "--config", "default"]
    output = ["--output", str(tmp_path / "model.onnx")]
    convert.main([str(tiny_model_folder), "--to", "onnx", "--int8", *data, *output])
    training = load_split(str(small_dataset), "train").images
    assert all((training == image).all(axis=(1, 2, 3)).any() for image in calibrated[0][::20])
    assert "% converted: " in capsys.readouterr().out


def test_convert_does_not_replace_a_text_file_that_is_not_its_own(
    tiny: ModelFolder, tmp_path: Path
) -> None:
    names = tmp_path / "model.txt"
    names.write_text("notes of mine")
    with pytest.raises(InputError, match=r"model\.txt exists and holds no class names"):
        convert.convert(tiny, "litert", tmp_path / "model.tflite")
    assert [path.name for path in tmp_path.iterdir()] == ["model.txt"]
    names.write_text("".join(f"{name}\n" for name in CLASSES))
    convert.convert(tiny, "litert", tmp_path / "model.tflite")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: SOURCE, --to"),
        (["MODEL", "--to", "coreml"], "invalid choice: 'coreml'"),
        (["MODEL", "--to", "onnx", "--half", "--int8"], "not allowed with"),
        (["MODEL", "--to", "onnx", "--output", "a.tflite"], "ends with .onnx"),
        (["MODEL", "--to", "onnx", "--dataset", "/nowhere"], "/nowhere"),
    ],
)
def test_a_wrong_call_is_one_line(
    arguments: list[str], message: str, tiny: ModelFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(tiny.path) if item == "MODEL" else item for item in arguments]
    try:
        status = command_line.run(convert.main, arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    output, error = capfd.readouterr()
    assert (status, output) == (2, "")
    assert message in error.strip().splitlines()[-1]


def test_an_onnx_file_is_published_with_a_card_that_says_how_to_run_it(
    hub: Hub, repo_id: str, tmp_path: Path
) -> None:
    import train

    folder = make_model_folder(tmp_path / "model")
    arguments = ["--push", "--from", str(folder.path), "--repo-id", repo_id]
    train.main([*arguments, "--with-onnx"])
    published = hub.models[repo_id].main.files
    assert published["model.onnx"].content == (folder.path / "model.onnx").read_bytes()
    assert 'InferenceSession(folder + "/model.onnx")' in published["README.md"].content.decode()
    assert answers(folder.path / "model.onnx", convert.sample_images(32)).shape == (200, 6)
    (folder.path / "model.onnx").unlink()
    card.write(folder)
    train.main(arguments)  # as after another training: what was the old model's goes
    assert "model.onnx" not in hub.models[repo_id].main.files


def test_the_example_in_the_docs_answers_a_photograph_as_the_app_does(
    tiny: ModelFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "handler.py").write_text(handler(), encoding="utf-8")  # as it is published
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    convert.convert(tiny, "onnx", tmp_path / "mlp-baseline.onnx")
    capsys.readouterr()
    Path("photo.jpg").write_bytes(encoded(scene(500, 311), "JPEG"))
    text = (PROJECT / "docs" / "formats.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n([^`]*import onnxruntime\n[^`]*)```", text)
    exec(code, {})
    name, probability = capsys.readouterr().out.split()
    expected = Classifier.load(tiny).classify("photo.jpg")
    assert name == expected.labels[0]
    assert float(probability) == pytest.approx(expected.probabilities[0], abs=1e-5)
