"""What is exported: built-in layers alone, dense ones where the name says so, and what it costs."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from classifier.architectures import build_network
from classifier.architectures.cnn import poolings
from classifier.architectures.flops import flops_per_image
from classifier.architectures.local_start import local_kernel, pixel_positions, start_from_patches
from classifier.architectures.views import average_views, networks_of
from classifier.model_folder import saved_model
from classifier.model_folder.folder import ClassNames, ModelFolder
from classifier.presets import load_preset
from classifier.settings import Settings
from classifier.training import saving

MEAN, DEVIATION = np.full(3, 120.0, "float32"), np.full(3, 65.0, "float32")
SMALL = {
    "mlp": Settings(architecture="mlp", hidden_units=(24, 16), dropout=0.1, l2=1e-4),
    "residual_mlp": Settings(architecture="residual_mlp", width=16, depth=2, expansion=2),
    "local": Settings(
        architecture="local_mlp", local_units=40, local_patches=(7, 12), width=16, depth=1
    ),
    "cnn": Settings(architecture="cnn", channels=(4, 6, 8), l2=1e-4),
}
DENSE_LAYERS = {
    *("InputLayer", "Normalization", "Flatten", "Dense", "Dropout", "LayerNormalization"),
    "Add",
}
# With which the answer is the mean over views, on either side of the network.
VIEW_LAYERS = {"Cropping2D", "Resizing", "Concatenate"}
VIEW_OPERATIONS = {"Flip", "Reshape", "Mean"}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3)).astype("uint8")


def build(settings: Settings, classes: int = 7) -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_network(settings, classes=classes, mean=MEAN, deviation=DEVIATION)


def exported(network: keras.Model, settings: Settings, **options: Any) -> keras.Model:
    return saving.exportable(network, settings, mean=MEAN, deviation=DEVIATION, **options)


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
    settings = SMALL[name].replace(tta_flip=True, tta_zoom=0.7)
    model = exported(build(settings), settings)
    saving.save_model(model, tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "metadata.json",
        "model.weights.h5",
    }
    found = layer_classes(tmp_path)
    assert all(module == "" or module.split(".")[0] == "keras" for module, _ in found)
    assert {name for module, name in found if ".ops." in module} == VIEW_OPERATIONS
    layers = {name for module, name in found if module == "keras.layers"}
    assert layers <= saved_model.LAYERS
    if name != "cnn":
        assert layers <= DENSE_LAYERS | VIEW_LAYERS
    ClassNames("shapes", tuple("abcdefg")).write(tmp_path)
    loaded = ModelFolder(tmp_path).load_model()
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6
    )


def test_the_presets_keep_within_their_architectures_and_sizes():
    for name in ("mlp-baseline", "mlp"):
        network = build(load_preset(name), classes=100)
        assert {type(layer).__name__ for layer in network.layers} <= DENSE_LAYERS
    assert build(load_preset("cnn"), classes=100).count_params() <= 7_000_000


@pytest.mark.parametrize("size", [8, 20, 33])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_the_answer_is_the_mean_over_the_image_its_enlarged_middle_mirror_images_and_corners(
    name, size
):
    settings = SMALL[name].replace(tta_flip=True, tta_zoom=0.6, tta_corners=0.8, image_size=size)
    plain = build(settings)
    averaged = exported(plain, settings)
    images = np.random.default_rng(0).integers(0, 256, (5, size, size, 3)).astype("float32")
    margin = round(size * 0.4 / 2)
    middle = enlarged(images[:, margin : size - margin, margin : size - margin], size)
    views = [images, middle, images[:, :, ::-1], middle[:, :, ::-1]]
    crop = size - round(size * 0.2)
    views += [enlarged(images[:, :crop, :crop], size), enlarged(images[:, -crop:, -crop:], size)]
    views += [enlarged(images[:, :crop, -crop:], size)[:, :, ::-1]]
    views += [enlarged(images[:, -crop:, :crop], size)[:, :, ::-1]]
    expected = np.mean([plain.predict(view, verbose=0) for view in views], axis=0)
    np.testing.assert_allclose(averaged.predict(images, verbose=0), expected, atol=1e-5)
    called = keras.ops.convert_to_numpy(averaged(images))  # as users may, without `predict`
    np.testing.assert_allclose(called, expected, atol=1e-5)


def test_a_committee_is_the_mean_of_the_network_and_its_teacher_s_networks(tmp_path, images):
    settings = SMALL["local"].replace(tta_flip=True, teacher="other", average_teacher=True)
    first, second = build(settings), build(SMALL["residual_mlp"])
    of_teacher = exported(second, SMALL["residual_mlp"].replace(tta_flip=True, tta_zoom=0.7))
    both = exported(first, settings, others=networks_of(of_teacher))
    views = images, images[:, :, ::-1]
    answers = [[x.predict(view, verbose=0) for view in views] for x in (first, second)]
    np.testing.assert_allclose(both.predict(images, verbose=0), np.mean(answers, (0, 1)), atol=1e-5)
    saving.save_model(both, tmp_path)
    ClassNames("shapes", tuple("abcdefg")).write(tmp_path)
    loaded = ModelFolder(tmp_path).load_model()
    assert loaded.count_params() == first.count_params() + second.count_params()
    one_view = average_views(networks_of(loaded), Settings())
    expected = np.mean([answer[0] for answer in answers], axis=0)
    np.testing.assert_allclose(one_view.predict(images, verbose=0), expected, atol=1e-5)
    more = exported(first, settings, others=networks_of(loaded))  # a teacher of two
    expected = np.mean([*answers[0], *answers[0], *answers[1]], axis=0)
    np.testing.assert_allclose(more.predict(images, verbose=0), expected, atol=1e-5)


def enlarged(images: np.ndarray, size: int) -> np.ndarray:
    """Returns images, float32, (N, H, W, 3), brought to a size by Pillow."""
    return np.stack(
        [
            np.stack(
                [
                    Image.fromarray(channel).resize((size, size), Image.Resampling.BILINEAR)
                    for channel in image.transpose(2, 0, 1)
                ],
                axis=-1,
            )
            for image in images
        ]
    )


def test_every_size_and_number_of_stages_gives_a_last_map_of_4_to_8_pixels_a_side():
    for size in range(8, 257):
        for stages in range(6):
            in_stem, in_stages = poolings(size, stages)
            assert 4 <= size // 2 ** (in_stem + in_stages) <= 8
            assert in_stages <= stages


def test_the_cnn_for_32_pixels_has_the_layers_that_its_trainings_were_saved_with():
    names = [layer.name for layer in build(Settings(architecture="cnn")).layers]
    convolution = ["_convolution", "_normalisation", "_relu"]
    pooled = ["_convolution", "_pool", "_normalisation", "_relu"]
    expected = ["images", "normalisation", *(f"stem{end}" for end in convolution)]
    for stage in (1, 2, 3):
        expected += [f"stage_{stage}{end}" for end in pooled]
        if stage != 2:
            expected += [f"residual_{stage}_{i}{end}" for i in (1, 2) for end in convolution]
            expected.append(f"add_{stage}")
    assert names == [*expected, "pool", "logit_scale", "probabilities"]


def test_half_precision_storage_halves_the_file_and_hardly_moves_the_answers(tmp_path, images):
    model = build(SMALL["residual_mlp"].replace(width=96))
    for half in (False, True):
        (tmp_path / str(half)).mkdir()
        saving.save_model(model, tmp_path / str(half), half=half)
    sizes = [(tmp_path / str(half) / saving.WEIGHTS).stat().st_size for half in (True, False)]
    assert sizes[0] < 0.7 * sizes[1]
    loaded = keras.saving.load_model(tmp_path / "True")
    assert loaded.weights[0].dtype == "float32"
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-2
    )


def test_weights_below_the_highest_threshold_are_not_exported():
    settings = SMALL["local"].replace(prune_threshold=0.5, learning_rate=0.02)
    network = build(settings)
    model = exported(network, settings)
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
        model = exported(trained, SMALL["residual_mlp"])
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(layer.dtype_policy.name == "float32" for layer in model.layers)
    for before, after in zip(trained.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_flops_count_two_for_each_weight_of_a_dense_layer_and_each_use_of_a_convolution():
    assert flops_per_image(build(SMALL["mlp"])) == 2 * (3072 * 24 + 24 * 16 + 16 * 7)
    stem, first = 32 * 32 * 27 * 4, 32 * 32 * 36 * 6 + 2 * 16 * 16 * 54 * 6
    second = 16 * 16 * 54 * 8  # a stage's convolution comes before its pooling
    assert flops_per_image(build(SMALL["cnn"])) == 2 * (stem + first + second + 8 * 7)
    settings = SMALL["mlp"].replace(tta_flip=True)
    both = exported(build(settings), settings)
    assert flops_per_image(both) == 2 * flops_per_image(build(SMALL["mlp"]))
    for name, size in (("cnn", 32), ("cnn", 64), ("local", 20)):
        settings = SMALL[name].replace(tta_flip=True, tta_zoom=0.7, image_size=size)
        plain = build(settings)
        assert flops_per_image(exported(plain, settings)) == 4 * flops_per_image(plain)


@pytest.mark.parametrize("size", [20, 32])
def test_whitened_patches_stand_where_the_random_weights_would_and_ignore_brightness(size):
    settings = SMALL["local"].replace(image_size=size)
    random = np.random.default_rng(0)
    smooth = random.normal(0, 10, (800, size, size, 3))
    for axis in (1, 2):
        smooth = sum(np.roll(smooth, steps, axis) for steps in range(4))
    images = np.clip(128 + smooth, 0, 255).astype("uint8")
    started, plain = build(settings), build(settings)
    start_from_patches(plain, images[:400], settings)  # local_filters: random
    for one, other in zip(started.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)

    start_from_patches(started, images[:400], settings.replace(local_filters="patches"))
    before, after = (x.get_layer("local_1").get_weights()[0] for x in (plain, started))
    side = round(7 * size / 32)
    for unit in range(40):
        rows, columns, _ = np.nonzero(after[:, unit].reshape(size, size, 3))
        assert np.ptp(rows) == np.ptp(columns) == side - 1
        inside = (after[:, unit] != 0) & (before[:, unit] != 0)
        assert inside.sum() > 0.5 * (before[:, unit] != 0).sum()
    others = (images[400:].reshape(400, -1) - images.mean()) / images.std()
    assert (others @ after).var(axis=0).mean() == pytest.approx(2, rel=0.1)

    def share_of_brightness(kernel: np.ndarray) -> float:
        return float(np.mean(kernel.sum(axis=0) ** 2 / (kernel**2).sum(axis=0)))

    assert share_of_brightness(after) < 0.2 * share_of_brightness(before)
    for one, other in zip(started.layers, plain.layers, strict=True):
        if one.name != "local_1":
            for weights, others in zip(one.get_weights(), other.get_weights(), strict=True):
                np.testing.assert_array_equal(weights, others)


def test_a_local_layer_starts_with_weights_to_the_pixels_around_each_unit_alone():
    random = np.random.default_rng(0)
    places = random.uniform(8, 24, (20, 2))
    kernel = local_kernel(pixel_positions(32), places, 9, random)
    seen = (kernel.reshape(32, 32, 3, 20) != 0).any(axis=2)
    for unit, place in enumerate(places):
        for axis, positions in enumerate(np.nonzero(seen[:, :, unit])):
            assert np.ptp(positions) == 8
            assert abs(positions.mean() + 0.5 - place[axis]) <= 0.5
    assert kernel[kernel != 0].std() == pytest.approx(np.sqrt(2 / (3 * 9**2)), rel=0.05)


def test_convolutions_of_large_images_leave_no_pixel_out() -> None:
    changes = {"image_size": 64, "local_units": 128, "width": 8, "depth": 1}
    network = build(load_preset("mlp-tied").replace(**changes))
    layer = network.get_layer("local_1")
    assert (layer.kernel_size, layer.strides) == ((14, 14), (8, 8))
    assert network.get_layer("local_2").kernel_size == (3, 3)  # of the map before
