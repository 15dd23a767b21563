"""Presets and settings: what is written in them holds, and what cannot be is refused."""

import inspect
import re
from pathlib import Path

import keras
import pytest
import yaml

from classifier.errors import InputError
from classifier.presets import (
    PRESETS,
    current_names,
    load_preset,
    parse_overrides,
    preset_names,
)
from classifier.settings import ARCHITECTURES, AUGMENTATIONS, OPTIMIZERS, SCHEDULES, Settings


def test_load_preset_reads_each_preset_whose_header_states_what_it_reaches():
    assert preset_names() == ["cnn", "fine-tune", "mlp", "mlp-alone", "mlp-baseline", "mlp-tied"]
    for name in preset_names():
        settings = load_preset(name)
        assert settings.preset == name
        header = (PRESETS / f"{name}.yaml").read_text().split("\n\n")[0]
        assert header.startswith("# ")
        for word in ("top-1", "python train.py", "2026"):
            assert word in header, f"the header of {name}.yaml does not state its {word}"


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
        ({"dropout": 1.0}, "dropout must be less than 1. Received: 1.0"),
        ({"dropout": True}, "dropout must be a valid number. Received: True"),
        ({"epochs": 0}, "epochs must be greater than 0. Received: 0"),
        ({"hidden_units": []}, "hidden_units must have at least 1 item"),
        ({"hidden_units": [64, 0]}, "hidden_units must be greater than 0. Received: [64, 0]"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number"),
        ({"optimizer": "adam"}, "optimizer must be one of sgd, adamw, lion. Received: 'adam'"),
        ({"image_size": 7}, "image_size must be greater than or equal to 8"),
        ({"epochs": 2**31}, "epochs must be less than 2147483648"),
        ({"precision": "half"}, "precision must be 'auto', 'float32' or 'bfloat16'"),
        ({"class_weight_power": 1.1}, "class_weight_power must be less than or equal to 1"),
        ({"preset": "../x"}, "preset must match pattern"),
        ({"local_units": 8}, "local_units go with architecture: local_mlp"),
        ({"dropuot": 0.1}, "dropuot must be a setting"),
    ],
)
def test_settings_refuse_an_impossible_value_in_one_line(changes, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        Settings().replace(**changes)
    assert "\n" not in str(caught.value)


def test_every_choice_can_be_built_and_every_augmentation_is_off_by_default_and_used():
    package = Path(inspect.getfile(Settings)).parent
    for name in ARCHITECTURES:
        assert "def hidden(" in (package / f"architectures/{name}.py").read_text(), name
    for name, choice in OPTIMIZERS.items():
        options = choice.options(Settings(optimizer=name))
        assert getattr(keras.optimizers, choice.class_name)(**options), name
    for name, choice in SCHEDULES.items():
        if choice.class_name:
            options = choice.options(Settings(schedule=name), 3)
            assert getattr(keras.optimizers.schedules, choice.class_name)(**options), name
    source = (package / "training/augmentation.py").read_text()
    for name in AUGMENTATIONS:
        assert f"settings.{name}" in source, name
        assert getattr(Settings(), name) in (0, 1), name
    for name in re.findall(r"settings\.(\w+)", source):
        others = ("image_size", "seeds", "mixup_probability")
        assert name in AUGMENTATIONS or name in others, f"{name} is missing in AUGMENTATIONS"


def test_current_names_reads_the_settings_of_earlier_versions():
    recorded = {"sparsity": 0.8, "architecture": "residual_mlp", "local_units": 40}
    expected = {"prune_threshold": 0.8, "architecture": "local_mlp", "local_units": 40}
    assert current_names(recorded) == expected
    assert current_names({"architecture": "residual_mlp"}) == {"architecture": "residual_mlp"}


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
        (b"\x89PNG\r\n\x1a\n\x00\xff", "is not valid YAML"),
        (b"learning_rate: .inf", "learning_rate must be a finite number"),
        (b"[" * 100_000, "is not valid YAML"),
        (b"epochs: 2024-13-45", "is not valid YAML: month must be in 1..12"),
        (b"seed: " + b"9" * 5000, "is not valid YAML"),
        (b"seed: !!int x", "is not valid YAML"),
        (b"preset: ..", "preset must match pattern"),
        (b'preset: "a\\nb"', "preset must match pattern"),
    ],
)
def test_a_preset_that_cannot_be_read_as_meant_is_refused(content, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message)):
        load_preset(path)
