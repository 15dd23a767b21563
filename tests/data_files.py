"""Writes small data sets in each of the forms that the project reads."""

import io
import struct
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

FINE = ("apple", "aquarium_fish", "baby", "bear", "beaver", "bed")
COARSE = ("fruit", "animals", "things")
COARSE_OF_FINE = (0, 1, 1, 1, 1, 2)


@dataclass(frozen=True)
class Rows:
    """Rows of CIFAR-100's kind: images uint8 (N, 32, 32, 3), labels integers (N,)."""

    images: np.ndarray
    fine: np.ndarray
    coarse: np.ndarray


def make_rows(count: int, seed: int) -> Rows:
    """Returns rows of noise that hold every class if `count` is at least that of the classes."""
    generator = np.random.default_rng(seed)
    fine = generator.permutation(np.arange(count) % len(FINE))
    images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Rows(images, fine, np.array(COARSE_OF_FINE)[fine])


def encode(pixels: np.ndarray | PIL.Image.Image, image_format: str = "PNG") -> bytes:
    """Returns an image file."""
    image = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, image_format)
    return file.getvalue()


def write_parquet(folder: Path, split: str, columns: Mapping[str, Any], features: Any) -> Path:
    """Writes a split as the Hub stores it: Parquet, with the features in its metadata.

    Labels are stored as they are given, also where they lie out of range.
    """
    import pyarrow as pa
    import pyarrow.parquet
    from datasets import Dataset

    folder.mkdir(parents=True, exist_ok=True)
    schema = Dataset.from_dict({name: [] for name in columns}, features=features).data.schema
    file = folder / f"{split}-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pa.table(dict(columns), schema=schema), file)
    return file


def write_hub_layout(folder: Path, splits: Mapping[str, Rows]) -> Path:
    """Writes a folder with the layout and the columns of the Hub's `uoft-cs/cifar100`."""
    from datasets import ClassLabel, Features, Image

    features = Features(
        img=Image(),
        fine_label=ClassLabel(names=list(FINE)),
        coarse_label=ClassLabel(names=list(COARSE)),
    )
    for split, rows in splits.items():
        columns = {
            "img": [{"bytes": encode(image), "path": None} for image in rows.images],
            "fine_label": rows.fine.tolist(),
            "coarse_label": rows.coarse.tolist(),
        }
        write_parquet(folder / "cifar100", split, columns, features)
    lines = [f"  - split: {split}\n    path: cifar100/{split}-*\n" for split in splits]
    text = "---\nconfigs:\n- config_name: cifar100\n  data_files:\n" + "".join(lines) + "---\n"
    (folder / "README.md").write_text(text)
    return folder


def write_toronto_folder(folder: Path, splits: Mapping[str, Rows]) -> Path:
    """Writes the files that the Toronto archive unpacks to, as Python 2 wrote them."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        (folder / split).write_bytes(python2_pickle(toronto_content(rows)))
    names = {"fine_label_names": list(FINE), "coarse_label_names": list(COARSE)}
    (folder / "meta").write_bytes(python2_pickle(names))
    return folder


def toronto_content(rows: Rows) -> dict[str, Any]:
    """Returns what the file of a split holds."""
    return {
        "filenames": [f"{row:06}.png" for row in range(len(rows.fine))],
        "batch_label": "training batch 1 of 1",
        "fine_labels": rows.fine.tolist(),
        "coarse_labels": rows.coarse.tolist(),
        "data": rows.images.transpose(0, 3, 1, 2).reshape(len(rows.images), -1),
    }


def write_archive(path: Path, folder: Path) -> Path:
    """Packs a folder as `cifar-100-python.tar.gz` is packed."""
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, "cifar-100-python")
    return path


def python2_pickle(value: Any) -> bytes:
    """Returns what Python 2's `cPickle.dumps(value, 2)` gives: text is a string of bytes there."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value: Any) -> bytes:
    """Returns the opcodes of a value (see `pickletools` for what each of them means)."""
    if isinstance(value, dict):
        items = [_python2(key) + _python2(item) for key, item in value.items()]
        return b"}(" + b"".join(items) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(_python2(item) for item in value) + b"e"
    if isinstance(value, str):
        text = value.encode()
        return b"T" + struct.pack("<i", len(text)) + text
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, np.ndarray):
        return _python2_array(value)
    raise TypeError(f"no opcodes for {type(value)}")


def _python2_array(array: np.ndarray) -> bytes:
    """What the reduction of a uint8 array of two dimensions becomes under NumPy 1 on Python 2."""
    rows, columns = array.shape
    data = array.tobytes()
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    shape = _python2(rows) + _python2(columns) + b"\x86"
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
    kind += b"(K\x03U\x01|NNN" + _python2(-1) + _python2(-1) + b"K\x00tb"
    content = b"T" + struct.pack("<i", len(data)) + data
    return made + b"(K\x01" + shape + kind + b"\x89" + content + b"tb"


def write_image_folder(folder: Path, images: Mapping[str, Sequence[bytes]]) -> Path:
    """Writes image files, named by their number, in a folder for each class."""
    for name, files in images.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(files):
            (folder / name / f"{number}.png").write_bytes(data)
    return folder
