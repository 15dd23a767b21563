"""The notebook, executed whole as Jupyter and Colab execute it, and what of it lies in Git."""

import ast
import re
import shutil
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from classifier.data.loading import DEFAULT_DATASET
from data_files import make_rows, write_archive, write_toronto_folder
from hub_server import Hub

PROJECT = Path(__file__).resolve().parent.parent
NOTEBOOK = PROJECT / "notebooks" / "cifar100_mlp.ipynb"
ROOMS = ("classifier", "evaluation", "interface")
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
for attempt in range(120):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/runs", timeout=10) as answer:
        runs = json.load(answer)
    if len(runs) == 2:
        break
    time.sleep(0.5)
print(sorted(runs))
"""


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(autouse=True)
def kernel_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What IPython and Jupyter keep of their own is not that of whoever runs the tests."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # nothing is missing here: nothing may be fetched


def test_it_is_valid_and_holds_no_outputs(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    for cell in code_cells(notebook):
        assert cell.outputs == [], cell.id
        assert cell.execution_count is None, cell.id


def test_its_badge_opens_it_in_colab(notebook: nbformat.NotebookNode) -> None:
    (address,) = re.findall(r"\]\((https://colab[^)]*ipynb)\)", notebook.cells[0].source)
    path = NOTEBOOK.relative_to(PROJECT).as_posix()
    assert address == f"https://colab.research.google.com/github/user/name/blob/main/{path}"
    assert address in (PROJECT / "README.md").read_text(encoding="utf-8")


def test_every_text_is_in_spanish_with_english_beside_it(notebook: nbformat.NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert "> *English" in cell.source, cell.id


def test_it_calls_the_project_and_copies_nothing_of_it(notebook: nbformat.NotebookNode) -> None:
    source = "\n".join(cell.source for cell in code_cells(notebook))
    assert re.search(r"^import train$", source, re.MULTILINE)
    for room in ROOMS:
        assert re.search(rf"^from {room}[.\w]* import", source, re.MULTILINE), room
    ours = {name for room in ROOMS for path in (PROJECT / room).rglob("*.py") for name in of(path)}
    defined = {
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and hasattr(node, "name")
    }
    assert not defined & ours
    assert "keras.layers" not in source


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
        OPTIONS="--epochs 1 --batch-size 32 --set hidden_units=[16]",
        RUN=str(run),
        SAVE_TO=str(tmp_path / "drive"),
        APP="local",
    )
    texts = {cell.id: printed(cell) for cell in code_cells(notebook)}
    assert "nada / nothing" in texts["install"]
    assert "(120, 32, 32, 3) uint8" in texts["data"]
    assert "Flatten" in texts["network"]
    assert "Test top-1" in texts["training"]
    assert printed(board) == "['train', 'validation']\n"
    assert "http://127.0.0.1:" in texts["app"]
    images = {
        cell.id: sum("image/png" in item.get("data", {}) for item in cell.outputs)
        for cell in code_cells(notebook)
    }
    assert images["plots"] == len(list((run / "model" / "plots").glob("*.png")))
    assert all(images[name] for name in ("pictures", "guesses", "flatten", "shift", "robustness"))
    saved = tmp_path / "drive" / "run"
    assert (saved / "model.weights.h5").read_bytes() == (
        run / "model" / "model.weights.h5"
    ).read_bytes()


def test_it_takes_cifar100_and_a_published_model_from_the_hub(
    notebook: nbformat.NotebookNode, small_dataset: Path, tiny_run: Path, hub: Hub
) -> None:
    hub.put(hub.create("datasets", DEFAULT_DATASET), contents(small_dataset))
    hub.put(hub.create("models", "user/name"), contents(tiny_run / "model"))
    cells = {cell.id: cell for cell in notebook.cells}
    given = nbformat.v4.new_code_cell(
        "import keras\n"
        "import numpy as np\n"
        "from classifier.model_folder.folder import ModelFolder\n"
        "probabilities, labels = ModelFolder(Path(RUN) / 'model').predictions()"
    )
    names = ("parameters", "setup", "install", "data")
    notebook.cells = [*(cells[name] for name in names), given, cells["loading"]]
    execute(notebook, NOTEBOOK.parent, DATASET="", RUN=str(tiny_run), PUBLISHED="user/name")
    assert "(240, 32, 32, 3) uint8" in printed(cells["data"])
    assert DEFAULT_DATASET in printed(cells["data"])
    assert "user/name (None, 32, 32, 3) → (None, 6)" in printed(cells["loading"])


def test_the_app_says_so_where_no_public_link_can_be_had(
    notebook: nbformat.NotebookNode, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradio's server of links cannot be reached from here; in Colab it prints one."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("GRADIO_SHARE_SERVER_ADDRESS", f"127.0.0.1:{closed.getsockname()[1]}")
    cells = {cell.id: cell for cell in notebook.cells}
    names = ("parameters", "setup", "install", "app", "app-end")
    notebook.cells = [cells[name] for name in names]
    run = shutil.copytree(tiny_run, tmp_path / "run")
    stop = cells["app-end"]
    stop.source = stop.source.replace("STOP_APP = False", "STOP_APP = True")
    execute(notebook, NOTEBOOK.parent, RUN=str(run), APP="share")
    text = printed(cells["app"])
    assert "http://127.0.0.1:" in text
    assert "Could not create share link" in text


def test_what_is_installed_already_keeps_its_version(
    notebook: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing package that asks for another NumPy: pip refuses, and nothing is replaced."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name, requirement in (("greedy", "numpy<1"), ("modest", "numpy>1")):
        write_wheel(wheels, name, requirement)
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_DRY_RUN", "1")  # resolves, and leaves these tests' packages alone
    cells = {cell.id: cell for cell in notebook.cells}
    notebook.cells = [cells[name] for name in ("parameters", "setup", "install")]
    attempt = nbformat.v4.new_code_cell(
        "for name in ('greedy', 'modest'):\n"
        "    try:\n"
        "        install(name)\n"
        "        print(name, 'fits')\n"
        "    except subprocess.CalledProcessError:\n"
        "        print(name, 'refused')\n"
    )
    notebook.cells.append(attempt)
    execute(notebook, NOTEBOOK.parent)
    assert "greedy refused" in printed(attempt)
    assert "modest fits" in printed(attempt)


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


def write_wheel(folder: Path, name: str, requirement: str) -> None:
    """Writes a package of one empty module that needs another package."""
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        info = f"{name}-1.0.dist-info"
        wheel.writestr(f"{name}.py", "")
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        wheel.writestr(f"{info}/METADATA", f"{metadata}Requires-Dist: {requirement}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their paths in it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


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


def of(path: Path) -> set[str]:
    """The names of the functions and classes at the top of a module."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
