"""The Space: what is uploaded, what it is told to serve, and how it is laid out."""

import ast
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from huggingface_hub import RepoCard
from packaging.requirements import Requirement

import deploy
from classifier import hub_client
from classifier.errors import InputError
from classifier.hub import HubError
from hub_server import Hub
from model_folders import make_model_folder
from ports import free_port

PROJECT = deploy.PROJECT


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other without the waits that a real fault needs."""
    monkeypatch.setattr(hub_client, "BACKOFF", (0.01,) * 4)


@pytest.fixture
def model(hub: Hub, repo_id: str) -> str:
    """The name of a model on the Hub."""
    hub.create("models", repo_id)
    return repo_id


@pytest.fixture
def name(repo_id: str) -> str:
    """A name for a Space."""
    return repo_id.replace("model", "space")


def test_the_space_holds_what_the_app_needs_and_nothing_else(
    hub: Hub, model: str, name: str
) -> None:
    deployment = deploy.deploy(name, [model])
    repository = hub.spaces[name]
    files = set(repository.main.files) - {".gitattributes"}
    assert {"app.py", "README.md", "requirements.txt", "LICENSE"} <= files
    assert "classifier/model_folder/folder.py" in files
    assert "evaluation/report.py" in files
    assert any(file.startswith("interface/") for file in files)
    assert any(fnmatch.fnmatch(file, "pretrained/*/model.weights.h5") for file in files)
    # The tab that compares is drawn from it.
    assert "pretrained/comparison.json" in files
    assert not fnmatch.filter(files, "benchmarks/*")
    for pattern in ("tests/*", "presets/*", ".*", "*.pyc", "train.py", "Makefile"):
        assert not fnmatch.filter(files, pattern), pattern
    assert len(repository.commits) == 2  # the Hub's own first one, and ours
    assert repository.sdk == "gradio"
    assert deployment.page == f"{hub.endpoint}/spaces/{name}"
    assert deployment.commit in str(deployment)


def test_the_readme_names_and_preloads_the_model_and_the_variable_is_set(
    hub: Hub, model: str, name: str
) -> None:
    deploy.deploy(name, [model])
    repository = hub.spaces[name]
    data = RepoCard(repository.main.files["README.md"].content.decode()).data.to_dict()
    assert data["models"] == [model]
    (preload,) = data["preload_from_hub"]
    assert preload.startswith(f"{model} ")
    assert "model.weights.h5" in preload
    assert repository.variables["MODEL_ID"]["value"] == model
    before = RepoCard((PROJECT / "README.md").read_text(encoding="utf-8")).data.to_dict()
    changed = {key for key in data if data[key] != before.get(key)}
    assert changed == {"models", "preload_from_hub"}


def test_several_models_are_served_in_their_order(hub: Hub, model: str, name: str) -> None:
    second = f"{model}-two"
    hub.create("models", second)
    deploy.deploy(name, [model, second])
    assert hub.spaces[name].variables["MODEL_ID"]["value"] == f"{model},{second}"


def test_a_second_deployment_changes_nothing_and_says_so(hub: Hub, model: str, name: str) -> None:
    deploy.deploy(name, [model])
    again = deploy.deploy(name, [model])
    assert not again.changed
    assert "Nothing has changed" in str(again)
    assert hub.asked("POST .*/variables") == 1


def test_files_that_the_app_has_no_more_go_and_others_stay(hub: Hub, model: str, name: str) -> None:
    deploy.deploy(name, [model])
    hub.put(hub.spaces[name], {"interface/old.py": b"x = 1\n", "notes.md": b"somebody's own"})
    deploy.deploy(name, [model])
    files = hub.spaces[name].main.files
    assert "interface/old.py" not in files
    assert "notes.md" in files


def test_a_passing_fault_ends_in_one_commit(hub: Hub, model: str, name: str) -> None:
    hub.fail("lose answer", "/commit/")
    hub.fail("status", "/variables", status=500)
    deploy.deploy(name, [model])
    assert len(hub.spaces[name].commits) == 2


def test_a_lasting_fault_names_the_command_that_goes_on(hub: Hub, model: str, name: str) -> None:
    hub.fail("status", "/commit/", times=None)
    with pytest.raises(HubError, match=f"make space SPACE={name} MODEL={model}"):
        deploy.deploy(name, [model])


@pytest.mark.parametrize("method", ["POST", ""])
@pytest.mark.parametrize("status", [405, 404, 403, 501])
def test_a_hub_without_variables_gets_the_app_and_the_same_command_goes_on(
    hub: Hub, model: str, name: str, status: int, method: str
) -> None:
    refusal = hub.fail("status", "/variables", method=method, status=status, times=None)
    with pytest.raises(HubError) as caught:
        deploy.deploy(name, [model])
    said = str(caught.value)
    assert f"the Hub answered {status}" in said
    done, remains = said.split("What remains: ")
    commit = f"{hub.endpoint}/spaces/{name}/commit/{hub.spaces[name].main.sha}"
    assert f"Done: the Space is created, the app is uploaded ({commit})" in done
    assert remains.startswith(f"to set its variable MODEL_ID to {model}")
    assert f"make space SPACE={name} MODEL={model}" in remains
    assert "app.py" in hub.spaces[name].main.files
    assert len(hub.spaces[name].commits) == 2
    refusal.times = 0
    again = deploy.deploy(name, [model])
    assert not again.changed
    assert str(again).startswith("No file has changed since: ")
    assert "Set: MODEL_ID" in str(again)
    assert hub.spaces[name].variables["MODEL_ID"]["value"] == model


def test_a_hub_that_lists_no_variables_takes_them_all_the_same(
    hub: Hub, model: str, name: str
) -> None:
    hub.fail("status", "/variables", method="GET", status=405, times=None)
    deploy.deploy(name, [model])
    assert hub.spaces[name].variables["MODEL_ID"]["value"] == model


def test_the_command_ends_with_status_1_and_one_line_where_variables_are_refused(
    hub: Hub, model: str, name: str, call_command: Callable[..., Any]
) -> None:
    hub.fail("status", "/variables", status=405, times=None)
    result = call_command(*("deploy.py", "--space", name, "--model", model), HF_TOKEN=Hub.WRITE)
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert "What remains: to set its variable MODEL_ID" in line


def test_a_lost_upload_says_that_all_remains(hub: Hub, model: str, name: str) -> None:
    hub.fail("status", "/commit/", times=None)
    with pytest.raises(HubError, match=r"Done: the Space is created\. .*to upload the app and"):
        deploy.deploy(name, [model])


def test_every_module_that_the_app_imports_is_uploaded() -> None:
    files = deploy.space_files(["user/name"])
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


def test_the_comparison_beside_the_embedded_models_is_uploaded(tmp_path: Path) -> None:
    for file in deploy.SINGLE_FILES:
        shutil.copy(PROJECT / file, tmp_path)
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained" / "comparison.json").write_text("{}")
    (tmp_path / "pretrained" / ".hidden").write_text("{}")
    files = deploy.space_files(["user/name"], tmp_path)
    assert [name for name in files if name.startswith("pretrained")] == [
        "pretrained/comparison.json"
    ]


def test_wrong_calls_are_refused_before_anything_is_made(
    hub: Hub, model: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for spaces, models, said in (
        ("space", [model], "SPACE"),
        (name, [], "MODEL"),
        (name, ["model"], "MODEL"),
        (name, ["user/nothing"], "no accessible model"),
        ("other/space", [model], "may not write"),
    ):
        with pytest.raises(InputError, match=said):
            deploy.deploy(spaces, models)
    monkeypatch.setenv("HF_TOKEN", Hub.READ)
    with pytest.raises(InputError, match="is read-only"):
        deploy.deploy(name, [model])
    assert not hub.spaces


def test_another_gradio_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    for file in deploy.SINGLE_FILES:
        shutil.copy(PROJECT / file, tmp_path)
    readme = tmp_path / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(re.sub(r"sdk_version: .*", "sdk_version: 1.2.3", text), encoding="utf-8")
    with pytest.raises(InputError, match=r"sdk_version 1\.2\.3"):
        deploy.space_files(["user/name"], tmp_path)


def test_the_front_matter_is_what_a_space_needs() -> None:
    data = RepoCard((PROJECT / "README.md").read_text(encoding="utf-8")).data.to_dict()
    requirements = (PROJECT / "requirements.txt").read_text(encoding="utf-8")
    assert f"gradio[mcp]=={data['sdk_version']}" in requirements
    assert data["sdk"] == "gradio"
    assert data["app_file"] == "app.py"
    assert re.fullmatch(r"3\.\d+", str(data["python_version"]))
    assert data["datasets"] == ["uoft-cs/cifar100"]
    assert len(data["short_description"]) <= 60
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {data["colorFrom"], data["colorTo"]} <= colours


def test_the_pictures_of_the_readme_are_uploaded_with_it(tmp_path: Path) -> None:
    for file in deploy.SINGLE_FILES:
        shutil.copy(PROJECT / file, tmp_path)
    with (tmp_path / "README.md").open("a", encoding="utf-8") as readme:
        readme.write("\n![The app](docs/shown.png) and ![another](https://example.org/far.png)\n")
    (tmp_path / "docs").mkdir()
    for name in ("shown.png", "other.png"):
        (tmp_path / "docs" / name).write_bytes(b"\0")
    files = deploy.space_files(["user/name"], tmp_path)
    assert "docs/shown.png" in files
    assert "docs/other.png" not in files


@pytest.mark.slow
def test_requirements_alone_start_the_app_laid_out_as_the_space_is(
    hub: Hub, repo_id: str, name: str, tmp_path: Path
) -> None:
    made = make_model_folder(tmp_path / "model")
    hub.put(
        hub.create("models", repo_id),
        {file: (made.path / file).read_bytes() for file in made.files()},
    )
    deploy.deploy(name, [repo_id])
    repository = hub.spaces[name]
    root = tmp_path / "space"
    for path, blob in repository.main.files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(blob.content)
    packages = only_required_packages(root / "requirements.txt", tmp_path / "packages")
    assert not (packages / "pytest").exists()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(packages),
        "HF_ENDPOINT": hub.endpoint,
        "MODEL_ID": repository.variables["MODEL_ID"]["value"],
        "GRADIO_SERVER_PORT": str(free_port()),
        "GRADIO_SERVER_NAME": "127.0.0.1",
    }
    with (tmp_path / "output").open("w+") as output:
        # -S: nothing but these packages and the standard library can be imported.
        app = subprocess.Popen(
            [sys.executable, "-S", "app.py"],
            cwd=root,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            served = ask_for_models(f"http://127.0.0.1:{environment['GRADIO_SERVER_PORT']}", app)
        except Exception:
            output.seek(0)
            pytest.fail(output.read()[-3000:])
        finally:
            app.terminate()
            app.wait(60)
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


def ask_for_models(address: str, app: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    """Waits for the app and returns what its `/models` answers."""
    from gradio_client import Client

    deadline = time.monotonic() + 300
    while True:
        try:
            with urlopen(address, timeout=5):
                break
        except OSError:
            if app.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    return Client(address, verbose=False).predict(api_name="/models")


def test_the_command_uploads_as_the_makefile_calls_it(
    hub: Hub, model: str, name: str, call_command: Callable[..., object]
) -> None:
    result = call_command(*("deploy.py", "--space", name, "--model", model), HF_TOKEN=Hub.WRITE)
    assert result.returncode == 0, result.stderr  # type: ignore[attr-defined]
    assert f"{hub.endpoint}/spaces/{name}" in result.stdout  # type: ignore[attr-defined]
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert 'deploy.py --space "$(SPACE)" --model "$(MODEL)"' in makefile


def test_the_workflow_uploads_only_after_green_tests() -> None:
    text = (PROJECT / ".github" / "workflows" / "space.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    jobs = workflow["jobs"]
    assert workflow[True]["workflow_run"]["workflows"] == ["CI"]  # YAML reads `on` as true
    assert "workflow_run.conclusion == 'success'" in jobs["deploy"]["if"]
    (step,) = [step for step in jobs["deploy"]["steps"] if "make space" in step.get("run", "")]
    assert step["env"]["HF_TOKEN"] == "${{ secrets.HF_TOKEN }}"
