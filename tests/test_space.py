"""The Space: what is uploaded, what it is told to serve, and how it is laid out."""

import fnmatch
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hub_server import Hub
from huggingface_hub import RepoCard

from classifier.errors import InputError
from classifier.hub import HubError, connection, space

PROJECT = space.PROJECT


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other without the waits that a real fault needs."""
    monkeypatch.setattr(connection, "WAITS", (0.01,) * 4)
    monkeypatch.setattr("classifier.hub.commit.WAITS", (0.01,) * 4)


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
    deployment = space.deploy(name, [model])
    repository = hub.spaces[name]
    files = set(repository.main.files) - {".gitattributes"}
    assert {"app.py", "README.md", "requirements.txt", "LICENSE"} <= files
    assert "classifier/model_folder.py" in files
    assert "evaluation/report.py" in files
    assert any(file.startswith("interface/") for file in files)
    assert any(fnmatch.fnmatch(file, "pretrained/*/model.weights.h5") for file in files)
    for pattern in ("tests/*", "benchmarks/*", "presets/*", ".*", "*.pyc", "train.py", "Makefile"):
        assert not fnmatch.filter(files, pattern), pattern
    assert len(repository.commits) == 2  # the Hub's own first one, and ours
    assert repository.sdk == "gradio"
    assert deployment.page == f"{hub.endpoint}/spaces/{name}"
    assert deployment.commit in str(deployment)


def test_the_readme_names_and_preloads_the_model_and_the_variable_is_set(
    hub: Hub, model: str, name: str
) -> None:
    space.deploy(name, [model])
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
    space.deploy(name, [model, second])
    assert hub.spaces[name].variables["MODEL_ID"]["value"] == f"{model},{second}"


def test_a_second_deployment_changes_nothing_and_says_so(hub: Hub, model: str, name: str) -> None:
    space.deploy(name, [model])
    again = space.deploy(name, [model])
    assert not again.changed
    assert "Nothing has changed" in str(again)
    assert hub.asked("POST .*/variables") == 1


def test_files_that_the_app_has_no_more_go_and_others_stay(hub: Hub, model: str, name: str) -> None:
    space.deploy(name, [model])
    hub.put(hub.spaces[name], {"interface/old.py": b"x = 1\n", "notes.md": b"somebody's own"})
    space.deploy(name, [model])
    files = hub.spaces[name].main.files
    assert "interface/old.py" not in files
    assert "notes.md" in files


def test_a_passing_fault_ends_in_one_commit(hub: Hub, model: str, name: str) -> None:
    hub.fail("lose answer", "/commit/")
    hub.fail("status", "/variables", status=500)
    space.deploy(name, [model])
    assert len(hub.spaces[name].commits) == 2


def test_a_lasting_fault_names_the_command_that_goes_on(hub: Hub, model: str, name: str) -> None:
    hub.fail("status", "/commit/", times=None)
    with pytest.raises(HubError, match=f"make space SPACE={name} MODEL={model}"):
        space.deploy(name, [model])


def test_wrong_calls_are_refused_before_anything_is_made(
    hub: Hub, model: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for spaces, models, said in (
        ("space", [model], "SPACE"),
        (name, [], "MODEL"),
        (name, ["model"], "MODEL"),
        (name, ["user/nothing"], "there is no model"),
        ("other/space", [model], "may not write"),
    ):
        with pytest.raises(InputError, match=said):
            space.deploy(spaces, models)
    monkeypatch.setenv("HF_TOKEN", Hub.READ)
    with pytest.raises(InputError, match="may only read"):
        space.deploy(name, [model])
    assert not hub.spaces


def test_another_gradio_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    for file in space.SINGLE_FILES:
        shutil.copy(PROJECT / file, tmp_path)
    readme = tmp_path / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(re.sub(r"sdk_version: .*", "sdk_version: 1.2.3", text), encoding="utf-8")
    with pytest.raises(InputError, match=r"sdk_version 1\.2\.3"):
        space.space_files(["user/name"], tmp_path)


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


def test_the_command_uploads_as_the_makefile_calls_it(
    hub: Hub, model: str, name: str, run_command: Callable[..., object]
) -> None:
    result = run_command(
        *("-m", "classifier.hub.space", "--space", name, "--model", model), HF_TOKEN=Hub.WRITE
    )
    assert result.returncode == 0, result.stderr  # type: ignore[attr-defined]
    assert f"{hub.endpoint}/spaces/{name}" in result.stdout  # type: ignore[attr-defined]
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert '-m classifier.hub.space --space "$(SPACE)" --model "$(MODEL)"' in makefile


def test_the_workflow_uploads_only_after_green_tests() -> None:
    text = (PROJECT / ".github" / "workflows" / "space.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    assert jobs["deploy"]["needs"] == "test"
    assert any("make test" in step.get("run", "") for step in jobs["test"]["steps"])
    (step,) = [step for step in jobs["deploy"]["steps"] if "make space" in step.get("run", "")]
    assert step["env"]["HF_TOKEN"] == "${{ secrets.HF_TOKEN }}"
