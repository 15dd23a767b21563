"""Every command and snippet of the documents is run, also those within a line of text.

They run in a small copy of the project with tiny presets, tiny models in `pretrained/` and
`runs/mine`, small data under the names that the documents use, and a Hub on loopback that holds
`uoft-cs/…` and `user/name`. What else is changed in a command before it runs stands in `CHANGES`,
each with its reason. A block that none of the ways below takes, or that fails, fails the test.
"""

import ast
import contextlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import yaml

from app_server import RunningApp, running_app
from data_files import make_rows, write_archive, write_toronto_folder
from hub_server import ENDPOINT, Hub, files_of
from postgres_server import find_programs, postgres

PROJECT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "README.es.md", *sorted(f"docs/{p.name}" for p in PROJECT.glob("docs/*.md"))]
COPIED = ("*.py", "requirements*", "Makefile", "model_card.md", "README.md", "LICENSE")
FOLDERS = ("classifier", "evaluation", "interface", "static_page", "benchmarks", "presets")
MODELS = ("mlp-baseline", "mlp", "mlp-alone", "cnn")
DATASETS = ("uoft-cs/cifar100", "uoft-cs/cifar10")
SECONDS = 300  # for a command, on a machine that does other things too

TINY = {  # replaces these settings in every preset
    "hidden_units": [16],
    "local_units": 16,
    "local_maps": [4, 4, 2],
    "width": 16,
    "depth": 1,
    "channels": [4, 4],
    "batch_size": 32,
    "epochs": 1,
    "warmup_epochs": 0.5,
    "distillation_views": 1,
}
CHANGES = (  # in a command, before it runs
    (r"--epochs \d+", "--epochs 2"),
    (r"--trials \d+", "--trials 2"),
    (r" --share\b", ""),  # asks a server of Gradio's for an address
    (r"--port \d+", ""),  # the test's own port is free
    (r"^hf auth login", "hf auth login --token $HF_TOKEN"),
    (r"^tensorboard ", "python -m tensorboard.main --inspect "),  # reads the files and ends
    (r"^make ", "make -n "),  # names what it would do
    (r"^python -m http.server -d (\S+)", r"test -f \1/index.html"),  # serves until it is ended
    (r"^python -m http.server$", r"\g<0> --help"),
    # Asks no registry: what is to be installed must be what is installed here.
    (r"^pip install ", "python -m pip install -q --no-index --dry-run "),
    ("from handler import", "from classifier.hub.handler import"),  # copied from a published model
    (r"^(python -m benchmarks\..*)", r"\1 --help"),  # hours; their own tests run them small
    (r"^(hf jobs hardware)", r"\1 --help"),  # asks the Hub what it rents out
    (r"--preset NAME\b", "--preset mlp"),
    (r"--dataset emoji\b", "--dataset path/to/images"),  # drawn with a font that not all have
)
INLINE = r"`((?:python|make|pip|hf|source) [^`\n]+)`"  # a command in a line of text
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
POSTGRES = "postgresql://user@database-host/studies"  # the test's own server stands for it


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass
class Workshop:
    """The copy of the project, and what runs in it."""

    folder: Path
    dataset: Path
    hub: Hub
    environment: dict[str, str]
    runner: subprocess.Popen[str]
    postgres: str | None  # URL of a database, where there is a server
    app: str = ""
    done: set[str] = field(default_factory=set)

    def restock(self, *, published: bool = True) -> None:
        """Fills the Hub with the data sets that the documents name, and with `user/name`."""
        self.hub.clear()
        for name in DATASETS:
            self.hub.put(self.hub.create("datasets", name), files_of(self.dataset))
        if published:
            repository = self.hub.create("models", "user/name")
            model = files_of(self.folder / "pretrained" / "mlp")
            repository.tags["v1"] = self.hub.put(repository, model).sha

    def ask(self, **request: Any) -> tuple[int, str]:
        """Has the runner run something; returns its exit status and what it printed."""
        assert self.runner.stdin
        assert self.runner.stdout
        self.runner.stdin.write(json.dumps(request) + "\n")
        self.runner.stdin.flush()
        limit = threading.Timer(SECONDS, self.runner.kill)
        limit.start()
        line = self.runner.stdout.readline()
        limit.cancel()
        assert line, f"{request} does not end"
        answer = json.loads(line)
        return answer["status"], answer["output"]

    def shell(self, script: str) -> tuple[int, str]:
        """Runs a script with bash, which ends at the first command that fails."""
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        return result.returncode, result.stdout

    def served(self, *arguments: str) -> contextlib.AbstractContextManager[RunningApp]:
        """Starts `python app.py`, waits until it answers, and ends it."""
        folder = self.folder
        return running_app(folder, *arguments, project=folder, **self.environment)


