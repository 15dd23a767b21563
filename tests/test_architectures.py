"""What is exported: built-in layers alone, dense ones where the name says so, and what it costs."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from classifier.architectures import build_network, flops_per_image
from classifier.architectures.local_start import local_kernel, pixel_places
from classifier.errors import InputError
from classifier.settings import Settings, load_preset
from classifier.training import export
from classifier.training.augmentation import sampling_matrix
from classifier.training.calibration import calibrate, fit_temperature, fold_temperature
from classifier.training.distillation import soften
from classifier.training.training_data import Images

MEAN, DEVIATION = np.full(3, 120.0, "float32"), np.full(3, 65.0, "float32")
SMALL = {
    "mlp": Settings(architecture="mlp", hidden_units=(24, 16), dropout=0.1, l2=1e-4),
    "residual_mlp": Settings(architecture="residual_mlp", width=16, depth=2, expansion=2),
    "local": Settings(
        architecture="residual_mlp", local_units=40, local_patches=(7, 12), width=16, depth=1
    ),
    "cnn": Settings(architecture="cnn", channels=(4, 6, 8), l2=1e-4),
}
DENSE_LAYERS = {
    *("InputLayer", "Normalization", "Flatten", "Dense", "Dropout", "LayerNormalization"),
    *("Add", "Average"),
}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3)).astype("uint8")


def build(settings: Settings, classes: int = 7) -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_network(settings, classes=classes, mean=MEAN, deviation=DEVIATION)


def layer_classes(folder: Path) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            if "class_name" in node and "module" in node and "config" in node:
                found.append((node["module"] or "", node["class_name"]))
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(json.loads((folder / "config.json").read_text()))
    return found


@pytest.mark.parametrize("name", SMALL)
def test_the_exported_config_holds_built_in_layers_only(name, tmp_path, images):
    views = {} if name == "cnn" else {"tta_flip": True, "tta_zoom": 0.7}
    settings = SMALL[name].replace(**views)
    model = export.exportable(build(settings), settings, mean=MEAN, deviation=DEVIATION)
    export.save_model(model, tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == set(export.SAVED_FILES)
    found = layer_classes(tmp_path)
    assert all(module == "" or module.split(".")[0] == "keras" for module, _ in found)
    layers = {name for module, name in found if module == "keras.layers"}
    assert "Lambda" not in layers
    if name != "cnn":
        assert layers <= DENSE_LAYERS
    loaded = keras.saving.load_model(tmp_path)
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6
    )


def test_the_presets_keep_within_their_architectures_and_sizes():
    for name in ("mlp-baseline", "mlp"):
        network = build(load_preset(name), classes=100)
        assert {type(layer).__name__ for layer in network.layers} <= DENSE_LAYERS
    assert build(load_preset("cnn"), classes=100).count_params() <= 1_500_000


def test_averaging_flips_answers_with_the_mean_over_image_and_mirror_image(images):
    settings = SMALL["residual_mlp"].replace(tta_flip=True)
    plain = build(settings)
    averaged = export.exportable(plain, settings, mean=MEAN, deviation=DEVIATION)
    expected = plain.predict(images, verbose=0) + plain.predict(images[:, :, ::-1], verbose=0)
    np.testing.assert_allclose(averaged.predict(images, verbose=0), expected / 2, atol=1e-5)
    np.testing.assert_allclose(
        averaged.predict(images, verbose=0),
        averaged.predict(images[:, :, ::-1], verbose=0),
        atol=1e-5,
    )


def test_averaging_a_zoom_answers_with_the_mean_over_the_image_and_its_enlarged_middle(images):
    settings = SMALL["mlp"].replace(tta_zoom=0.5)
    plain = build(settings)
    averaged = export.exportable(plain, settings, mean=MEAN, deviation=DEVIATION)
    matrix = sampling_matrix(np.float32([8]), np.float32([0.5]), np.float32([0]))
    matrix = keras.ops.convert_to_numpy(matrix)[0]
    middle = np.einsum("ij,lk,njkc->nilc", matrix, matrix, images)
    expected = plain.predict(images, verbose=0) + plain.predict(middle, verbose=0)
    np.testing.assert_allclose(averaged.predict(images, verbose=0), expected / 2, atol=1e-5)


def test_averaging_views_of_a_convolutional_network_is_refused():
    with pytest.raises(InputError, match="dense layers on pixels"):
        export.average_views(build(SMALL["cnn"]), flip=True)


def test_half_precision_storage_halves_the_file_and_hardly_moves_the_answers(tmp_path, images):
    model = build(SMALL["residual_mlp"].replace(width=96))
    for half in (False, True):
        (tmp_path / str(half)).mkdir()
        export.save_model(model, tmp_path / str(half), half=half)
    sizes = [(tmp_path / str(half) / export.WEIGHTS).stat().st_size for half in (True, False)]
    assert sizes[0] < 0.7 * sizes[1]
    loaded = keras.saving.load_model(tmp_path / "True")
    assert loaded.weights[0].dtype == "float32"
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-2
    )


def test_weights_below_the_highest_threshold_are_not_exported():
    settings = SMALL["local"].replace(prune_threshold=0.5, learning_rate=0.02)
    network = build(settings)
    model = export.exportable(network, settings, mean=MEAN, deviation=DEVIATION)
    for name in ("local_1", "local_2"):
        before, after = (x.get_layer(name).get_weights()[0] for x in (network, model))
        np.testing.assert_array_equal(after, np.where(np.abs(before) < 0.01, 0, before))
        assert np.any(after)
        assert name == "local_2" or np.any((before != 0) & (after == 0))
    for name in ("pixels", "expand_1", "probabilities"):
        before, after = (x.get_layer(name).get_weights()[0] for x in (network, model))
        np.testing.assert_array_equal(after, before)


def test_a_network_trained_in_bfloat16_is_exported_in_float32(images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        trained = build(SMALL["residual_mlp"])
        model = export.exportable(trained, SMALL["residual_mlp"], mean=MEAN, deviation=DEVIATION)
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(layer.dtype_policy.name == "float32" for layer in model.layers)
    for before, after in zip(trained.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_flops_count_two_for_each_weight_of_a_dense_layer_and_each_use_of_a_convolution():
    assert flops_per_image(build(SMALL["mlp"])) == 2 * (3072 * 24 + 24 * 16 + 16 * 7)
    stem, stages = 32 * 32 * 27 * 4, 16 * 16 * 36 * 6 + 8 * 8 * (54 * 8 + 72 * 8)
    assert flops_per_image(build(SMALL["cnn"])) == 2 * (stem + stages + 8 * 7)
    settings = SMALL["mlp"].replace(tta_flip=True)
    both = export.exportable(build(settings), settings, mean=MEAN, deviation=DEVIATION)
    assert flops_per_image(both) == 2 * flops_per_image(build(SMALL["mlp"]))


def test_a_local_layer_starts_with_weights_to_the_pixels_around_each_unit_alone():
    random = np.random.default_rng(0)
    places = random.uniform(8, 24, (20, 2))
    kernel = local_kernel(pixel_places(32), places, 9, random)
    seen = (kernel.reshape(32, 32, 3, 20) != 0).any(axis=2)
    for unit, place in enumerate(places):
        for axis, positions in enumerate(np.nonzero(seen[:, :, unit])):
            assert np.ptp(positions) == 8
            assert abs(positions.mean() + 0.5 - place[axis]) <= 0.5
    assert kernel[kernel != 0].std() == pytest.approx(np.sqrt(2 / (3 * 9**2)), rel=0.05)


def test_a_second_local_layer_sees_units_around_it_and_the_same_seed_draws_the_same_network():
    settings = SMALL["local"]
    network, again = build(settings), build(settings)
    kernel = network.get_layer("local_2").get_weights()[0]
    assert 0.02 < np.mean(kernel != 0) < 0.3
    for one, other in zip(network.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    other = build(settings.replace(seed=1)).get_layer("local_2").get_weights()[0]
    assert not np.array_equal(kernel, other)


def test_folding_the_temperature_changes_probabilities_and_not_the_order(images):
    model = build(SMALL["mlp"])
    before = model.predict(images, verbose=0)
    fold_temperature(model, 2.5)
    after = model.predict(images, verbose=0)
    np.testing.assert_allclose(after, soften(before, 2.5), atol=1e-5)
    np.testing.assert_array_equal(before.argsort(axis=1), after.argsort(axis=1))
    assert after.max() < before.max()


def test_the_temperature_of_overconfident_answers_is_found():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (4000, 10))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(10, p=row) for row in true])
    overconfident = soften(true, 1 / 3)
    assert fit_temperature(overconfident[None], labels) == pytest.approx(3, rel=0.08)
    assert fit_temperature(true[None], labels) == pytest.approx(1, rel=0.08)


def test_the_mean_of_views_is_as_sure_as_it_is_right():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (4000, 10))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(10, p=row) for row in true])
    noise = random.normal(0, 1, (4, 4000, 10))  # each view sees it a little differently
    views = np.exp(3 * (logits + noise)) / np.exp(3 * (logits + noise)).sum(axis=2, keepdims=True)
    temperature = fit_temperature(views, labels)
    answers = np.mean([soften(view, temperature) for view in views], axis=0)
    right = np.mean(answers.argmax(axis=1) == labels)
    assert temperature > 1.5
    assert answers.max(axis=1).mean() == pytest.approx(right, abs=0.005)


@pytest.mark.parametrize("average", [False, True])
def test_calibration_lowers_the_loss_on_validation(average, images):
    settings = SMALL["mlp"].replace(tta_flip=average)
    model = export.exportable(build(settings), settings, mean=MEAN, deviation=DEVIATION)
    last = model.get_layer("probabilities")
    last.set_weights([20 * array for array in last.get_weights()])
    labels = np.random.default_rng(1).integers(0, 7, len(images))
    data = Images(images, np.eye(7, dtype="float32")[labels])

    def loss() -> float:
        chosen = model.predict(images, verbose=0)[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    before = loss()
    temperature = calibrate(model, data)
    assert temperature > 1.5
    assert loss() < before
