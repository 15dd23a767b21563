"""Folders and ZIPs of images: layouts, links, skipped files, metadata files."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier.data.labelled_images import LabelledImages
from classifier.data.loading import load_stored_split
from classifier.data.source import DataSource
from classifier.errors import InputError
from classifier.presets import load_preset
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


def counts(split: LabelledImages) -> dict[str, int]:
    found = np.bincount(split.labels, minlength=len(split.classes))
    return {name: int(count) for name, count in zip(split.classes, found, strict=True)}


def load(dataset: Path | str, split: str = "train", **options: Any) -> LabelledImages:
    """Loads a split as it is in the data set."""
    size = options.pop("size", 32)
    return load_stored_split(DataSource(str(dataset), **options), split, size)


def refusal(dataset: Path, split: str = "train", **options: Any) -> str:
    """Returns the one line with which loading is refused."""
    with pytest.raises(InputError) as refused:
        load(dataset, split, **options)
    message = str(refused.value)
    assert "\n" not in message
    assert "row" not in message
    return message


def training_data(dataset: Path) -> TrainingData:
    return load_training_data(DataSource(str(dataset)), load_preset("mlp-baseline"))


class TestNames:
    """Names of folders, as splits and as classes."""

    @pytest.mark.parametrize(("first", "second"), [("Train", "Test"), ("TRAINING", "Dev")])
    def test_load_finds_splits_in_any_letter_case(
        self, tmp_path: Path, first: str, second: str
    ) -> None:
        write(tmp_path / "data" / first, {"cat": 3, "dog": 2})
        write(tmp_path / "data" / second, {"cat": 1, "dog": 2})
        assert counts(load(tmp_path / "data")) == {"cat": 3, "dog": 2}
        other = "test" if second == "Test" else "validation"
        assert counts(load(tmp_path / "data", other)) == {"cat": 1, "dog": 2}

    def test_load_refuses_two_folders_for_one_split(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train/cat": 3, "test/cat": 2, "eval/cat": 2})
        assert "two folders for the split test" in refusal(tmp_path / "data")


# Names of splits, of columns, of patterns, of files, and those that a table would read as a number
NASTY = ["train", "test", "validation", "steam_train", "a.test.b", "TEST", ".hidden", "__init__"]
NASTY += ["a\\b", "[x]", "{a,b}", "**", " lead", "trail ", "naïve", "猫", "NA", "007", "~", "#"]
NASTY += ["%20", "metadata.csv", "data.parquet", "x.png", "x.zip", "train-00000-of-00001", "$HOME"]


@settings(max_examples=25, deadline=None, database=None)
@given(
    train=st.dictionaries(st.sampled_from(NASTY), st.integers(1, 3), min_size=1, max_size=5),
    test=st.dictionaries(st.sampled_from(NASTY), st.integers(1, 3), min_size=1, max_size=5),
    nested=st.booleans(),
)
def test_load_returns_images_and_classes_of_any_folder_names(
    train: dict[str, int], test: dict[str, int], nested: bool
) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "data")
        deeper = "deeper/test" if nested else ""
        write(folder / "train", {f"{name}/{deeper}": count for name, count in train.items()})
        write(folder / "test", test)
        classes = tuple(sorted({*train, *test}))
        for split, given_counts in (("train", train), ("test", test)):
            loaded = load(folder, split)
            assert loaded.classes == classes
            assert counts(loaded) == {name: given_counts.get(name, 0) for name in classes}
            assert loaded.remarks == ()
            for file, pixels, label in zip(loaded.files, loaded.images, loaded.labels, strict=True):
                assert Path(file).parts[:2] == (split, classes[label])
                with PIL.Image.open(folder / file) as image:
                    np.testing.assert_array_equal(pixels, np.asarray(image))


class TestRepeatedImages:
    """Images that lie in two splits are told before the training."""

    def test_load_training_data_names_test_images_in_the_train_split(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train/cat": 4, "train/dog": 4, "test/cat": 2, "test/dog": 2})
        for number in range(2):
            copy = tmp_path / f"data/test/dog/copy{number}.png"
            copy.write_bytes((tmp_path / f"data/train/dog/{number}.png").read_bytes())
        (warning,) = training_data(tmp_path / "data").remarks
        assert "2 of the 6 test images are exact duplicates of training images" in warning
        assert "test/dog/copy0.png, test/dog/copy1.png" in warning
        assert "\n" not in warning


class TestFiles:
    """Which files are read, and what is reported."""

    @pytest.mark.parametrize(
        ("image_format", "suffix"),
        [
            ("PPM", ".pgm"),
            ("MPO", ".mpo"),
            ("JPEG", ""),
            ("AVIF", ".JPG"),
        ],
    )
    def test_load_reads_images_with_other_suffixes(
        self, tmp_path: Path, image_format: str, suffix: str
    ) -> None:
        write(tmp_path / "data", {"train/cat": 2})
        (tmp_path / "data/train/odd").mkdir()
        for number in range(2):
            image = encode(PIL.Image.fromarray(picture(number)), image_format)
            (tmp_path / f"data/train/odd/{number}{suffix}").write_bytes(image)
        split = load(tmp_path / "data")
        assert counts(split) == {"cat": 2, "odd": 2}
        assert split.remarks == ()

    def test_load_counts_skipped_files_by_kind(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train/cat": 3, "train/dog": 2, "test/cat": 2, "extra": 1})
        for name in ("train/cat/a.heic", "train/dog/B.HEIC", "train/dog/x.svg", "train/cat/BM.txt"):
            (tmp_path / "data" / name).write_text("BMW <svg/>")
        (tmp_path / "data/train/cat/film.mp4").write_bytes(os.urandom(11 * 2**20))
        (tmp_path / "data/train/stray.png").write_bytes(encode(picture(1)))
        (tmp_path / "data/train/cat/gone").symlink_to("nowhere")
        os.mkfifo(tmp_path / "data/train/cat/pipe.png")
        (tmp_path / "data/train/bird").mkdir()
        for name in ("train/cat/.DS_Store", "train/cat/._0.png", "Thumbs.db"):
            (tmp_path / "data" / name).write_text("of the system")
        split = load(tmp_path / "data")
        assert counts(split) == {"cat": 3, "dog": 2}
        (remark,) = split.remarks
        assert remark.startswith("Not read in the train split of data: ")
        for told in (
            "2 .heic (train/cat/a.heic)",
            "1 .svg (train/dog/x.svg)",
            "1 .txt (train/cat/BM.txt)",
            "1 .mp4 (train/cat/film.mp4)",
            "1 image outside of class folders (train/stray.png)",
            "1 broken link (train/cat/gone)",
            "1 special file (train/cat/pipe.png)",
            "1 empty folder (train/bird)",
            "1 .png (extra/0.png)",
        ):
            assert told in remark
        assert "DS_Store" not in remark
        assert load(tmp_path / "data").remarks == split.remarks  # from the cache, too

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("a\u202eb", r"the name 'a\u202eb' among the classes of data"),
            ("a" * 201, "longer than 200 characters"),
            ("cat", "data has 1 classes: a model takes 2 to"),
        ],
    )
    def test_load_training_data_refuses_names_that_no_model_folder_holds(
        self, tmp_path: Path, name: str, said: str
    ) -> None:
        write(tmp_path / "data", {f"{split}/{name}": 2 for split in ("train", "test")})
        write(tmp_path / "data", {f"{split}/cat": 2 for split in ("train", "test")})
        with pytest.raises(InputError) as refused:
            training_data(tmp_path / "data")
        assert said in str(refused.value)

    def test_load_refuses_a_class_without_readable_images(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train/cat": 3, "test/cat": 2})
        (tmp_path / "data/test/eel").mkdir()
        (tmp_path / "data/test/eel/a.heic").write_text("heic")
        message = refusal(tmp_path / "data")
        assert "the class 'eel' of data has no image that can be read" in message
        assert "test/eel/a.heic" in message

    def test_load_names_a_damaged_image(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train/cat": 3})
        (tmp_path / "data/train/cat/2.png").write_bytes(encode(picture(1))[:300])
        assert "the image train/cat/2.png of data cannot be decoded" in refusal(tmp_path / "data")

    @pytest.mark.parametrize("target", [".", "..", "../../..", "/"])
    def test_load_skips_a_link_to_a_folder_above(self, tmp_path: Path, target: str) -> None:
        write(tmp_path / "data", {"train/cat": 3})
        (tmp_path / "data/train/cat/up").symlink_to(target)
        split = load(tmp_path / "data")
        assert counts(split) == {"cat": 3}
        assert "1 link to a folder above it or read elsewhere (train/cat/up)" in split.remarks[0]

    def test_load_reads_files_once_with_links_between_siblings(self, tmp_path: Path) -> None:
        names = [f"class{number}" for number in range(9)]
        write(tmp_path / "data", dict.fromkeys(names, 2))
        for name in names:
            for other in set(names) - {name}:
                (tmp_path / "data" / name / f"a-{other}").symlink_to(f"../{other}")
        split = load(tmp_path / "data")
        assert counts(split) == dict.fromkeys(names, 2)
        assert "72 link to a folder" in split.remarks[0]

    def test_load_skips_files_of_tools(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train/cat": 3, "train/.ipynb_checkpoints": 1})
        write(tmp_path / "data", {"train/cat/@eaDir/0.png": 1, "train/@eaDir": 1})
        for name in (".git/HEAD", "__MACOSX/train/cat/._0.png", "train/__MACOSX/._0.png"):
            (tmp_path / "data" / name).parent.mkdir(parents=True)
            (tmp_path / "data" / name).write_text("of a tool")
        packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "data")
        for dataset in (str(tmp_path / "data"), packed):
            split = load(dataset)
            assert counts(split) == {"cat": 3}
            assert split.remarks == ()

    def test_load_reads_a_changed_folder_again(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train/cat": 3})
        assert len(load(tmp_path / "data").labels) == 3
        write(tmp_path / "data", {"train/.cat": 1})
        assert counts(load(tmp_path / "data")) == {".cat": 1, "cat": 3}


class TestLayouts:
    """Layouts of folders."""

    def test_load_refuses_a_test_folder_without_classes(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train/cat": 3, "train/dog": 3, "test": 2})
        assert counts(load(tmp_path / "data")) == {"cat": 3, "dog": 3}
        message = refusal(tmp_path / "data", "test")
        assert "the test split of data has no labelled image (2 image outside of class" in message
        assert "--test-fraction" in message

    def test_load_refuses_two_spellings_of_a_class(self, tmp_path: Path) -> None:
        first, second = "caf\xe9", "cafe\u0301 "
        write(tmp_path / "data", {f"train/{first}": 2, f"test/{first}": 2})
        assert counts(load(tmp_path / "data")) == {first: 2}
        (tmp_path / "data/test" / first).rename(tmp_path / "data/test" / second)
        assert "two spellings in data" in refusal(tmp_path / "data")

    def test_load_refuses_a_folder_that_is_a_split_or_a_class(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train/cat": 3, "train/dog": 3, "samples": 2})
        assert "train of data is a split with folders of classes, or a" in refusal(
            tmp_path / "data"
        )
        write(tmp_path / "flat", {"train": 3, "bus": 2})
        assert counts(load(tmp_path / "flat")) == {"bus": 2, "train": 3}

    def test_load_refuses_what_is_neither_file_nor_folder(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        for name, said in (("pipe", "neither a file nor a folder"), ("link", "No such file")):
            assert said in refusal(tmp_path / name)

    @pytest.mark.parametrize("name", ["a[b]", "a::b"])
    def test_load_reads_a_path_that_looks_like_a_pattern(self, tmp_path: Path, name: str) -> None:
        write(tmp_path / name / "data", {f"train/{name}": 3, "train/dog": 1})
        write(tmp_path / "ab" / "data", {"train/ab": 2})
        assert counts(load(tmp_path / name / "data")) == {name: 3, "dog": 1}


def pack(archive: Path, folder: Path, prefix: str = "") -> Path:
    """Packs the content of a folder."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, prefix + str(path.relative_to(folder)))
    return archive


