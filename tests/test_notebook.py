"""The notebook, executed whole as Jupyter and Colab execute it, and what of it lies in Git."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from classifier.data.source import DEFAULT_DATASET
from data_files import make_rows, write_archive, write_toronto_folder
from hub_server import Hub, files_of

PROJECT = Path(__file__).resolve().parent.parent
NOTEBOOK = PROJECT / "notebooks" / "cifar100_mlp.ipynb"
SECONDS = 240  # for a cell, on a machine that does other things too

# What stands for google.colab: it notes what it is asked for.
COLAB = {
    "__init__.py": "",
    "drive.py": "def mount(path):\n    print('mounted', path)\n",
    "files.py": "def download(path):\n    print('downloaded', path)\n",
}


# Prints the runs that the notebook's TensorBoard shows, once it has read them.
ASK_TENSORBOARD = """
import json, os, time, urllib.request
(note,) = (Path(os.environ["TMPDIR"]) / ".tensorboard-info").glob("pid-*.info")
port = json.loads(note.read_text())["port"]
for attempt in range(400):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/runs", timeout=10) as answer:
        runs = json.load(answer)
    if len(runs) == 2:
        break
    time.sleep(0.5)
print(sorted(runs))
"""

# What the cells between the data and the loading of the model leave for the latter.
GIVEN = """
import keras
import numpy as np
from classifier.model_folder.folder import ModelFolder
probabilities, labels = ModelFolder(Path(RUN) / "model").predictions()
"""


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module", autouse=True)
def kernel_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What IPython and Jupyter keep of their own is not that of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("jupyter")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(folder / name.lower()))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        patch.setenv("PIP_NO_INDEX", "1")  # nothing is missing here: nothing may be fetched
        yield


def test_it_is_valid_and_holds_no_outputs(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    for cell in code_cells(notebook):
        assert cell.outputs == [], cell.id
        assert cell.execution_count is None, cell.id


def test_it_trains_with_the_functions_of_the_core_and_copies_none(
    notebook: nbformat.NotebookNode,
) -> None:
    source = "\n".join(cell.source for cell in code_cells(notebook))
    for name in ("load_training_data", "build_network", "build_callbacks", "fit", "top_k_accuracy"):
        assert re.search(rf"^from (classifier|evaluation)[.\w]* import .*\b{name}\b", source, re.M)
        assert f"{name}(" in source
        assert f"def {name}(" not in source
    assert "keras.layers" not in source


@pytest.mark.slow
def test_it_runs_whole_on_the_toronto_archive(
    notebook: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where TensorBoard notes its address
    trained = next(i for i, cell in enumerate(notebook.cells) if cell.id == "training")
    board = nbformat.v4.new_code_cell(ASK_TENSORBOARD)  # it ends with the notebook
    notebook.cells.insert(trained + 1, board)
    splits = {"train": make_rows(120, 0), "test": make_rows(60, 1)}
    folder = write_toronto_folder(tmp_path / "unpacked", splits)
    archive = write_archive(tmp_path / "cifar-100-python.tar.gz", folder)
    run = tmp_path / "run"
    execute(
        notebook,
        NOTEBOOK.parent,
        DATASET=str(archive),
        OPTIONS="--epochs 1 --batch-size 32 --set hidden_units=[16] --set image_size=64",
        LOOP_EPOCHS=1,
        RUN=str(run),
        FINE_TUNING="--epochs 1 --set freeze_epochs=1",
        SAVE_TO=str(tmp_path / "drive"),
        APP="local",
    )
    texts = {cell.id: printed(cell) for cell in code_cells(notebook)}
    assert "nada / nothing" in texts["install"]
    assert "(108, 64, 64, 3) uint8" in texts["data"]
    assert "Flatten" in texts["network"]
    assert any(
        "def fit(" in item.get("data", {}).get("text/markdown", "")
        for cell in code_cells(notebook)
        if cell.id == "loop"
        for item in cell.outputs
    )
    assert "top-5: " in texts["loop-score"]
    assert "Test top-1" in texts["training"]
    assert printed(board) == "['train', 'validation']\n"
    assert "http://127.0.0.1:" in texts["app"]
    assert "pretrained/cnn: all layers but the last" in texts["fine-tuning"]
    assert "Test top-1" in texts["fine-tuning"]
    images = {
        cell.id: sum("image/png" in item.get("data", {}) for item in cell.outputs)
        for cell in code_cells(notebook)
    }
    assert images["plots"] == len(list((run / "model" / "plots").glob("*.png")))
    shown = ("pictures", "guesses", "fine-tuning", "flatten", "shift", "robustness")
    assert all(images[name] for name in shown)
    saved = tmp_path / "drive" / "run"
    assert (saved / "model.weights.h5").read_bytes() == (
        run / "model" / "model.weights.h5"
    ).read_bytes()


@pytest.fixture(scope="module")
def printed_otherwise(
    tmp_path_factory: pytest.TempPathFactory,
    small_dataset: Path,
    tiny_run: Path,
    running_hub: Hub,
) -> Iterator[dict[str, str]]:
    """What cells print, by their id, where the parameters are others than in the whole run.

    One kernel executes them: data with another label column, and a model from the Hub.
    """
    folder = tmp_path_factory.mktemp("otherwise")
    run = shutil.copytree(tiny_run, folder / "run")
    running_hub.clear()
    dataset = running_hub.create("datasets", DEFAULT_DATASET)
    running_hub.put(dataset, files_of(small_dataset))
    running_hub.put(running_hub.create("models", "user/name"), files_of(run / "model"))
    cells = {cell.id: cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
    cells["given"] = nbformat.v4.new_code_cell(GIVEN)
    names = ("parameters", "setup", "install", "data", "pictures", "given", "loading")
    notebook = nbformat.v4.new_notebook(cells=[cells[name] for name in names])
    given = {"DATASET": "", "OPTIONS": "--label-column coarse_label", "RUN": str(run)}
    execute(notebook, NOTEBOOK.parent, **given, PUBLISHED="user/name")
    yield {name: printed(cells[name]) for name in names}
    running_hub.clear()


@pytest.mark.slow
def test_it_takes_cifar100_and_a_published_model_from_the_hub(printed_otherwise) -> None:
    assert "(216, 32, 32, 3) uint8" in printed_otherwise["data"]
    assert "clases / classes: 2\n" in printed_otherwise["data"]
    assert DEFAULT_DATASET in printed_otherwise["data"]
    assert "user/name (None, 32, 32, 3) → (None, 6)" in printed_otherwise["loading"]


@pytest.mark.slow
def test_in_colab_it_mounts_drive_fetches_the_project_and_downloads_the_model(
    notebook: nbformat.NotebookNode,
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = tmp_path / "packages" / "google" / "colab"
    package.mkdir(parents=True)
    for name, content in COLAB.items():
        (package / name).write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    monkeypatch.setenv("COLAB_RELEASE_TAG", "test")
    runtime = tmp_path / "content"
    runtime.mkdir()
    cells = {cell.id: cell for cell in notebook.cells}
    notebook.cells = [cells[name] for name in ("parameters", "setup", "install")]
    given = nbformat.v4.new_code_cell(
        "from classifier.model_folder.folder import ModelFolder\n"
        "folder = ModelFolder(Path(RUN) / 'model')\n"
        "print(PROJECT, DATASET)"
    )
    notebook.cells += [given, cells["saving"]]
    (runtime / "cifar-100-python.tar.gz").write_bytes(b"")
    execute(
        notebook,
        runtime,
        REPOSITORY=str(PROJECT),
        MOUNT_DRIVE=True,
        DATASET="cifar-100-python.tar.gz",
        RUN=str(tiny_run),
    )
    assert "mounted /content/drive" in printed(cells["setup"])
    assert "nada / nothing" in printed(cells["install"])
    assert f"{runtime / 'project'} {runtime / 'cifar-100-python.tar.gz'}" in printed(given)
    assert "downloaded" in printed(cells["saving"])


def execute(notebook: nbformat.NotebookNode, folder: Path, **parameters: object) -> None:
    """Executes a notebook in a folder with some of its parameters replaced, as papermill does."""
    place = next(i for i, cell in enumerate(notebook.cells) if cell.id == "parameters")
    lines = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    known = set(re.findall(r"^(\w+) =", notebook.cells[place].source, re.MULTILINE))
    assert parameters.keys() <= known
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(lines))
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute()


def code_cells(notebook: nbformat.NotebookNode) -> Iterator[nbformat.NotebookNode]:
    """The cells with code."""
    return (cell for cell in notebook.cells if cell.cell_type == "code")


def printed(cell: nbformat.NotebookNode) -> str:
    """What an executed cell printed and displayed as text."""
    texts = (item.get("text") or item.get("data", {}).get("text/plain") for item in cell.outputs)
    return "".join(text or "" for text in texts)
