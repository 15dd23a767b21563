"""Presets and settings: what is written in them holds, and what cannot be is refused."""

import dataclasses
import os
import re

import pytest
import yaml

from classifier.errors import InputError
from classifier.settings import (
    PRESETS,
    Settings,
    load_preset,
    parse_overrides,
    preset_names,
)


def test_the_presets_are_there_and_state_what_they_reach():
    assert preset_names() == ["cnn", "fine-tune", "mlp", "mlp-alone", "mlp-baseline", "mlp-tied"]
    for name in preset_names():
        settings = load_preset(name)
        assert settings.preset == name
        header = (PRESETS / f"{name}.yaml").read_text().split("\n\n")[0]
        assert header.startswith("# ")
        for word in ("top-1", "python train.py", "2026"):
            assert word in header, f"the header of {name}.yaml does not state its {word}"


def test_the_baseline_is_the_classic_recipe():
    settings = load_preset("mlp-baseline")
    assert settings.architecture == "mlp"
    assert settings.optimizer == "sgd"
    assert settings.schedule == "plateau"
    assert settings.early_stopping_patience > 0
    assert settings.dropout > 0
    assert settings.l2 > 0
    assert (settings.flip, settings.crop_area, settings.mixup) == (0, 1, 0)


def test_settings_survive_json_and_yaml():
    settings = load_preset("mlp").replace(seed=7)
    assert Settings(**yaml.safe_load(yaml.safe_dump(settings.to_dict()))) == settings