class TestZips:
    """ZIPs, read as the folder that is in them."""

    @pytest.fixture
    def pets(self, tmp_path: Path) -> Path:
        write(tmp_path / "pets", {"train/cat": 3, "train/test": 2, "test/cat": 2})
        return tmp_path / "pets"

    @staticmethod
    def check(dataset: Path, pets: Path) -> None:
        for split in ("train", "test"):
            found, expected = load(dataset, split), load(pets, split)
            assert found.fingerprint == expected.fingerprint

    @pytest.mark.parametrize("prefix", ["", "pets/", "a/b/"])
    def test_load_reads_a_zip_as_its_folder(self, tmp_path: Path, pets: Path, prefix: str) -> None:
        self.check(pack(tmp_path / "p.zip", pets, prefix), pets)

    def test_load_reads_a_zip_with_an_entry_for_its_top_folder(
        self, tmp_path: Path, pets: Path
    ) -> None:
        with zipfile.ZipFile(pack(tmp_path / "p.zip", pets), "a") as file:
            file.writestr("./", "")
        self.check(tmp_path / "p.zip", pets)

    def test_load_refuses_a_truncated_zip(self, tmp_path: Path, pets: Path) -> None:
        archive = pack(tmp_path / "p.zip", pets)
        content = archive.read_bytes()
        archive.write_bytes(content[:5000])
        assert "p.zip cannot be read (File is not a zip file)" in refusal(archive)
        middle = content.index(b"train/cat/1.png") + 500
        archive.write_bytes(content[:middle] + b"\xff" * 9 + content[middle + 9 :])
        assert "p.zip cannot be read (" in refusal(archive)


