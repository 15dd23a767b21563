"""Data sets in every form: equal arrays, columns, configurations, messages of refusals."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest

from classifier.data.images import to_model_input
from classifier.data.labelled_images import LabelledImages
from classifier.data.loading import channel_statistics, load_stored_split
from classifier.data.source import DataSource
from classifier.data.split import stratified_split
from classifier.errors import InputError
from data_files import (
    COARSE,
    COARSE_OF_FINE,
    FINE,
    encode,
    make_rows,
    write_archive,
    write_hub_layout,
    write_parquet,
    write_toronto_folder,
)
from hub_server import Hub

ROOT = Path(__file__).resolve().parent.parent
SPLITS = {"train": make_rows(24, seed=3), "test": make_rows(12, seed=4)}
TEN_CLASSES = [f"class {number}" for number in range(10)]


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives each test caches of its own."""
    monkeypatch.setenv("CIFAR100_MLP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Gives the same rows as a folder of the Hub's layout, a Toronto archive, and its folder."""
    place = tmp_path_factory.mktemp("forms")
    toronto = write_toronto_folder(place / "cifar-100-python", SPLITS)
    return {
        "hub layout": write_hub_layout(place / "hub", SPLITS),
        "toronto folder": toronto,
        "toronto archive": write_archive(place / "cifar-100-python.tar.gz", toronto),
    }


def load(dataset: Path | str, split: str = "train", **options: Any) -> LabelledImages:
    """Loads a split as it is in the data set."""
    size = options.pop("size", 32)
    return load_stored_split(DataSource(str(dataset), **options), split, size)


def refusal(dataset: Path | str, split: str = "train", **options: Any) -> str:
    """Returns the one line with which loading is refused."""
    with pytest.raises(InputError) as refused:
        load(dataset, split, **options)
    message = str(refused.value)
    assert "\n" not in message
    return message


def write_labelled(
    folder: Path, images: list[bytes | None], labels: list[Any], **names: Any
) -> Path:
    """Writes a split; `image` and `label` name its columns, `classes` the classes."""
    image, label = names.get("image", "img"), names.get("label", "label")
    classes = datasets.ClassLabel(names=names.get("classes", TEN_CLASSES))
    features = datasets.Features({image: datasets.Image(), label: classes})
    values = [None if data is None else {"bytes": data, "path": None} for data in images]
    write_parquet(folder, names.get("split", "train"), {image: values, label: labels}, features)
    return folder


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


class TestForms:
    """The same rows, whatever they are stored as."""

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_load_returns_equal_arrays_for_all_forms(
        self, forms: dict[str, Path], split: str
    ) -> None:
        loaded = {form: load(path, split) for form, path in forms.items()}
        for result in loaded.values():
            np.testing.assert_array_equal(result.images, SPLITS[split].images)
            np.testing.assert_array_equal(result.labels, SPLITS[split].fine)
            assert result.images.dtype == np.uint8
            assert result.labels.dtype == np.int32
            assert result.classes == FINE
            assert result.superclasses == COARSE
            assert result.superclass_of == COARSE_OF_FINE
            assert result.revision is None
        assert len({result.fingerprint for result in loaded.values()}) == 1
        assert loaded["hub layout"].dataset == "hub"
        assert loaded["toronto archive"].dataset == "cifar-100-python.tar.gz"

    def test_load_decodes_every_form_to_the_given_size(self, forms: dict[str, Path]) -> None:
        size = 33
        expected = np.stack(
            [to_model_input(PIL.Image.fromarray(image), size) for image in SPLITS["test"].images]
        )
        for path in forms.values():
            load(path, "test")  # what is cached for one size must not serve another
            result = load(path, "test", size=size)
            np.testing.assert_array_equal(result.images, expected)
            np.testing.assert_array_equal(load(path, "test").images, SPLITS["test"].images)

    @pytest.mark.parametrize("form", ["hub layout", "toronto archive"])
    def test_load_takes_a_named_column_in_every_form(
        self, forms: dict[str, Path], form: str
    ) -> None:
        load(forms[form])  # what is cached for one column must not serve another
        result = load(forms[form], label_column="coarse_label")
        np.testing.assert_array_equal(result.labels, SPLITS["train"].coarse)
        assert result.classes == COARSE
        assert result.superclasses is None


class TestColumns:
    """Which column is the image, and which the target."""

    @staticmethod
    def write(folder: Path, **columns: Any) -> Path:
        """Writes two rows whose columns have these features; every label is 1."""
        kinds = {
            datasets.Image: {"bytes": encode(noise(32, 32, 3)), "path": None},
            datasets.ClassLabel: 1,
            datasets.Value: 1,
        }
        values = {name: [kinds[type(feature)]] * 2 for name, feature in columns.items()}
        write_parquet(folder, "train", values, datasets.Features(columns))
        return folder

    image = datasets.Image()
    colours = datasets.ClassLabel(names=["red", "blue"])
    shapes = datasets.ClassLabel(names=["round", "flat"])
    number = datasets.Value("int64")

    def test_find_label_column_prefers_fine_label(self, tmp_path: Path) -> None:
        self.write(tmp_path / "d", image=self.image, label=self.shapes, fine_label=self.colours)
        assert load(tmp_path / "d").classes == ("red", "blue")

    def test_find_label_column_refuses_several_columns(self, tmp_path: Path) -> None:
        self.write(tmp_path / "d", image=self.image, shape=self.shapes, colour=self.colours)
        message = refusal(tmp_path / "d")
        assert "--label-column" in message
        assert "shape, colour" in message

    @pytest.mark.parametrize("named", ["image", "share", "nothing"])
    def test_find_label_column_refuses_a_column_without_labels(
        self, tmp_path: Path, named: str
    ) -> None:
        share = datasets.Value("float32")
        self.write(tmp_path / "d", image=self.image, shape=self.shapes, share=share)
        message = refusal(tmp_path / "d", label_column=named)
        assert f"no column of labels named {named}: " in message
        assert "columns of labels: shape" in message

    @pytest.mark.parametrize(
        ("kind", "labels", "classes"),
        [
            ("string", ["dog", "cat", "dog"], ("cat", "dog")),
            ("int64", [10, 2, 10], ("2", "10")),
            ("uint8", [1, 0, 1], ("0", "1")),
            ("bool", [True, False, True], ("false", "true")),
        ],
    )
    def test_load_names_classes_by_their_values_without_names(
        self, tmp_path: Path, kind: str, labels: list[Any], classes: tuple[str, ...]
    ) -> None:
        features = datasets.Features(img=datasets.Image(), label=datasets.Value(kind))
        images = [{"bytes": encode(noise(32, 32, 3)), "path": None}] * 3
        write_parquet(tmp_path / "d", "train", {"img": images, "label": labels}, features)
        last = {"img": images[:1], "label": labels[:1]}
        write_parquet(tmp_path / "d", "test", last, features)
        train = load(tmp_path / "d")
        assert train.classes == classes
        assert train.labels.tolist() == [1, 0, 1]
        assert "The column label of d names no classes: its 2 values" in train.remarks[0]
        test = load(tmp_path / "d", "test")
        assert (test.classes, test.labels.tolist()) == (classes, [1])

    def test_load_reads_the_named_configuration(self, tmp_path: Path) -> None:
        for name, label in (("first", 1), ("second", 2)):
            write_labelled(tmp_path / "d" / name, [encode(noise(32, 32, 3))], [label])
        configs = [
            f"- config_name: {name}\n  data_files: {name}/*\n" for name in ("first", "second")
        ]
        (tmp_path / "d/README.md").write_text(f"---\nconfigs:\n{''.join(configs)}---\n")
        assert load(tmp_path / "d", config="first").labels.tolist() == [1]
        assert load(tmp_path / "d", config="second").labels.tolist() == [2]
        for wrong in (None, "third"):
            message = refusal(tmp_path / "d", config=wrong)
            assert "'first', 'second'" in message
            assert "name one with --config" in message


class TestWrongData:
    """Messages about wrong data."""

    def test_load_names_the_file_of_a_missing_or_wrong_label(self, tmp_path: Path) -> None:
        images = [{"bytes": encode(noise(32, 32, 3)), "path": f"{name}.png"} for name in "abc"]
        classes = datasets.ClassLabel(names=TEN_CLASSES)
        features = datasets.Features(img=datasets.Image(), label=classes)
        for label in (None, -1):
            columns = {"img": images, "label": [0, label, 2]}
            write_parquet(tmp_path / "wrong", "train", columns, features)
            assert "label -1 in row 1 (b.png) of column label in the train split of wrong" in (
                refusal(tmp_path / "wrong")
            )

    @pytest.mark.parametrize(
        "data",
        [b"", encode(noise(32, 32, 3))[:500], None],
        ids=["empty", "truncated", "missing"],
    )
    def test_load_names_the_row_of_an_image_that_does_not_decode(
        self, tmp_path: Path, data: bytes | None
    ) -> None:
        good = encode(noise(32, 32, 3))
        write_labelled(tmp_path / "broken", [good, good, data, good], [0, 1, 2, 3])
        message = refusal(tmp_path / "broken")
        assert "row 2 of the train split of broken cannot be decoded" in message

    @pytest.mark.parametrize(
        "files",
        [
            {"train.parquet": "no parquet"},
            {"train.json": "{"},
            {"README.md": "---\nconfigs: [}\n---\n", "train.csv": "a,b\n1,2\n"},
            {"wrong.py": "raise SystemExit('executed')"},
        ],
    )
    def test_load_refuses_a_folder_that_datasets_cannot_read(
        self, tmp_path: Path, files: dict[str, str], capfd: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "wrong"
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        assert "wrong" in refusal(folder)
        assert capfd.readouterr().err == ""  # the line of our error is the only one

    @staticmethod
    def write(folder: Path, split: str, **names: Any) -> Path:
        """Writes a split of two images, of the classes 0 and 1."""
        images = [encode(noise(32, 32, 3, seed=seed)) for seed in range(2)]
        return write_labelled(folder, images, [0, 1], split=split, **names)

    def test_load_refuses_splits_that_number_classes_differently(self, tmp_path: Path) -> None:
        self.write(tmp_path / "data", "train", classes=["cat", "dog"])
        self.write(tmp_path / "data", "test", classes=["dog", "cat"])
        for split in ("train", "test"):
            assert "the classes of the column label in " in refusal(tmp_path / "data", split)

    @pytest.mark.parametrize(
        "name",
        ["/nowhere", "", "~nobody-here/x", "missing.tar.gz", "a b", "\0"],
    )
    def test_load_refuses_a_name_that_is_no_hub_id_without_a_request(
        self, name: str, hub: Hub
    ) -> None:
        assert "no file or folder" in refusal(name)
        assert hub.requests == []


LOAD = "import sys; from classifier.command_line import run; "
LOAD += "from classifier.data.loading import load_split; "
LOAD += "sys.exit(run(lambda arguments: load_split(*arguments)))"


def load_in_a_process(tmp_path: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Returns the exit status and what stands on standard error, as a user would see it."""
    variables = os.environ | {
        "HF_HOME": str(tmp_path / "hf"),
        "HF_DATASETS_CACHE": str(tmp_path / "datasets"),
        "CIFAR100_MLP_CACHE": str(tmp_path / "cache"),
        "HF_TOKEN": "",
    }
    finished = subprocess.run(
        [sys.executable, "-c", LOAD, *arguments],
        cwd=ROOT,
        env=variables | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return finished.returncode, finished.stderr


class TestNoNetwork:
    """A Hub that cannot be reached."""

    def test_load_split_without_a_network_prints_one_line(self, tmp_path: Path) -> None:
        with socket.socket() as unused:  # bound, but not listening: connections are refused
            unused.bind(("127.0.0.1", 0))
            endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
            status, said = load_in_a_process(tmp_path, "uoft-cs/cifar100", HF_ENDPOINT=endpoint)
        assert status == 1
        assert said.count("\n") == 1
        assert said.startswith(f"error: cannot reach the Hub at {endpoint} for uoft-cs/cifar100")
        assert "check the network" in said


class TestPreparation:
    """Channel statistics."""

    def test_channel_statistics_equal_those_of_numpy(self) -> None:
        images = noise(300, 32, 32, 3) // np.array([1, 2, 5], np.uint8)
        mean, deviation = channel_statistics(images)
        np.testing.assert_allclose(mean, images.mean((0, 1, 2), dtype=np.float64), rtol=1e-6)
        np.testing.assert_allclose(deviation, images.std((0, 1, 2), dtype=np.float64), rtol=1e-6)
        assert mean.dtype == deviation.dtype == np.float32


@pytest.mark.slow
class TestRealData:
    """CIFAR-100 itself, where it is there."""

    def test_load_split_reads_the_real_cifar_100(self, cifar100_folder: Path) -> None:
        train, test = (load(cifar100_folder, split) for split in ("train", "test"))
        assert train.images.shape == (50000, 32, 32, 3)
        assert (np.bincount(train.labels) == 500).all()
        assert (np.bincount(test.labels) == 100).all()
        mean, deviation = channel_statistics(train.images)
        np.testing.assert_allclose(mean / 255, [0.5071, 0.4865, 0.4409], atol=5e-5)
        np.testing.assert_allclose(deviation / 255, [0.2673, 0.2564, 0.2762], atol=5e-5)
        assert train.classes == test.classes
        assert train.superclasses is not None
        assert train.superclass_of == test.superclass_of
        assert np.bincount(train.superclass_of or ()).tolist() == [5] * 20
        named = dict(zip(train.classes, train.superclass_of or (), strict=True))
        assert train.superclasses[named["shark"]] == "fish"
        rows, validation = stratified_split(train.labels, seed=0)
        assert (len(rows), len(validation)) == (45000, 5000)
