"""Pulling a model from a Hub: what is fetched, what is refused, and what happens when it fails."""

import functools
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from classifier.errors import ClassifierError, InputError
from classifier.hub import Follower, Found, HubError, ModelNotFoundError, pulling, sources
from classifier.model_folder.folder import ModelFolder
from classifier.prediction.classifier import Classifier
from hub_server import Hub
from model_folders import make_model_folder

# The limit of a pull is the subject of the tests that name one.
pull = functools.partial(pulling.pull, timeout=60)


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


def test_a_pulled_model_answers_as_the_published_one(
    hub: Hub, published: str, made: ModelFolder
) -> None:
    pulled = pull(published)
    assert (pulled.source, pulled.reason) == ("hub", None)
    assert pulled.revision == hub.models[published].main.sha
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype="uint8")
    np.testing.assert_allclose(
        Classifier.load(pulled.folder).probabilities(images),
        Classifier.load(made).probabilities(images),
        atol=1e-6,
    )


def test_only_the_files_that_serving_needs_are_fetched(hub: Hub, published: str) -> None:
    extra = {"checkpoints/last.keras": b"\0" * 100, "code.py": b"boom", "pickle.pkl": b"boom"}
    hub.put(hub.models[published], extra)
    folder = pull(published).folder.path
    fetched = {path.name for path in folder.rglob("*") if path.is_file()}
    assert fetched == set(pulling.SERVED_FILES)
    assert hub.asked("GET .*(checkpoints|code.py|pickle|plots)") == 0


