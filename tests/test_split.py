"""Test and validation images: named, or drawn in the same way each time."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier.data.labelled_images import LabelledImages
from classifier.data.loading import load_split, source_of
from classifier.data.source import DataSource, add_data_arguments
from classifier.data.split import MissingSplitError, stratified_split
from classifier.errors import InputError
from conftest import Run
from data_files import encode, make_rows, write_hub_layout

CLASSES = {"cat": 20, "dog": 10, "eel": 5}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives each test a cache of its own."""
    monkeypatch.setenv("CIFAR100_MLP_CACHE", str(tmp_path / "cache"))


def write(folder: Path, **splits: dict[str, int]) -> str:
    """Writes images, all different, into a folder for each class of each split."""
    number = 0
    for split, classes in splits.items():
        for name, count in classes.items():
            place = folder / split / name if split != "all" else folder / name
            place.mkdir(parents=True)
            for _ in range(count):
                number += 1
                pixels = np.full((8, 8, 3), number, np.uint8)
                (place / f"{number}.png").write_bytes(encode(pixels))
    return str(folder)


def load(dataset: str, **options: Any) -> tuple[LabelledImages, LabelledImages]:
    source = DataSource(dataset, **options)
    return load_split(source, "train", size=8), load_split(source, "test", size=8)


class TestTestSplit:
    """Which images are the test split."""

    def test_of_class_folders_a_fifth_of_each_class_is_drawn(self, tmp_path: Path) -> None:
        train, test = load(write(tmp_path / "pets", all=CLASSES))
        assert np.bincount(train.labels).tolist() == [16, 8, 4]
        assert np.bincount(test.labels).tolist() == [4, 2, 1]
        assert sorted({*train.files, *test.files}) == sorted((*train.files, *test.files))
        assert test.files[0] == f"cat/{test.images[0, 0, 0, 0]}.png"
        assert "20% of the training images of pets" in test.remarks[0]
        assert "7 of 35" in test.remarks[0]
        assert train.test_fraction == test.test_fraction == 0.2
        assert train.fingerprint != test.fingerprint
        assert not train.images.flags.writeable

    def test_test_fraction_replaces_a_test_split(self, tmp_path: Path) -> None:
        dataset = write(tmp_path / "pets", train=CLASSES, test=CLASSES)
        train, test = load(dataset, test_fraction=0.4)
        assert np.bincount(test.labels).tolist() == [8, 4, 2]
        assert all(file.startswith("train/") for file in test.files)
        assert train.remarks[0].startswith("Not used of pets: test.")

    @pytest.mark.parametrize("name", ["training", "train"])
    def test_a_split_that_means_the_training_is_known_by_any_name(
        self, tmp_path: Path, name: str
    ) -> None:
        write_hub_layout(tmp_path / "rows", {name: make_rows(60, seed=1)})
        train, test = load(str(tmp_path / "rows"))
        assert (len(train.labels), len(test.labels)) == (48, 12)
        write_hub_layout(tmp_path / "both", {n: make_rows(24, seed=len(n)) for n in (name, "test")})
        assert load(str(tmp_path / "both"))[0].remarks == ()

    @pytest.mark.parametrize("name", ["validation", "val"])
    def test_test_split_names_another_split(self, tmp_path: Path, name: str) -> None:
        dataset = write(tmp_path / "pets", train=CLASSES, valid={"cat": 2, "dog": 1})
        train, test = load(dataset, test_split=name)
        assert len(train.labels) == 35
        assert np.bincount(test.labels).tolist() == [2, 1]
        assert train.remarks == test.remarks == ()

    def test_no_test_split_is_drawn_beside_one_with_another_name(self, tmp_path: Path) -> None:
        for split in ("train", "eval"):
            write_hub_layout(tmp_path / "rows", {split: make_rows(24, seed=len(split))})
        (tmp_path / "rows/README.md").unlink()
        for split in load(str(tmp_path / "rows")):
            assert len(split.labels) == 24
            assert split.test_fraction is None

    def test_a_missing_test_split_is_refused_with_those_that_exist(self, tmp_path: Path) -> None:
        dataset = write(tmp_path / "pets", train=CLASSES)
        with pytest.raises(MissingSplitError, match="no split named 'val': choose one of train"):
            load(dataset, test_split="val")

    def test_a_class_with_two_images_is_too_small(self, tmp_path: Path) -> None:
        dataset = write(tmp_path / "pets", all={"cat": 9, "dog": 2})
        with pytest.raises(InputError, match=r"'dog' has too few images \(2\)"):
            load(dataset)