@pytest.mark.parametrize(
    ("pair", "name", "value"),
    [
        ("dropout=0.2", "dropout", 0.2),
        ("learning_rate=1e-3", "learning_rate", 0.001),
        ("hidden_units=[64, 32]", "hidden_units", (64, 32)),
        ("hidden_units=64", "hidden_units", (64,)),
        ("calibrate=false", "calibrate", False),
        ("l2=0", "l2", 0.0),
        ("teacher=", "teacher", ""),
    ],
)
def test_an_override_is_read_as_the_type_of_its_setting(pair, name, value):
    changed = Settings().replace(**parse_overrides([pair]))
    assert getattr(changed, name) == value
    assert type(getattr(changed, name)) is type(value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropout": 1.0}, "dropout must lie between 0 and 1"),
        ({"dropout": -0.1}, "dropout must lie between 0 and 1"),
        ({"dropout": "much"}, "dropout must be a number"),
        ({"dropout": True}, "dropout must be a number"),
        ({"epochs": 0}, "epochs must be greater than 0"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"hidden_units": []}, "hidden_units must hold at least one number"),
        ({"hidden_units": [64, 0]}, "hidden_units must be greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be greater than 0"),
        ({"l2": float("nan")}, "l2 must not be negative or infinite"),
        ({"l2": float("inf")}, "l2 must not be negative or infinite"),
        ({"optimizer": "adam"}, "optimizer must be one of sgd, adamw, lion"),
        ({"validation_fraction": 0}, "validation_fraction must be greater than 0"),
        ({"crop_area": 0.0}, "crop_area must lie between"),
        ({"calibrate": 1}, "calibrate must be true or false"),
        ({"image_size": 7}, "image_size must lie between 8 and 256 pixels"),
        ({"image_size": 257}, "image_size must lie between 8 and 256 pixels"),
        ({"image_size": 32.5}, "image_size must be a whole number"),
        ({"shift": 33}, "shift must lie between 0 and 32 pixels"),
        ({"clip_norm": 1e300}, "clip_norm is too small or too large for a network"),
        ({"clip_norm": 1e-300}, "clip_norm is too small or too large for a network"),
        ({"learning_rate": 1e-300}, "learning_rate is too small or too large for a network"),
        ({"warmup_epochs": 1e15}, "warmup_epochs must lie between 0 and 2147483647"),
        ({"epochs": 2**31}, "epochs must be at most 2147483647"),
        ({"hidden_units": [8, 10**30]}, "hidden_units must be at most 2147483647"),
        ({"precision": "half"}, "precision must be one of auto, float32, bfloat16"),
    ],
)
def test_an_impossible_value_is_refused_with_its_name_and_range(changes, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")) as caught:
        Settings().replace(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["2024-13-45", "9" * 5000, "!!int x", "!!bool x", "!!timestamp x", "[" * 5000, "{"]
)
def test_an_override_that_yaml_cannot_read_is_refused(value):
    with pytest.raises(InputError, match="--set seed: cannot read the value"):
        parse_overrides([f"seed={value}"])


def test_an_unknown_name_is_refused_with_the_list_of_those_that_exist():
    with pytest.raises(InputError, match="Did you mean 'dropout'") as caught:
        parse_overrides(["dropuot=0.1"])
    for field in dataclasses.fields(Settings):
        assert field.name in str(caught.value)


def test_a_preset_is_data_and_is_never_executed(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text("epochs: !!python/object/apply:os.system ['touch owned']\n")
    with pytest.raises(InputError, match="not valid YAML"):
        load_preset(path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("content", ["- a\n- b\n", "just a text", "1: 2\n", ""])
def test_a_file_that_is_no_preset_is_refused(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match="is not a preset"):
        load_preset(path)


def test_a_preset_of_ones_own_is_read_from_its_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("# mine\nepochs: 3\nhidden_units: [8]\n")
    settings = load_preset(path)
    assert (settings.preset, settings.epochs, settings.hidden_units) == ("mine", 3, (8,))


def test_a_setting_that_is_given_twice_is_refused():
    for pairs in (["dropout=0.1", "dropout=0.2"], ["dropout=0.1", "l2=0", " dropout =0.1"]):
        with pytest.raises(InputError, match="--set names dropout twice"):
            parse_overrides(pairs)
    with pytest.raises(InputError, match="seed is given twice"):
        parse_overrides(["seed=1"], seed=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"dropout: 0.1\nl2: 0.1\ndropout: 0.2\n", "'dropout' is given twice"),
        (b"search:\n  dropout: [0.1]\n  dropout: [0.2]\n", "'dropout' is given twice"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "is not a text file"),
        (b"dropout: \x00\x01", "is not valid YAML"),
        (b"learning_rate: .inf", "learning_rate must be greater than 0 and finite"),
        (b"learning_rate: 1" + b"0" * 400, "learning_rate must be a number"),
        (b"[" * 100_000, "nested too deeply"),
        (b"epochs: 2024-13-45", "is not valid YAML: month must be in 1..12"),
        (b"seed: " + b"9" * 5000, "is not valid YAML"),
        (b"seed: !!int x", "is not valid YAML"),
        (b"seed: !!bool x", "is not valid YAML"),
        (b"seed: !!timestamp x", "is not valid YAML"),
        (b"preset: /tmp/x", "preset must be a name"),
        (b"preset: ../x", "preset must be a name"),
        (b"preset: ..", "preset must be a name"),
        (b"preset:", "preset must be a name"),
        (b'preset: "a\\nb"', "preset must be a name"),
    ],
)
def test_a_preset_that_cannot_be_read_as_meant_is_refused(content, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message)):
        load_preset(path)


@pytest.mark.parametrize("name", ["dropout", "hidden_units", "optimizer", "teacher", "calibrate"])
def test_lists_that_repeat_one_another_a_billion_times_are_refused_at_once(name, tmp_path):
    path = tmp_path / "mine.yaml"
    levels = [f"a{level}: &a{level} [{f'*a{level - 1}, ' * 9}]" for level in range(1, 12)]
    path.write_text(f"{name}: [{{a0: &a0 [x], {', '.join(levels)}}}]\n")
    with pytest.raises(InputError, match=name) as refused:
        load_preset(path)
    assert len(str(refused.value)) < 300


def test_a_pipe_is_no_preset_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "mine.yaml")
    with pytest.raises(InputError, match="name a YAML file that exists"):
        load_preset(tmp_path / "mine.yaml")
