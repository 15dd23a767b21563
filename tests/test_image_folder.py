"""Folders and ZIPs of images: what comes out is what lies there, and the rest is told."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier.data.loading import Split, load_split
from classifier.errors import InputError
from classifier.settings import load_preset
from classifier.training.training_data import TrainingData, load_training_data
from data_files import encode


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives each test a cache of its own."""
    monkeypatch.setenv("CIFAR100_MLP_CACHE", str(tmp_path / "cache"))


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


_seeds = iter(range(10**9))


def write(folder: Path, counts: Mapping[str, int], suffix: str = ".png") -> None:
    """Writes that many images, each unlike any other, into these folders."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            file = folder / name / f"{number}{suffix}"
            file.write_bytes(encode(picture(next(_seeds))))


def counts(split: Split) -> dict[str, int]:
    found = np.bincount(split.labels, minlength=len(split.classes))
    return {name: int(count) for name, count in zip(split.classes, found, strict=True)}


def refusal(dataset: Path, split: str = "train", **options: Any) -> str:
    """Returns the one line with which loading is refused."""
    with pytest.raises(InputError) as refused:
        load_split(str(dataset), split, **options)
    message = str(refused.value)
    assert "\n" not in message
    assert "row" not in message
    return message


def training_data(dataset: Path) -> TrainingData:
    return load_training_data(str(dataset), None, load_preset("mlp-baseline"))


class TestNames:
    """A split is what lies below its folder, and no other name means anything."""

    @pytest.mark.parametrize(
        "name",
        ["train", "test", "steam_train", "test-tube", "evaluation kit", "validation", "Training"],
    )
    def test_a_class_may_have_the_name_of_a_split(self, tmp_path: Path, name: str) -> None:
        write(tmp_path / "data" / "train", {name: 10, "other": 3})
        write(tmp_path / "data" / "test", {name: 4, "other": 2})
        train, test = (load_split(str(tmp_path / "data"), split) for split in ("train", "test"))
        assert counts(train) == {name: 10, "other": 3}
        assert counts(test) == {name: 4, "other": 2}
        assert train.classes == test.classes
        assert all(file.startswith("train/") for file in train.files)
        assert not {image.tobytes() for image in train.images} & {
            image.tobytes() for image in test.images
        }

    def test_a_file_may_have_the_name_of_a_split(self, tmp_path: Path) -> None:
        for number, name in enumerate(["test", "test_1", "val-2", "train", "eval.x"]):
            (tmp_path / "data/train/cat").mkdir(parents=True, exist_ok=True)
            file = tmp_path / "data/train/cat" / f"{name}.png"
            file.write_bytes(encode(picture(number)))
        assert counts(load_split(str(tmp_path / "data"))) == {"cat": 5}
        assert "no split named 'test'" in refusal(tmp_path / "data", "test")

    def test_without_folders_of_splits_such_names_are_classes(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train": 3, "test": 2, "steam_train": 2, "cat": 1})
        expected = {"cat": 1, "steam_train": 2, "test": 2, "train": 3}
        assert counts(load_split(str(tmp_path / "data"))) == expected

    @pytest.mark.parametrize(("first", "second"), [("Train", "Test"), ("TRAINING", "Eval")])
    def test_the_case_of_a_split_is_free(self, tmp_path: Path, first: str, second: str) -> None:
        write(tmp_path / "data" / first, {"cat": 3, "dog": 2})
        write(tmp_path / "data" / second, {"cat": 1, "dog": 2})
        assert counts(load_split(str(tmp_path / "data"))) == {"cat": 3, "dog": 2}
        assert counts(load_split(str(tmp_path / "data"), "test")) == {"cat": 1, "dog": 2}

    @pytest.mark.parametrize("split", ["valid", "validation", "val", "Dev"])
    def test_validation_has_many_names(self, tmp_path: Path, split: str) -> None:
        write(tmp_path / "data", {f"{split}/cat": 2, "train/cat": 3, "test/cat": 1})
        assert counts(load_split(str(tmp_path / "data"), "validation")) == {"cat": 2}
        assert counts(load_split(str(tmp_path / "data"), "train")) == {"cat": 3}

    def test_two_folders_for_one_split_are_refused(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train/cat": 3, "test/cat": 2, "eval/cat": 2})
        assert "two folders for the split test" in refusal(tmp_path / "data")


NASTY = ["train", "test", "validation", "valid", "eval", "steam_train", "test-tube", "a.test.b"]
NASTY += ["evaluation kit", "dev", "Train", "TEST", ".hidden", "__init__", "a\\b", "[x]", "{a,b}"]
NASTY += [
    "*",
    "?",
    "**",
    " lead",
    "trail ",
    "naïve",
    "猫",
    "NA",
    "null",
    "007",
    "-1",
    "~",
    "#",
    "%20",
]
NASTY += ["metadata.csv", "data.parquet", "x.png", "x.zip", "train-00000-of-00001", "$HOME", "a'b"]


@settings(max_examples=25, deadline=None, database=None)
@given(
    train=st.dictionaries(st.sampled_from(NASTY), st.integers(1, 3), min_size=1, max_size=5),
    test=st.dictionaries(st.sampled_from(NASTY), st.integers(1, 3), min_size=1, max_size=5),
    nested=st.booleans(),
)
def test_what_comes_out_is_what_lies_there(
    train: dict[str, int], test: dict[str, int], nested: bool
) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "data")
        deeper = "deeper/test" if nested else ""
        write(folder / "train", {f"{name}/{deeper}": count for name, count in train.items()})
        write(folder / "test", test)
        classes = tuple(sorted({*train, *test}))
        for split, given_counts in (("train", train), ("test", test)):
            loaded = load_split(str(folder), split)
            assert loaded.classes == classes
            assert counts(loaded) == {name: given_counts.get(name, 0) for name in classes}
            assert loaded.remarks == ()
            for file, pixels, label in zip(loaded.files, loaded.images, loaded.labels, strict=True):
                assert Path(file).parts[:2] == (split, classes[label])
                with PIL.Image.open(folder / file) as image:
                    np.testing.assert_array_equal(pixels, np.asarray(image))


class TestRepeatedImages:
    """Images that lie in two splits are told before the training."""

    def test_they_are_counted_and_named(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train/cat": 4, "train/dog": 4, "test/cat": 2, "test/dog": 2})
        for number in range(2):
            copy = tmp_path / f"data/test/dog/copy{number}.png"
            copy.write_bytes((tmp_path / f"data/train/dog/{number}.png").read_bytes())
        (warning,) = training_data(tmp_path / "data").remarks
        assert "2 of the 6 test images are, byte for byte, also training images" in warning
        assert "test/dog/copy0.png, test/dog/copy1.png" in warning
        assert "\n" not in warning

    def test_a_class_in_test_alone_is_told_by_name(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train/cat": 4, "train/dog": 4, "test/cat": 2, "test/eel": 2})
        (warning,) = training_data(tmp_path / "data").remarks
        assert "in the test split alone: eel" in warning

    def test_without_either_nothing_is_said(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train/cat": 4, "train/dog": 4, "test/cat": 2, "test/dog": 2})
        assert training_data(tmp_path / "data").remarks == ()

    def test_a_class_of_one_image_is_named_with_its_file(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train/cat": 4, "train/dog": 1, "test/cat": 2})
        with pytest.raises(InputError, match=r"class 'dog' has a single image \(train/dog/0.png\)"):
            training_data(tmp_path / "data")