@pytest.mark.slow
def test_a_training_records_its_test_split_and_the_evaluation_finds_it_again(
    tmp_path: Path, call_command: Callable[..., Run]
) -> None:
    dataset = write(tmp_path / "pets", all=CLASSES)
    tiny = ("--set", "hidden_units=[4]", "--batch-size", 8, "--epochs", 1)
    data = ("--dataset", dataset, "--test-fraction", 0.4)
    result = call_command("train.py", *data, *tiny, "--output", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert "The test split is 40% of the training images of pets" in result.stdout
    model = tmp_path / "run/model"
    training = json.loads((model / "training.json").read_text())["dataset"]
    assert training["test_fraction"] == 0.4
    assert training["training_images"] + training["validation_images"] == 21
    assert (
        "(14 images: 40.00% of each class, drawn before the training)"
        in (model / "README.md").read_text()
    )
    before = json.loads((model / "evaluation.json").read_text())
    result = call_command("-m", "evaluation", tmp_path / "run", "--dataset", dataset)
    assert result.returncode == 0, result.stderr
    after = json.loads((model / "evaluation.json").read_text())
    assert after["dataset_fingerprint"] == before["dataset_fingerprint"]


class TestOptions:
    """The options of a data set, as every command has them."""

    @staticmethod
    def parse(*words: str) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        add_data_arguments(parser)
        return parser.parse_args(words)

    def test_the_options_and_the_source_give_each_other(self) -> None:
        words = ["--dataset", "a b", "--label-column", "kind", "--config", "x"]
        words += ["--test-fraction", "0.3"]
        source = DataSource.from_options(self.parse(*words))
        assert source == DataSource("a b", "kind", "x", test_fraction=0.3)
        assert source.arguments() == words
        assert DataSource.from_options(self.parse()) == DataSource()

    def test_what_a_training_recorded_holds_for_its_images_whatever_their_name(
        self, tmp_path: Path
    ) -> None:
        dataset = write(tmp_path / "pets", all=CLASSES)
        fingerprint = load(dataset, test_fraction=0.4)[0].fingerprint
        recorded = {"id": "me/animals", "test_fraction": 0.4, "fingerprint": fingerprint}
        (tmp_path / "animals").symlink_to(dataset)
        for name in (dataset, str(tmp_path / "animals")):
            found = source_of(self.parse("--dataset", name), recorded, size=8)
            assert found == DataSource(name, test_fraction=0.4)
        named = self.parse("--dataset", dataset, "--test-fraction", "0.3")
        assert source_of(named, recorded, size=8) == DataSource(dataset, test_fraction=0.3)
        other = write(tmp_path / "x" / "pets", all={"cat": 9, "dog": 8})
        assert source_of(self.parse("--dataset", other), recorded, size=8) == DataSource(other)
        tested = self.parse("--dataset", "pets", "--test-split", "val")
        assert DataSource.from_options(tested, recorded) == DataSource("pets", None, None, "val")

    @pytest.mark.parametrize(
        "options",
        [
            {"test_split": "train"},
            {"test_split": "Training"},
            {"test_fraction": 1},
            {"test_fraction": float("nan")},
        ],
    )
    def test_what_is_no_test_split_is_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(InputError, match=f"--{next(iter(options)).replace('_', '-')}"):
            DataSource("x", **options)


class TestStratifiedSplit:
    """How a split is divided."""

    def test_every_class_gives_the_same_share(self) -> None:
        labels = np.random.default_rng(0).permutation(np.repeat(np.arange(7), 50))
        train, validation = stratified_split(labels, seed=1)
        assert (np.bincount(labels[validation]) == 5).all()
        np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(350))
        for rows in (train, validation):
            assert rows.dtype == np.int64
            assert (np.diff(rows) > 0).all()

    @pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
    def test_both_parts_have_an_image_of_small_classes(self, fraction: float) -> None:
        labels = np.array([0, 0, 1, 1, 1, 2, 2])
        parts = stratified_split(labels, fraction=fraction, seed=0)
        assert all(set(labels[part]) == {0, 1, 2} for part in parts)

    def test_a_class_with_one_image_is_refused(self) -> None:
        with pytest.raises(InputError, match="class 2 has too few images"):
            stratified_split(np.array([0, 0, 1, 1, 2]), seed=0)