class TestMetadata:
    """Labels in a metadata file, as text."""

    @staticmethod
    def write(folder: Path, text: str, *, name: str = "metadata.csv", images: int = 3) -> Path:
        write(folder, {"train": images})
        (folder / "train" / name).write_text(text, encoding="utf-8", newline="")
        return folder

    @pytest.mark.parametrize(
        "labels",
        [
            ["NA", "7.0", "007"],
            ["cat, dog", 'a "b"', " 猫; z "],
        ],
    )
    def test_read_labels_keeps_labels_as_text(self, tmp_path: Path, labels: list[str]) -> None:
        rows = [
            f'{number}.png,"{label.replace(chr(34), 2 * chr(34))}"\r\n'
            for number, label in enumerate(labels)
        ]
        folder = self.write(tmp_path / "data", "\ufefffile_name,label\r\n" + "".join(rows))
        split = load(folder)
        assert [split.classes[label] for label in split.labels] == labels
        assert split.remarks == ()

    def test_read_labels_reads_json_lines(self, tmp_path: Path) -> None:
        text = '{"file_name": "0.png", "label": 7}\n{"file_name": "1.png", "label": true}\n'
        text += '{"file_name": "2.png", "label": "null"}\n'
        folder = self.write(tmp_path / "data", text, name="metadata.jsonl")
        assert counts(load(folder)) == {"7": 1, "null": 1, "true": 1}

    def test_read_labels_reads_parquet(self, tmp_path: Path) -> None:
        folder = self.write_parquet(tmp_path, label=["007", "NA"])
        assert counts(load(folder)) == {"007": 1, "NA": 1}

    @pytest.mark.parametrize("separator", [",", ";", "\t", ", ", "; "])
    def test_read_labels_reads_any_separator_of_spreadsheets(
        self, tmp_path: Path, separator: str
    ) -> None:
        rows = [("label", "file_name", "text"), ("cat", "0.png", '"1,5; a"'), ("dog", "1.png", "")]
        text = "\ufeff" + "".join(separator.join(row) + "\r\n" for row in rows)
        split = load(self.write(tmp_path / "data", text, images=2))
        assert split.classes == ("cat", "dog")
        assert split.remarks == ()

    def test_read_labels_reads_one_file_for_all_splits(self, tmp_path: Path) -> None:
        write(tmp_path / "data", {"train": 2, "test/sub": 1})
        rows = "file_name,label\ntrain/0.png,a\ntrain/1.png,b\n./test/sub/0.png,c\n"
        (tmp_path / "data/metadata.csv").write_text(rows)
        assert counts(load(tmp_path / "data")) == {"a": 1, "b": 1, "c": 0}
        assert counts(load(tmp_path / "data", "test")) == {"a": 0, "b": 0, "c": 1}

    def test_read_labels_reads_superclasses(self, tmp_path: Path) -> None:
        text = "file_name,fine_label,coarse_label\n0.png,cat,pet\n1.png,oak,tree\n2.png,dog,pet\n"
        split = load(self.write(tmp_path / "data", text))
        assert split.classes == ("cat", "dog", "oak")
        assert split.superclasses == ("pet", "tree")
        assert split.superclass_of == (0, 0, 1)

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ("2.png", "'2.png' in line 4 of train/metadata.csv in data has no label"),
            ("../x.png,a", "in data does not exist below its folder"),
            (",a", "the file '' in line 4 of train/metadata.csv in data does not exist"),
            ("1.png,a", "the file '1.png' in line 4 of train/metadata.csv in data is named twice"),
            ('"2.png,a', "train/metadata.csv in data cannot be read"),
            ("2.png,a, b", "line 4 has more fields than the header"),
        ],
    )
    def test_read_labels_names_a_wrong_line(self, tmp_path: Path, row: str, said: str) -> None:
        folder = self.write(tmp_path / "data", f"file_name,label\n0.png,a,\n1.png,b\n{row}")
        with pytest.raises(InputError) as refused:
            load(folder)
        assert said in str(refused.value)

    def test_load_reports_images_without_a_metadata_row(self, tmp_path: Path) -> None:
        folder = self.write(tmp_path / "data", "file_name,label\n0.png,a\n1.png,b\n")
        (remark,) = load(folder).remarks
        assert "1 image without a row in the metadata (train/2.png)" in remark

    @staticmethod
    def write_parquet(place: Path, **columns: Any) -> Path:
        import pyarrow as pa
        import pyarrow.parquet

        write(place / "data", {"train": 2})
        table = pa.table({"file_name": ["0.png", "1.png"], **columns})
        pyarrow.parquet.write_table(table, place / "data/train/metadata.parquet")
        return place / "data"