def blocks(page: str) -> list[Block]:
    """Returns the fenced blocks of a page."""
    text = (PROJECT / page).read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(page, text[: m.start()].count("\n") + 1, m[1], m[2]) for m in found]


def inline(page: str) -> list[Block]:
    """Returns the commands that stand in a page's text, each as a block."""
    text = (PROJECT / page).read_text(encoding="utf-8")
    text = FENCE.sub(lambda m: "\n" * m[0].count("\n"), text)
    found = re.finditer(INLINE, text)
    return [Block(page, text[: m.start()].count("\n") + 1, "sh", m[1]) for m in found]


@pytest.fixture(scope="module")
def workshop(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_run: Path,
    small_dataset: Path,
    running_hub: Hub,
) -> Iterator[Workshop]:
    root = tmp_path_factory.mktemp("docs")
    folder = copy_of_the_project(root / "project", tiny_run)
    put_data(folder, small_dataset)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HF_ENDPOINT": ENDPOINT,
        "HF_TOKEN": Hub.WRITE,
        "HF_HOME": str(root / "hf"),
        "HF_HUB_CACHE": str(root / "hf" / "hub"),
        "HF_DATASETS_CACHE": str(root / "hf" / "datasets"),
        "CIFAR100_MLP_CACHE": str(root / "arrays"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    runner = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("command_runner.py"))],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    made = Workshop(folder, small_dataset, running_hub, environment, runner, postgres=None)
    made.restock()
    programs = find_programs() if importlib.util.find_spec("psycopg") else None
    database = postgres(programs) if programs else contextlib.nullcontext()
    try:
        with database as made.postgres, made.served() as app:
            made.app = app.url
            yield made
    finally:
        runner.kill()
        runner.wait()
        running_hub.clear()


@pytest.mark.slow
@pytest.mark.timeout(1200)  # for the commands of the longest page together
@pytest.mark.parametrize("page", [page for page in PAGES if (PROJECT / page).exists()])
def test_every_command_of_a_page_works(page: str, workshop: Workshop) -> None:
    for block in blocks(page) + inline(page):
        check = CHECKS.get(block.language)
        assert check, f"{block}: no rule says how to test a block of {block.language!r}"
        check(block, workshop)


@pytest.mark.documents
def test_both_readmes_have_the_same_headings_and_commands() -> None:
    pages = ("README.md", "README.es.md")
    texts = [(PROJECT / page).read_text(encoding="utf-8") for page in pages]
    headings = [re.findall(r"^(#+) ", re.sub(FENCE, "", text), re.MULTILINE) for text in texts]
    assert headings[0] == headings[1]
    commands = [[(block.language, *bare(block)) for block in blocks(page)] for page in pages]
    assert commands[0] == commands[1]


# How a block is tested, by its language.


def check_shell(block: Block, workshop: Workshop) -> None:
    """Runs a block, line by line where each is a command of its own."""
    commands = bare(block)
    if not all(re.match(r"(python|hf|make|tensorboard|pip|npm|source) ", x) for x in commands):
        commands = ("\n".join(commands),)
    for command in commands:
        if command in workshop.done:
            continue
        start = time.monotonic()
        status, output = run_line(changed(command, workshop), workshop)
        print(f"{time.monotonic() - start:5.1f} s  {command}")
        assert status == 0, f"{block}: {command}\n{output[-3000:]}"
        workshop.done.add(command)


def check_python(block: Block, workshop: Workshop) -> None:
    """Runs a snippet after the earlier ones of its page."""
    (code,) = bare(block)
    if code in workshop.done:
        return
    status, output = workshop.ask(code=changed(code, workshop), page=block.page)
    assert status == 0, f"{block}:\n{output[-3000:]}"
    workshop.done.add(code)


def check_javascript(block: Block, workshop: Workshop) -> None:
    """Checks the syntax of a module with Node.js; its package comes from a registry."""
    file = workshop.folder / "page.mjs"
    file.write_text(block.code, encoding="utf-8")
    status, output = workshop.shell("! command -v node || node --check page.mjs")
    assert status == 0, f"{block}:\n{output[-3000:]}"


def check_slurm(block: Block, workshop: Workshop) -> None:
    """Checks the syntax of a job's script: there is no cluster here."""
    script = workshop.folder / "job.sh"
    script.write_text(block.code, encoding="utf-8")
    status, output = workshop.shell("bash -n job.sh")
    assert status == 0, f"{block}: {output}"


