"""The command that classifies files: every file gets its row, whatever it is called or holds."""

import csv
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from classifier.data.data_files import identity
from classifier.model_folder.folder import ModelFolder
from classifier.prediction import runtime
from classifier.prediction.classifier import Classifier
from classifier.prediction.paths import InputFile, find_files, read_names
from classifier.prediction.stream import Answer, classify_files
from model_folders import CLASSES, LABELS, make_model_folder
from pictures import bad_pictures, encoded, good_pictures, scene

PROJECT = Path(__file__).resolve().parent.parent
KEYS = ["path", "class", "probability", "class_2", "probability_2", "superclass", "error"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return make_model_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def run(call_command: Callable[..., subprocess.CompletedProcess[str]], model: ModelFolder):
    """Runs `classify.py` with the tiny model."""
    return lambda *arguments: call_command("classify.py", "--model", model.path, *arguments)


class Stub(Classifier):
    """Answers without Keras; keeps how many images it was given at a time."""

    image_size = 32

    def __init__(self) -> None:
        self.labels = LABELS
        self.batches: list[int] = []

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(len(images))
        return np.tile(np.linspace(0.3, 0.05, len(CLASSES), dtype=np.float32), (len(images), 1))


def write(path: Path, content: bytes | None = None) -> Path:
    """Writes a file, a picture if no content is given, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(scene(), "JPEG") if content is None else content)
    return path


def last_line(error: str) -> str:
    """Returns the last line of standard error; a backend may have announced itself before it."""
    return error.strip().splitlines()[-1]


def answers(files: object) -> list[Answer]:
    """Returns what the stub says of files."""
    return [answer for batch in classify_files(Stub(), files) for answer in batch]  # type: ignore[arg-type]


def test_classify_files_answers_every_picture_as_the_app_does(
    tmp_path: Path, model: ModelFolder
) -> None:
    bad = {name: item for name, (item, why) in bad_pictures().items() if why != "too_large"}
    pictures = {**good_pictures(), **bad}
    for name, content in pictures.items():
        write(tmp_path / name, content)
    classifier = runtime.load(model)
    found = [a for batch in classify_files(classifier, find_files([str(tmp_path)])) for a in batch]
    assert [Path(answer.path).name for answer in found] == sorted(pictures)
    for answer in found:
        name = Path(answer.path).name
        assert bool(answer.error) is (name in bad_pictures()), name
        if answer.prediction is not None:
            expected = classifier.classify(pictures[name])
            assert np.array_equal(answer.prediction.model_input, expected.model_input), name


def test_csv_has_a_row_for_each_file_in_the_order_of_their_names(tmp_path: Path, run) -> None:
    write(tmp_path / "b" / "2.jpg")
    write(tmp_path / "b" / "1.no-picture", b"text")
    write(tmp_path / "a" / "deep" / "er" / "no_suffix")
    write(tmp_path / "c.jpg")
    result = run(tmp_path, tmp_path / "c.jpg", "--top", 2, "--format", "csv")
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert list(rows[0]) == KEYS
    names = ["a/deep/er/no_suffix", "b/1.no-picture", "b/2.jpg", "c.jpg", "c.jpg"]
    assert [row["path"] for row in rows] == [f"{tmp_path}/{name}" for name in names]
    assert [bool(row["error"]) for row in rows] == [False, True, False, False, False]
    for row in rows:
        assert (row["class"] in CLASSES) is not bool(row["error"])
        assert (row["superclass"] in ("animals", "things")) is not bool(row["error"])
        assert row["error"] or 0 < float(row["probability_2"]) <= float(row["probability"]) <= 1
    assert result.returncode == 1
    assert last_line(result.stderr) == "error: 1 of 5 files could not be read: see their rows"


@pytest.mark.skipif(os.name == "nt", reason="such names are no file's there")
def test_names_of_any_kind_break_no_format(tmp_path: Path, run) -> None:
    names = [b'new\nline, "quoted".jpg', b"caf\xe9.jpg", b"carriage\rreturn", "寿司".encode()]
    names += [b"\x1b[31mred.jpg", b" space ", b"-", b"-o", b"=1+1"]
    for name in names:
        write(tmp_path / os.fsdecode(name))
    lines = run(tmp_path, "--top", 2, "--format", "jsonl").stdout.split("\n")[:-1]
    assert all(list(json.loads(line)) == KEYS for line in lines)
    found = [os.fsencode(json.loads(line)["path"]) for line in lines]
    assert sorted(found) == sorted(os.fsencode(tmp_path) + b"/" + name for name in names)
    output = tmp_path.parent / "answers.csv"
    assert run(tmp_path, "--top", 1, "--format", "csv", "--output", output).returncode == 0
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(names)
    assert all(row["class"] in CLASSES and not row["error"] for row in rows)
    assert f"{tmp_path}/caf\\udce9.jpg" in [row["path"] for row in rows]
    text = run(tmp_path).stdout
    assert len(text.splitlines()) == len(names)
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: FILE|FOLDER|-"),
        (["a.jpg", "--top", "0"], "give a positive integer. Received: '0'"),
        (["a.jpg", "--model", "/nowhere"], "neither a local folder nor a Hub id"),
        (["a.jpg", "--output", os.devnull], "is not a regular file"),
        (["a.jpg", "--output", "a.jpg"], "is to be classified itself"),
    ],
)
def test_a_wrong_call_is_one_line(
    arguments: list[str],
    message: str,
    call_command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    result = call_command("classify.py", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in last_line(result.stderr)


def test_the_output_of_a_run_is_not_classified_with_its_folder(tmp_path: Path, run) -> None:
    write(tmp_path / "a.jpg")
    for _ in range(2):
        result = run(tmp_path, "--output", tmp_path / "rows.txt")
        assert result.returncode == 0, result.stderr
    assert len((tmp_path / "rows.txt").read_text().splitlines()) == 1
    ours = [identity((tmp_path / "rows.txt").stat())]
    assert list(find_files([f"{tmp_path}/rows.txt"], exclude=ours)) == []  # as a list names it
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "rows.txt"]


def test_classify_imports_neither_keras_nor_tensorflow(tmp_path: Path, model: ModelFolder) -> None:
    command = ["-X", "importtime", "classify.py", str(write(tmp_path / "a.jpg"))]
    result = subprocess.run(
        [sys.executable, *command, "--model", str(model.path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    names = [line.rpartition("|")[2].strip() for line in result.stderr.splitlines()]
    imported = {name.partition(".")[0] for name in names}
    assert "onnxruntime" in imported
    assert not {"keras", "tensorflow", "jax", "scipy", "datasets"} & imported


@pytest.mark.skipif(os.name == "nt", reason="needs pipes, sockets and links in a folder")
def test_what_is_no_regular_file_is_an_error_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "link.jpg").symlink_to(write(tmp_path.parent / "elsewhere.jpg"))
    start = time.monotonic()
    found = {Path(answer.path).name: answer for answer in answers(find_files([str(tmp_path)]))}
    assert time.monotonic() - start < 10
    assert list(found) == ["device", "gone", "itself", "link.jpg", "pipe", "socket"]
    assert found.pop("link.jpg").prediction is not None
    assert all(answer.error for answer in found.values())
    server.close()


def test_find_files_searches_each_folder_once_however_it_is_linked(tmp_path: Path) -> None:
    names = "abcdefghi"
    for name in names:  # each links to all others: nine folders would make a million paths
        write(tmp_path / name / f"{name}.jpg")
        for other in names:
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    found = [item.path for item in find_files([str(tmp_path)])]
    assert sorted(Path(path).name for path in found) == [f"{name}.jpg" for name in names]
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert len(list(find_files([str(tmp_path)]))) == len(names)


def test_find_files_skips_what_data_sets_skip(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    for name in ("._a.jpg", ".DS_Store", "Thumbs.db", "@eaDir/a.jpg", ".ipynb_checkpoints/a.jpg"):
        write(tmp_path / name)
    assert [item.path for item in find_files([str(tmp_path)])] == [f"{tmp_path}/a.jpg"]
    assert [item.path for item in find_files([f"{tmp_path}/._a.jpg"])] == [f"{tmp_path}/._a.jpg"]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"a b\nb\0c\0", ["a b\nb", "c"]),
        (b".\0./a.jpg\0", [".", "./a.jpg"]),
        (b"caf\xe9\n", ["caf\udce9"]),
        (b"a.jpg\r\n\r\nb.jpg\r\nc.jpg\r", ["a.jpg", "b.jpg", "c.jpg"]),
        ("\ufeffé.jpg\r\nb.jpg".encode(), ["é.jpg", "b.jpg"]),
        ("/é/a.jpg\r\n寿司.jpg\r\n".encode("utf-16"), ["/é/a.jpg", "寿司.jpg"]),
    ],
)
def test_read_names_reads_lists_of_every_system(content: bytes, names: list[str]) -> None:
    assert list(read_names(content)) == names


def test_find_files_does_not_search_the_disk_for_a_list_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = io.TextIOWrapper(io.BytesIO(b"/\n/tmp/..\n"))
    monkeypatch.setattr(sys, "stdin", listed)
    found = list(find_files(["-"]))
    assert [item.path for item in found] == ["/", "/tmp/.."]
    assert all("whole disk" in str(item.error) for item in found)


def test_classify_files_decodes_one_batch_ahead(tmp_path: Path) -> None:
    picture = str(write(tmp_path / "a.jpg", encoded(scene(32, 32), "JPEG")))
    taken = 0

    def endless() -> Iterator[InputFile]:
        nonlocal taken
        while True:
            taken += 1
            yield InputFile(picture)

    classifier = Stub()
    batches = classify_files(classifier, endless())
    for done in range(1, 4):
        assert len(next(batches)) == 64
        assert taken <= (done + 1) * 64
    batches.close()  # type: ignore[attr-defined]
    assert classifier.batches == [64] * 3
