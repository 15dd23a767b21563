"""The Space: what is uploaded, what it is told to serve, and how it is laid out."""

import ast
import fnmatch
import re
import shutil
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from huggingface_hub import RepoCard
from packaging.requirements import Requirement

from app_server import running_app
from classifier.errors import InputError
from classifier.hub.published_files import (
    PROJECT,
    gradio_files,
    static_readme,
    zero_gpu_requirements,
)
from deploy import deploy
from hub_server import Hub
from model_folders import make_model_folder

COPY = ("app.py", "README.md", "requirements.txt", "LICENSE")
WAYS_OUT = r"--sdk static .*--hardware zero-a10g .*paid plan"
pytestmark = pytest.mark.usefixtures("no_backoff")


@pytest.fixture
def model(hub: Hub, repo_id: str) -> str:
    """The name of a model on the Hub."""
    hub.put(hub.create("models", repo_id), dict.fromkeys(MODEL_FILES, b"{}"))
    return repo_id


MODEL_FILES = ("config.json", "model.weights.h5", "labels.json")


@pytest.fixture
def name(repo_id: str) -> str:
    """A name for a Space."""
    return repo_id.replace("model", "space")


def card_of(hub: Hub, name: str) -> dict[str, Any]:
    """Returns the front matter of a Space's README."""
    return RepoCard(hub.spaces[name].main.files["README.md"].content.decode()).data.to_dict()


# A Gradio Space


def test_deploy_uploads_what_the_app_needs(hub: Hub, model: str, name: str) -> None:
    deployment = deploy(name, [model, model])
    repository = hub.spaces[name]
    files = set(repository.main.files) - {".gitattributes"}
    assert {*COPY, "classifier/model_folder/folder.py", "evaluation/report.py"} <= files
    assert fnmatch.filter(files, "pretrained/*/model.weights.h5")
    assert "pretrained/comparison.json" in files  # the tab that compares is drawn from it
    for pattern in ("tests/*", "presets/*", "benchmarks/*", ".*", "*.pyc", "train.py", "Makefile"):
        assert not fnmatch.filter(files, pattern), pattern
    assert b"../shared" not in repository.main.files["pretrained/cnn/training.json"].content
    assert len(repository.commits) == 2  # the Hub's own first one, and ours
    assert repository.sdk == "gradio"
    assert repository.variables["MODEL_ID"]["value"] == f"{model},{model}"
    assert f"{hub.endpoint}/spaces/{name}" in str(deployment)
    assert deployment.commit.commit_url in str(deployment)


def test_deploy_names_and_preloads_the_models(hub: Hub, model: str, name: str) -> None:
    deploy(name, [model])
    data = card_of(hub, name)
    assert data["models"] == [model]
    (preload,) = data["preload_from_hub"]
    assert preload.startswith(f"{model} ")
    assert "model.weights.h5" in preload
    before = RepoCard((PROJECT / "README.md").read_text(encoding="utf-8")).data.to_dict()
    changed = {key for key in data if data[key] != before.get(key)}
    assert changed == {"models", "preload_from_hub"}


def test_deploy_again_changes_nothing_but_old_files(hub: Hub, model: str, name: str) -> None:
    deploy(name, [model])
    again = deploy(name, [model])
    assert not again.changed
    assert "Nothing has changed" in str(again)
    assert hub.asked("POST .*/variables") == 1
    hub.put(hub.spaces[name], {"interface/old.py": b"x = 1\n", "notes.md": b"somebody's own"})
    deploy(name, [model])
    files = hub.spaces[name].main.files
    assert "interface/old.py" not in files
    assert "notes.md" in files


