"""Pulling a model from a Hub: what is fetched, what is refused, and what happens when it fails."""

import logging
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from classifier.errors import InputError
from classifier.hub import pulling, sources
from classifier.hub.following import Follower
from classifier.hub.pulling import ResolvedModel, pull
from classifier.hub_client import HubError
from classifier.model_folder.folder import ModelFolder
from classifier.prediction.classifier import Classifier
from hub_server import Hub
from model_folders import make_model_folder

pytestmark = pytest.mark.usefixtures("no_backoff")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A complete model folder."""
    return make_model_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A complete model folder with other weights."""
    return make_model_folder(tmp_path_factory.mktemp("models") / "wider", units=16)


@pytest.fixture
def published(hub: Hub, repo_id: str, made: ModelFolder) -> str:
    """The name of a model that is on the Hub."""
    hub.put(hub.create("models", repo_id), contents(made))
    return repo_id


def contents(folder: ModelFolder) -> dict[str, bytes]:
    """What is published of a model folder, by path."""
    return {name: (folder.path / name).read_bytes() for name in folder.files()}


def test_pull_gives_the_published_model(hub: Hub, published: str, made: ModelFolder) -> None:
    pulled = pull(published)
    assert (pulled.source, pulled.reason) == ("hub", None)
    assert pulled.revision == hub.models[published].main.sha
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype="uint8")
    np.testing.assert_allclose(
        Classifier.load(pulled.folder).probabilities(images),
        Classifier.load(made).probabilities(images),
        atol=1e-6,
    )


def test_pull_fetches_only_the_files_for_serving(hub: Hub, published: str) -> None:
    extra = {"checkpoints/last.keras": b"\0" * 100, "code.py": b"boom", "pickle.pkl": b"boom"}
    hub.put(hub.models[published], extra)
    folder = pull(published).folder.path
    fetched = {path.name for path in folder.rglob("*") if path.is_file()}
    assert fetched == set(pulling.SERVED_FILES)


def test_pull_revision_is_a_branch_a_tag_or_a_commit(
    hub: Hub, published: str, another: ModelFolder
) -> None:
    repository = hub.models[published]
    first = repository.main
    repository.tags["v1"] = first.sha
    repository.branches["next"] = first.sha
    second = hub.put(repository, contents(another), branch="next")
    assert pull(published, revision="next").revision == second.sha
    assert pull(published, revision="v1").revision == first.sha
    assert pull(published, revision=second.sha).revision == second.sha
    assert pull(published).revision == first.sha
    assert sources.locate(f"{published}@next").revision == second.sha
    assert sources.locate(f"hf://{published}@next", revision="v1").revision == first.sha


# What the Hub says no to


def test_pull_missing_model_or_revision_is_an_input_error(hub: Hub, published: str) -> None:
    for name, revision in (("user/nothing", None), (published, "v9")):
        with pytest.raises(InputError, match=f"no accessible model {name}.*404"):
            pull(name, revision=revision)


def test_pull_private_model_needs_a_token(
    hub: Hub, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.models[published].private = True
    assert pull(published).source == "hub"
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(InputError, match="no accessible model"):
        pull(published)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match="no accessible model"):
        pull(published)


# What is refused for safety


def test_pull_broken_revision_leaves_the_cached_one(hub: Hub, published: str) -> None:
    good = pull(published)
    hub.put(hub.models[published], {"labels.json": b"{}"})
    with pytest.raises(InputError, match="classes"):
        pull(published)
    hub.fail("status", times=None)
    assert pull(published).revision == good.revision


# When the Hub fails


def test_pull_failing_hub_gives_the_cached_model(hub: Hub, published: str) -> None:
    commit = pull(published).revision
    for fault, reason in (("status", "503"), ("lose answer", "disconnected")):
        ordered = hub.fail(fault, times=None)
        pulled = pull(published)
        assert (pulled.revision, pulled.source) == (commit, "cache")
        assert reason in str(pulled.reason)
        ordered.times = 0


def test_pull_survives_a_transient_fault(hub: Hub, published: str) -> None:
    for path in (f"/api/models/{published}$", "/tree/", "/resolve/"):
        hub.put(hub.models[published], {"README.md": f"Before a fault of {path}".encode()})
        ordered = hub.fail("status", path, status=500)
        assert pull(published).source == "hub"
        assert ordered.times == 0


