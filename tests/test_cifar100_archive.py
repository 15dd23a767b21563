"""The original CIFAR-100 archive and its folder: content, damage, untrusted pickles."""

import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from classifier.data import cifar100_archive
from classifier.data.labelled_images import LabelledImages
from classifier.data.source import DataSource
from classifier.errors import InputError
from data_files import (
    make_rows,
    python2_pickle,
    toronto_content,
    write_archive,
    write_toronto_folder,
)

SPLITS = {"train": make_rows(24, seed=1), "test": make_rows(12, seed=2)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_toronto_folder(tmp_path / "cifar-100-python", SPLITS)


@pytest.fixture
def archive(tmp_path: Path, folder: Path) -> Path:
    return write_archive(tmp_path / "cifar-100-python.tar.gz", folder)


def read(path: Path, split: str, **options: str) -> LabelledImages:
    return cifar100_archive.read(path, split, DataSource(**options))


def refusal(path: Path, split: str = "train", **options: str) -> str:
    """Returns the one line with which reading is refused."""
    with pytest.raises(InputError) as refused:
        read(path, split, **options)
    message = str(refused.value)
    assert "\n" not in message
    return message


def rewrite(archive: Path, names: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """Writes an archive of these members."""
    with tarfile.open(archive, "w:gz") as file:
        for member, data in names:
            member.size = len(data) if member.isreg() else 0
            file.addfile(member, io.BytesIO(data))
    return archive


@pytest.mark.parametrize("protocol", [2, 4])
def test_read_accepts_files_pickled_by_python_3(tmp_path: Path, protocol: int) -> None:
    for name, rows in SPLITS.items():
        content = {key.encode(): value for key, value in toronto_content(rows).items()}
        (tmp_path / name).write_bytes(pickle.dumps(content, protocol))
    meta = {b"fine_label_names": [b"apple"] * 6, b"coarse_label_names": [b"fruit"] * 3}
    (tmp_path / "meta").write_bytes(pickle.dumps(meta, protocol))
    loaded = read(tmp_path, "train")
    np.testing.assert_array_equal(loaded.images, SPLITS["train"].images)
    np.testing.assert_array_equal(loaded.labels, SPLITS["train"].fine)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.999])
def test_read_refuses_a_truncated_archive(archive: Path, kept: float) -> None:
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * kept)])
    message = refusal(archive)
    assert archive.name in message
    assert "https://www.cs.toronto.edu" in message


@pytest.mark.parametrize("name", ["train", "meta"])
def test_read_refuses_a_folder_without_one_of_its_files(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert cifar100_archive.recognises(folder)
    assert f"KeyError: '{name}'" in refusal(folder)


def test_read_writes_nothing_to_the_disk(tmp_path: Path, folder: Path) -> None:
    outside = tmp_path / "outside"
    link = tarfile.TarInfo("cifar-100-python/way-out")
    link.type, link.linkname = tarfile.SYMTYPE, str(outside)
    members: list[tuple[tarfile.TarInfo, bytes]] = [
        (tarfile.TarInfo("../outside"), b"evil"),
        (tarfile.TarInfo(str(outside)), b"evil"),
        (link, b""),
        (tarfile.TarInfo("cifar-100-python/way-out/file"), b"evil"),
    ]
    for name in ("train", "test", "meta"):
        content = (folder / name).read_bytes()
        members.append((tarfile.TarInfo(f"cifar-100-python/{name}"), content))
    archive = rewrite(tmp_path / "traversal.tar.gz", members)
    before = sorted(tmp_path.rglob("*"))
    np.testing.assert_array_equal(read(archive, "train").labels, SPLITS["train"].fine)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_read_follows_no_links_in_an_archive(tmp_path: Path, kind: bytes) -> None:
    link = tarfile.TarInfo("cifar-100-python/train")
    link.type, link.linkname = kind, "/etc/passwd"
    assert "KeyError: 'meta'" in refusal(rewrite(tmp_path / "links.tar.gz", [(link, b"")]))


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cos\nsystem\nU\x04true\x85R",
        b"cnumpy\nload\nU\x01x\x85R",
        b"ccodecs\nopen\nU\x01x\x85R",
        b"\x8c\x02os\x8c\x06system\x93",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n",
        b"ios\nsystem\n",
    ],
)
def test_read_refuses_a_pickle_of_other_globals(folder: Path, opcodes: bytes) -> None:
    (folder / "train").write_bytes(b"\x80\x04(" + opcodes + b".")
    assert "which is not allowed" in refusal(folder)


def test_read_does_not_run_a_refused_pickle(folder: Path, tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"

    class Evil:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(evidence),)

    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": Evil()}, 2))
    assert "mkdir, which is not allowed" in refusal(folder)
    assert not evidence.exists()


# 139 terabytes, more than any machine gives, as the length of an array.
TOO_MUCH = b"\x8a\x06\x00\x00\x00\x00\x00\x7f\x85"


@pytest.mark.parametrize(
    ("opcodes", "reason"),
    [
        (b"cnumpy\nndarray\n" + TOO_MUCH + b"\x85R", "not callable"),
        (
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + TOO_MUCH + b"U\x01b\x87R",
            "no attribute 'items'",
        ),
        (b"cnumpy\ndtype\nU\x01OK\x00K\x01\x87R", "an array of type 'O'"),
    ],
)
def test_read_refuses_allowed_globals_with_other_arguments(
    folder: Path, opcodes: bytes, reason: str
) -> None:
    (folder / "train").write_bytes(b"\x80\x02" + opcodes + b".")
    assert reason in refusal(folder)


@pytest.mark.parametrize("key", ["fine_labels", "coarse_labels"])
def test_read_refuses_too_few_labels(folder: Path, key: str) -> None:
    content = toronto_content(SPLITS["train"])
    (folder / "train").write_bytes(python2_pickle(content | {key: content[key][:-1]}))
    assert key in refusal(folder)