def test_deploy_lasting_fault_says_what_is_done_and_how_to_continue(
    hub: Hub, model: str, name: str, call_command: Callable[..., Any]
) -> None:
    arguments = ("deploy.py", "--space", name, "--model", model)
    for path, done in (("/commit/", ""), ("/variables", ", the files are uploaded")):
        fault = hub.fail("status", path, status=405, times=None)
        result = call_command(*arguments, HF_TOKEN=Hub.WRITE)
        fault.times = 0
        assert result.returncode == 1
        (line,) = result.stderr.strip().splitlines()
        assert "the Hub answered 405" in line
        assert f"the Space is created{done}" in line or (done and done[2:] in line)
        assert line.endswith("The same command continues")
    result = call_command(*arguments, HF_TOKEN=Hub.WRITE)
    assert (result.returncode, result.stderr) == (0, "")
    assert hub.spaces[name].variables["MODEL_ID"]["value"] == model
    assert f"{hub.endpoint}/spaces/{name}" in result.stdout


def test_deploy_refuses_invalid_calls_before_anything_is_made(
    hub: Hub, model: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for space, models, said in (
        ("space", [model], "--space"),
        (name, ["model"], "--model"),
        (name, ["user/nothing"], "no accessible model"),
        ("other/space", [model], "may not write to other/space"),
    ):
        with pytest.raises(InputError, match=said):
            deploy(space, models)
    monkeypatch.setenv("HF_TOKEN", Hub.READ)
    with pytest.raises(InputError, match="may not write to"):
        deploy(name, [model])
    assert not hub.spaces


# What an account may host


def test_deploy_gradio_without_a_paid_plan_names_three_ways_out(
    hub: Hub, model: str, name: str, call_command: Callable[..., Any]
) -> None:
    hub.paid_plan = False
    result = call_command("deploy.py", "--space", name, "--model", model, HF_TOKEN=Hub.WRITE)
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert re.search(f"the Hub answered 402 .*{WAYS_OUT}.*Nothing was changed", line)
    assert not hub.spaces


def test_deploy_on_zero_gpu_without_a_paid_plan(hub: Hub, model: str, name: str) -> None:
    hub.paid_plan = False
    for hardware in ("zero-a10g", None):  # the second time it is what the Space has
        deploy(name, [model], hardware=hardware)
        space = hub.spaces[name]
        assert (space.sdk, space.hardware) == ("gradio", "zero-a10g")
        assert card_of(hub, name)["python_version"] == "3.12"
        requirements = space.main.files["requirements.txt"].content.decode()
        assert not re.search(r"^(gradio|spaces|huggingface_hub)\b", requirements, re.MULTILINE)
        assert "spaces.GPU" in space.main.files["app.py"].content.decode()
    with pytest.raises(InputError, match=f"402.*{WAYS_OUT}"):
        deploy(name, [model], hardware="cpu-upgrade")
    assert space.hardware == "zero-a10g"


def test_zero_gpu_requirements_list_what_the_extras_bring() -> None:
    text = "# all\ngradio[mcp]==6.31.0\nhuggingface_hub==2.4.0\nspaces\nnumpy==2.4.6\n"
    lines = zero_gpu_requirements(text).splitlines()
    assert [Requirement(line).name for line in lines] == ["mcp", "pydantic", "numpy"]
    assert lines[-1] == "numpy==2.4.6"


# A static page


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the page small: what its builder writes is the subject of its own tests."""
    builder = pytest.importorskip("static_page.builder")

    def build(models: Any, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "scripts").mkdir()
        (folder / "scripts" / "page.js").write_text("// " + " ".join(m.name for m in models))
        (folder / "index.html").write_text('<!doctype html><script id="page-data"></script>')

    monkeypatch.setattr(builder, "build_site", build)


@pytest.mark.usefixtures("page")
def test_deploy_static_without_a_paid_plan(hub: Hub, model: str, name: str, tmp_path: Path) -> None:
    hub.paid_plan = False
    mine = make_model_folder(tmp_path / "run" / "model").path.parent
    models = [str(mine), "pretrained/cnn"]
    assert deploy(name, models, sdk="static").changed
    space = hub.spaces[name]
    assert space.sdk == "static"
    assert set(space.main.files) == {
        *(".gitattributes", "README.md", "index.html", "scripts/page.js")
    }
    data = card_of(hub, name)
    assert (data["sdk"], data["app_file"]) == ("static", "index.html")
    assert not {"sdk_version", "python_version", "preload_from_hub"} & set(data)
    assert space.main.files["scripts/page.js"].content == b"// run cnn"
    assert not space.variables
    assert not deploy(name, models, sdk="static").changed
    assert len(space.commits) == 2
    with pytest.raises(InputError, match="runs on none"):
        deploy(name, models, hardware="zero-a10g")


def test_static_readme_names_the_models_of_the_hub_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model_folder(tmp_path / "run" / "model")
    monkeypatch.setenv("HOME", str(tmp_path))
    models = ["~/run", "pretrained/cnn", "hf://user/name", "user/other@v1"]
    data = RepoCard(static_readme(models).decode()).data.to_dict()
    assert data["models"] == ["user/name", "user/other"]
    assert "cifar" not in str(data).lower()


@pytest.mark.usefixtures("page")
def test_deploy_replaces_a_space_of_another_sdk_only_with_force(
    hub: Hub, model: str, name: str
) -> None:
    deploy(name, [model])
    with pytest.raises(InputError, match=r"is a gradio Space.*--force"):
        deploy(name, ["pretrained/cnn"], sdk="static")
    assert "app.py" in hub.spaces[name].main.files
    deploy(name, ["pretrained/cnn"], sdk="static", force=True)
    assert set(hub.spaces[name].main.files) == {
        *(".gitattributes", "README.md", "index.html", "scripts/page.js")
    }


@pytest.mark.usefixtures("page")
def test_output_writes_the_page_whole_or_not_at_all(
    hub: Hub, tmp_path: Path, call_command: Callable[..., Any]
) -> None:
    def write(models: str, folder: str) -> Any:
        return call_command(
            *("deploy.py", "--sdk", "static", "--model", models),
            *("--output", tmp_path / folder),
        )

    for models in ("pretrained/cnn", "pretrained/mlp,pretrained/cnn"):  # the second replaces it
        assert write(models, "my site").returncode == 0
    script = tmp_path / "my site" / "scripts" / "page.js"
    assert script.read_text() == "// mlp cnn"
    shutil.copytree(tmp_path / "my site", tmp_path / "other")
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    (tmp_path / "mine" / "models").mkdir(parents=True)
    for models, folder, said in (
        ("user/nothing", "my site", "no accessible model"),
        ("pretrained/cnn", "other", "holds thesis.txt"),
        ("pretrained/cnn", "mine", "holds models"),
    ):
        result = write(models, folder)
        assert (result.returncode, len(result.stderr.strip().splitlines())) == (2, 1)
        assert said in result.stderr
    assert script.read_text() == "// mlp cnn"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "my site", "other"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--output", "site"), "--output is for --sdk static"),
        (("--output", "site", "--space", "user/name"), "not allowed with"),
        ((), "one of the arguments"),
        (("--space", "user/x", "--sdk", "static", "--hardware", "zero-a10g"), "runs on none"),
        (("--space", "user/x", "--model", ","), "names no model"),
    ],
)
def test_command_invalid_arguments_are_one_line_with_status_2(
    call_command: Callable[..., Any], arguments: tuple[str, ...], said: str
) -> None:
    result = call_command("deploy.py", "--model", "user/name", *arguments)
    assert (result.returncode, len(result.stderr.strip().splitlines())) == (2, 1)
    assert said in result.stderr


# The files of a Gradio Space


def test_gradio_files_hold_every_imported_module() -> None:
    files = gradio_files(["user/name"])
    ours = {path.stem for path in PROJECT.glob("*.py")} | {
        path.parent.name for path in PROJECT.glob("*/__init__.py")
    }
    for name in [name for name in files if name.endswith(".py")]:
        for node in ast.walk(ast.parse((PROJECT / name).read_text(encoding="utf-8"))):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                imported = [str(node.module)]
            for module in imported:
                path = module.replace(".", "/")
                if module.partition(".")[0] in ours:
                    assert f"{path}.py" in files or f"{path}/__init__.py" in files, (name, module)


def test_readme_front_matter_is_what_a_space_needs() -> None:
    data = RepoCard((PROJECT / "README.md").read_text(encoding="utf-8")).data.to_dict()
    assert (data["sdk"], data["app_file"]) == ("gradio", "app.py")
    assert re.fullmatch(r"3\.\d+", str(data["python_version"]))
    lines = (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pins = {item.name: str(item.specifier) for item in wanted}
    assert pins["gradio"] == f"=={data['sdk_version']}"
    assert data["datasets"] == ["uoft-cs/cifar100"]
    assert len(data["short_description"]) <= 60
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {data["colorFrom"], data["colorTo"]} <= colours


@pytest.mark.slow
def test_requirements_alone_start_the_app_of_a_space(
    hub: Hub, repo_id: str, name: str, tmp_path: Path
) -> None:
    made = make_model_folder(tmp_path / "model")
    hub.put(
        hub.create("models", repo_id),
        {file: (made.path / file).read_bytes() for file in made.files()},
    )
    deploy(name, [repo_id])
    repository = hub.spaces[name]
    root = tmp_path / "space"
    for path, blob in repository.main.files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(blob.content)
    packages = only_required_packages(root / "requirements.txt", tmp_path / "packages")
    assert not (packages / "pytest").exists()
    environment = {
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(packages),
        "HF_ENDPOINT": hub.endpoint,
        "MODEL_ID": repository.variables["MODEL_ID"]["value"],
    }
    # -S: nothing but these packages and the standard library can be imported.
    command = ("-S", "app.py")
    with running_app(tmp_path, command=command, project=root, **environment) as app:
        served = Client(app.url, verbose=False).predict(api_name="/models")
    assert [(model["name"], model["source"]) for model in served] == [(repo_id, "hub")]
    assert served[0]["revision"] == hub.models[repo_id].main.sha


def only_required_packages(requirements: Path, folder: Path) -> Path:
    """Fills a folder with links to what `requirements.txt` asks for, and what that brings along."""
    folder.mkdir()
    lines = requirements.read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    seen: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        for extra in ("", *requirement.extras):
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if not applies or (requirement.name.lower(), extra) in seen:
                continue
            seen.add((requirement.name.lower(), extra))
            distribution = metadata.distribution(requirement.name)
            for file in distribution.files or []:
                top = file.parts[0]
                if top not in ("..", "__pycache__") and not (folder / top).exists():
                    (folder / top).symlink_to(distribution.locate_file(top))
            for line in distribution.requires or []:
                inner = Requirement(line)
                if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                    inner.marker = None
                    wanted.append(inner)
    return folder


def test_makefile_passes_its_variables() -> None:
    run = subprocess.run(
        ["make", "-n", "-o", ".venv/.app", "space", "SPACE=a/b", "MODEL=c/d", "SDK=static"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert '--space "a/b" --model "c/d" --sdk "static"' in run.stdout
    assert "--hardware" not in run.stdout


# ZeroGPU brings a module `spaces` that ends the start unless a marked function is bound to an event
STAND_IN = """
import gradio

def GPU(function):
    function.marked = True
    return function

launch = gradio.Blocks.launch

def launch_if_marked(blocks, *arguments, **options):
    if not any(getattr(event.fn, "marked", False) for event in blocks.fns.values()):
        raise RuntimeError("No @spaces.GPU function detected during startup")
    print("A marked function is bound.", flush=True)
    return launch(blocks, *arguments, **options)

gradio.Blocks.launch = launch_if_marked
"""


def test_app_starts_on_zero_gpu(tmp_path: Path) -> None:
    (tmp_path / "spaces.py").write_text(STAND_IN)
    made = make_model_folder(tmp_path / "tiny")
    environment = {"PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)}
    with running_app(tmp_path, "--model", made.path, **environment) as app:
        (served,) = Client(app.url, verbose=False).predict(api_name="/models")
    assert "A marked function is bound." in app.log.read_text()
    assert served["name"] == "tiny"