def test_pull_silent_hub_gives_the_cached_model_in_time(
    hub: Hub, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = pull(published).revision
    monkeypatch.setattr(pulling, "COMMIT_TIMEOUT", 0.3)
    silence = hub.fail("silence", times=None)
    pulled = pull(published)
    assert (pulled.source, pulled.revision) == ("cache", commit)
    assert "timed out" in str(pulled.reason)
    with pytest.raises(HubError, match=r"timed out.*missing"):
        pull("user/other")
    assert hub.asked(f"/api/models/{published}$") == 1 + 2  # one of the first pull
    silence.times = 0


def test_pull_failed_download_gives_the_last_complete_model(
    hub: Hub, published: str, another: ModelFolder
) -> None:
    first = pull(published).revision
    hub.put(hub.models[published], contents(another))
    hub.fail("status", r"/resolve/.*\.h5", status=404, times=None)
    pulled = pull(published)
    assert (pulled.source, pulled.revision) == ("cache", first)


def test_pull_in_offline_mode_gives_the_cached_model(hub: Hub, published: str) -> None:
    commit = pull(published).revision
    program = (
        "from classifier.hub.pulling import pull\n"
        f"model = pull({published!r})\n"
        "print(model.source, model.revision, model.reason)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.stdout.split()[:2] == ["cache", commit], result.stderr
    assert "HF_HUB_OFFLINE" in result.stdout


# Sources


def test_find_takes_a_folder_a_run_folder_or_a_hub_id(
    hub: Hub, published: str, made: ModelFolder, tmp_path: Path
) -> None:
    shutil.copytree(made.path, tmp_path / "run" / "model")
    assert sources.locate(str(made.path)).folder == made
    assert sources.locate(str(tmp_path / "run")).folder.path == tmp_path / "run" / "model"
    for name in (published, f"hf://{published}"):
        assert sources.locate(name).folder.labels == made.labels
    commit = hub.models[published].main.sha
    assert sources.locate(published, revision=commit).folder.path.name == commit


def test_locate_folder_refuses_a_revision(made: ModelFolder) -> None:
    with pytest.raises(InputError, match="revision is for models on the Hub"):
        sources.locate(str(made.path), revision="main")


# Following a branch


class Served:
    """What an app does with what a follower brings: load, try, swap."""

    def __init__(self, pulled: ResolvedModel) -> None:
        self.commit, self.classifier = pulled.revision, Classifier.load(pulled.folder)

    def swap(self, pulled: ResolvedModel) -> None:
        """Takes a new model once it has answered an image."""
        classifier = Classifier.load(pulled.folder)
        answer = classifier.probabilities(np.zeros((1, 32, 32, 3), "uint8"))
        if not np.isfinite(answer).all():
            raise InputError("the model answers with no numbers")
        self.commit, self.classifier = pulled.revision, classifier


def test_follower_brings_a_new_commit_once(hub: Hub, published: str, another: ModelFolder) -> None:
    served = Served(pull(published))
    follower = Follower(published, accept=served.swap, commit=served.commit)
    assert not follower.look()
    new = hub.put(hub.models[published], contents(another))
    assert follower.look()
    assert served.commit == follower.commit == new.sha
    assert not follower.look()


def test_follower_refuses_a_broken_commit_once(
    hub: Hub, published: str, another: ModelFolder, caplog: pytest.LogCaptureFixture
) -> None:
    served = Served(pull(published))
    first = served.commit
    follower = Follower(published, accept=served.swap, commit=first)
    broken = hub.put(hub.models[published], {"labels.json": b"{}"})
    with caplog.at_level(logging.WARNING, "classifier.hub.following"):
        assert not follower.look()
        assert not follower.look()
    assert [record.getMessage() for record in caplog.records if broken.sha[:7] in record.message]
    assert len(caplog.records) == 1
    assert served.commit == first
    mended = hub.put(hub.models[published], contents(another))
    assert follower.look()
    assert served.commit == mended.sha


def test_start_polls(hub: Hub, published: str, another: ModelFolder) -> None:
    arrived = threading.Event()

    def accept(pulled: ResolvedModel) -> None:
        follower.interval = 1e6  # for the other tests
        arrived.set()

    follower = Follower(published, accept=accept, commit=pull(published).revision, interval=0.05)
    hub.put(hub.models[published], contents(another))
    follower.start()
    assert arrived.wait(60)