def check_yaml(block: Block, workshop: Workshop) -> None:
    """Reads a piece of YAML or JSON."""
    assert yaml.safe_load(block.code), block


CHECKS = {
    "sh": check_shell,
    "python": check_python,
    "js": check_javascript,
    "slurm": check_slurm,
    "yaml": check_yaml,
    "json": check_yaml,
    "text": lambda block, workshop: None,
}


def run_line(command: str, workshop: Workshop) -> tuple[int, str]:
    """Runs a command in the way that is quickest for its kind."""
    if command.startswith("npm install"):  # from a registry
        return 0, ""
    if command.startswith("python app.py"):
        with workshop.served(*shlex.split(command)[2:]):
            return 0, ""
    if POSTGRES in command:
        if workshop.postgres is None:
            print("  not run: there is no PostgreSQL here")
            return 0, ""
        command = command.replace(POSTGRES, workshop.postgres)
    alone = "--distributed" in command  # on another backend than the runner's
    if alone and command.startswith("python train.py"):
        make_room(shlex.split(command)[1:], workshop)
    known = re.match(r"python (-m (?!pip)|\w+\.py)", command)
    if alone or not known or re.search(r"[;&|<>\n]", command):
        return workshop.shell(command)
    words = shlex.split(command)[1:]
    if words[0] == "train.py":
        make_room(words, workshop)
    answer = workshop.ask(argv=words)
    if "--push" in words:
        workshop.restock()
    return answer


def make_room(words: list[str], workshop: Workshop) -> None:
    """Removes an earlier run or publication: the commands of a page are alternatives."""
    if "--push" in words:
        workshop.restock(published=False)
    if "--resume" not in words and "--from" not in words:
        preset = words[words.index("--preset") + 1] if "--preset" in words else MODELS[0]
        output = words[words.index("--output") + 1] if "--output" in words else f"runs/{preset}"
        shutil.rmtree(workshop.folder / output, ignore_errors=True)


def changed(code: str, workshop: Workshop) -> str:
    """Returns what runs in the place of a command or snippet."""
    for pattern, replacement in CHANGES:
        code = re.sub(pattern, replacement, code)
    return code.replace("http://127.0.0.1:7860", workshop.app)


def bare(block: Block) -> tuple[str, ...]:
    """Returns the commands of a block without comments; a snippet is one."""
    if block.language == "python":
        return (ast.unparse(ast.parse(block.code)),)
    if block.language != "sh":
        return (re.sub(r"\s*(//|#) .*", "", block.code),)
    joined = block.code.replace("\\\n", " ")
    lines = (re.sub(r"(^|\s+)# .*", "", line).rstrip() for line in joined.splitlines())
    return tuple(line for line in lines if line)


# The copy and what is in it.


def copy_of_the_project(folder: Path, tiny_run: Path) -> Path:
    """Copies the code, with tiny presets, and tiny models under the names of the embedded ones."""
    folder.mkdir()
    for pattern in COPIED:
        for path in PROJECT.glob(pattern):
            shutil.copy(path, folder)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in FOLDERS:
        shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
    for path in (folder / "presets").glob("*.yaml"):
        preset = yaml.safe_load(path.read_text(encoding="utf-8"))
        tiny = {name: TINY.get(name, value) for name, value in preset.items()}
        path.write_text(yaml.safe_dump(tiny), encoding="utf-8")
    for name in MODELS:
        shutil.copytree(tiny_run / "model", folder / "pretrained" / name)
    shutil.copytree(tiny_run, folder / "runs" / "mine")
    (folder / ".venv").symlink_to(sys.prefix)  # as `make test` has made it
    return folder


def put_data(folder: Path, small_dataset: Path) -> None:
    """Puts small data where the documents name some."""
    from datasets import load_dataset

    tables = load_dataset(str(small_dataset), cache_dir=str(folder / ".datasets"))
    for split, table in tables.items():
        classes = table.features["fine_label"].names
        for number, row in enumerate(table):
            place = folder / "path" / "to" / "images" / split / classes[row["fine_label"]]
            place.mkdir(parents=True, exist_ok=True)
            row["img"].save(place / f"{number}.png")
    splits = {"train": make_rows(120, 0), "test": make_rows(60, 1)}
    unpacked = write_toronto_folder(folder / "toronto", splits)
    write_archive(folder / "cifar-100-python.tar.gz", unpacked)
    shutil.copy(gr.get_image("lion.jpg"), folder / "photo.jpg")