def test_a_revision_is_a_branch_a_tag_or_a_commit(
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


# What the Hub says no to


def test_a_model_that_is_not_there_is_a_wrong_call(hub: Hub) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no accessible model user/nothing"):
        pull("user/nothing")


def test_a_revision_that_is_not_there_is_a_wrong_call(hub: Hub, published: str) -> None:
    with pytest.raises(ModelNotFoundError, match="no revision 'v9'"):
        pull(published, revision="v9")


def test_a_gated_model_is_a_wrong_call_that_says_what_to_do(
    hub: Hub, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.models[published].gated = True
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(ModelNotFoundError, match="gated: accept its terms"):
        pull(published)


def test_a_private_model_needs_the_right_token(
    hub: Hub, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.models[published].private = True
    assert pull(published).source == "hub"
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(ModelNotFoundError, match="no accessible model"):
        pull(published)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ModelNotFoundError, match="no accessible model"):
        pull(published)


# What is refused for safety


def test_a_repository_without_labels_is_not_ours(hub: Hub, published: str) -> None:
    files = dict(hub.models[published].main.files)
    del files["labels.json"]
    hub.put(hub.models[published], {name: blob.content for name, blob in files.items()}, only=True)
    with pytest.raises(InputError, match=r"is not a model folder: it lacks labels\.json"):
        pull(published)


def test_a_lambda_layer_is_refused_before_keras_sees_it(hub: Hub, published: str) -> None:
    config = json.loads(hub.models[published].main.files["config.json"].content)
    config["config"]["layers"].insert(
        1,
        {
            "module": "keras.layers",
            "class_name": "Lambda",
            "config": {"name": "code", "function": {"class_name": "__lambda__", "config": {}}},
            "registered_name": None,
            "name": "code",
            "inbound_nodes": [],
        },
    )
    hub.put(hub.models[published], {"config.json": json.dumps(config).encode()})
    with pytest.raises(InputError, match="Lambda layer"):
        pull(published)


def test_a_file_beyond_its_bound_is_refused_before_it_is_fetched(hub: Hub, published: str) -> None:
    hub.put(hub.models[published], {"config.json": b" " * (5 * 2**20)})
    with pytest.raises(InputError, match="more than the"):
        pull(published)
    assert hub.asked("GET .*/resolve/") == 0


def test_a_broken_revision_does_not_replace_the_good_one_in_the_cache(
    hub: Hub, published: str
) -> None:
    good = pull(published)
    hub.put(hub.models[published], {"labels.json": b"{}"})
    with pytest.raises(InputError, match="classes"):
        pull(published)
    hub.fail("status", times=None)
    assert pull(published, timeout=4).revision == good.revision


# When the Hub fails


def test_a_hub_that_answers_with_errors_leaves_the_cache(hub: Hub, published: str) -> None:
    commit = pull(published).revision
    hub.fail("status", times=None)
    pulled = pull(published)
    assert (pulled.revision, pulled.source) == (commit, "cache")
    assert "503" in str(pulled.reason)


def test_one_passing_error_is_not_noticed(hub: Hub, published: str) -> None:
    hub.fail("status", f"/api/models/{published}$", status=500)
    assert pull(published).source == "hub"


@pytest.mark.parametrize("path", ["/api/models/", "/tree/", "/resolve/"])
def test_a_silent_hub_is_left_in_time(hub: Hub, published: str, path: str) -> None:
    commit = pull(published).revision
    fault = hub.fail("silence", path, times=None)
    start = time.monotonic()
    pulled = pull(published, timeout=1.5)
    assert time.monotonic() - start < 8
    assert pulled.revision == commit
    if path != "/resolve/":  # everything is there already: no file is asked for
        assert pulled.source == "cache"
        assert "did not answer within" in str(pulled.reason)
    fault.times = 0


def test_a_silent_hub_and_an_empty_cache_is_an_error_in_time(hub: Hub, published: str) -> None:
    hub.fail("silence", times=None)
    start = time.monotonic()
    with pytest.raises(HubError, match=r"did not answer within 2 s.*missing"):
        pull(published, timeout=2)
    assert time.monotonic() - start < 8


def test_a_slow_download_ends_in_the_background_and_serves_the_next_call(
    hub: Hub, published: str
) -> None:
    hub.fail("slow", r"/resolve/.*\.h5", method="GET", seconds=2.5)
    with pytest.raises(HubError, match="did not answer within 1 s"):
        pull(published, timeout=1)
    deadline = time.monotonic() + 60
    while "hub-download" in {thread.name for thread in threading.enumerate()}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    hub.fail("status", times=None)
    assert pull(published).source == "cache"


def test_a_connection_dropped_in_the_middle_of_a_download_is_taken_up_again(
    hub: Hub, published: str, made: ModelFolder
) -> None:
    dropped = hub.fail("drop answer", r"/resolve/.*\.h5", method="GET", times=2)
    pulled = pull(published)
    assert dropped.times == 0
    weights = (pulled.folder.path / "model.weights.h5").read_bytes()
    assert weights == (made.path / "model.weights.h5").read_bytes()


@pytest.mark.parametrize("name", [r"\.h5", r"labels\.json"])
def test_a_download_with_a_wrong_checksum_is_not_served(
    hub: Hub, published: str, name: str
) -> None:
    damage = hub.fail("damage answer", f"/resolve/.*{name}", method="GET", times=None)
    with pytest.raises(HubError, match="checksum is wrong"):
        pull(published)
    damage.times = 0
    assert pull(published).source == "hub"  # and the damaged file has not stayed in the cache


def test_a_file_that_was_damaged_on_its_way_is_fetched_again(hub: Hub, published: str) -> None:
    damages = [
        hub.fail("damage answer", f"/resolve/.*{name}", method="GET")
        for name in (r"\.h5", r"config\.json")
    ]
    assert pull(published).source == "hub"
    assert [damage.times for damage in damages] == [0, 0]


def test_offline_mode_serves_the_cache(hub: Hub, published: str, tmp_path: Path) -> None:
    commit = pull(published).revision
    program = (
        "from classifier.hub import pull\n"
        f"found = pull({published!r})\n"
        "print(found.source, found.revision, found.reason)"
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


def test_a_source_is_a_folder_a_run_folder_or_a_model_on_the_hub(
    hub: Hub, published: str, made: ModelFolder, tmp_path: Path
) -> None:
    shutil.copytree(made.path, tmp_path / "run" / "model")
    assert sources.find(str(made.path)).path == made.path
    assert sources.find(str(tmp_path / "run")).path == tmp_path / "run" / "model"
    for name in (published, f"hf://{published}"):
        assert sources.find(name).labels == made.labels
    commit = hub.models[published].main.sha
    assert sources.locate(published, revision=commit).folder.path.name == commit


@pytest.mark.parametrize("source", ["nothing-here", "", "a/b/c", "hf://", "../up"])
def test_what_can_be_no_source_is_refused(source: str) -> None:
    with pytest.raises(InputError, match="neither a local folder"):
        sources.find(source)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contains no model"):
        sources.find(str(tmp_path))


def test_a_folder_that_is_not_there_is_looked_for_on_the_hub_and_both_are_named(hub: Hub) -> None:
    with pytest.raises(ModelNotFoundError, match="no folder 'runs/mlp' here"):
        sources.find("runs/mlp")


def test_a_folder_has_no_revision(made: ModelFolder) -> None:
    with pytest.raises(InputError, match="revision is for models on the Hub"):
        sources.locate(str(made.path), revision="main")


# Following a branch


class Served:
    """What an app does with what a follower brings: load, try, swap."""

    def __init__(self, pulled: Found) -> None:
        self.commit, self.classifier = pulled.revision, Classifier.load(pulled.folder)

    def swap(self, pulled: Found) -> None:
        """Takes a new model once it has answered an image."""
        classifier = Classifier.load(pulled.folder)
        answer = classifier.probabilities(np.zeros((1, 32, 32, 3), "uint8"))
        if not np.isfinite(answer).all():
            raise InputError("the model answers with no numbers")
        self.commit, self.classifier = pulled.revision, classifier


def test_a_follower_brings_a_new_commit_and_only_once(
    hub: Hub, published: str, another: ModelFolder
) -> None:
    served = Served(pull(published))
    follower = Follower(published, accept=served.swap, commit=served.commit)
    assert not follower.look()
    new = hub.put(hub.models[published], contents(another))
    assert follower.look()
    assert served.commit == follower.commit == new.sha
    assert not follower.look()


def test_a_broken_new_revision_is_refused_once_and_the_old_one_goes_on(
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


def test_weights_that_answer_with_no_numbers_are_not_swapped_in(
    hub: Hub, published: str, made: ModelFolder, tmp_path: Path
) -> None:
    weights = tmp_path / "model.weights.h5"
    shutil.copy(made.path / "model.weights.h5", weights)
    with h5py.File(weights, "r+") as file:
        file.visititems(
            lambda _, item: (
                item.write_direct(np.full(item.shape, np.nan, item.dtype))
                if isinstance(item, h5py.Dataset) and item.dtype == "float32"
                else None
            )
        )
    served = Served(pull(published))
    first = served.commit
    hub.put(hub.models[published], {"model.weights.h5": weights.read_bytes()})
    assert not Follower(published, accept=served.swap, commit=first).look()
    assert served.commit == first


def test_a_model_that_cannot_be_taken_over_is_tried_only_once(
    hub: Hub, published: str, another: ModelFolder
) -> None:
    tried: list[str] = []

    def fail(pulled: Found) -> None:
        tried.append(pulled.revision)
        raise ClassifierError("the worker cannot load it")

    follower = Follower(published, accept=fail, commit=pull(published).revision)
    new = hub.put(hub.models[published], contents(another))
    assert not follower.look()
    assert not follower.look()
    assert tried == [new.sha]


def test_what_a_follower_took_is_what_the_cache_serves_when_the_hub_fails(
    hub: Hub, published: str, another: ModelFolder
) -> None:
    served = Served(pull(published))
    new = hub.put(hub.models[published], contents(another))
    assert Follower(published, accept=served.swap, commit=served.commit).look()
    hub.fail("status", times=None)
    assert pull(published).revision == new.sha


def test_a_follower_outlives_a_hub_that_is_away(
    hub: Hub, published: str, another: ModelFolder
) -> None:
    served = Served(pull(published))
    follower = Follower(published, accept=served.swap, commit=served.commit)
    new = hub.put(hub.models[published], contents(another))
    away = hub.fail("status", times=None)
    assert not follower.look()
    away.times = 0
    assert follower.look()
    assert served.commit == new.sha


def test_a_started_follower_looks_by_itself_and_stops(
    hub: Hub, published: str, another: ModelFolder
) -> None:
    arrived = threading.Event()
    commit = pull(published).revision
    follower = Follower(
        published, accept=lambda pulled: arrived.set(), commit=commit, interval=0.05
    )
    hub.put(hub.models[published], contents(another))
    follower.start()
    assert arrived.wait(60)
    follower.stop()


def test_a_dead_port_falls_back_at_once(
    hub: Hub, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = pull(published).revision
    hub.fail("lose answer", times=None)
    start = time.monotonic()
    pulled = pull(published)
    assert (pulled.source, pulled.revision) == ("cache", commit)
    assert time.monotonic() - start < 20
