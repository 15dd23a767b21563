"""Publishing a model folder to a Hub: what is checked, what arrives, and what survives a fault."""

import shutil
import signal
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier import hub as our_hub
from classifier import hub_client
from classifier.errors import InputError
from classifier.hub import HubError, card
from classifier.model_folder.folder import ModelFolder
from hub_server import Blob, Hub
from model_folders import make_model_folder, write_figures, write_json


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model folder; tests take copies."""
    return make_model_folder(tmp_path_factory.mktemp("models") / "tiny").path


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> ModelFolder:
    """A model folder of the test's own, with what must never be published beside it."""
    path = tmp_path / "model"
    shutil.copytree(made, path)
    (path / "checkpoints").mkdir()
    (path / "checkpoints" / "state.weights.h5").write_bytes(b"not for the Hub")
    (path / ".hidden").write_text("not for the Hub")
    (path / "model.weights.h5.tmp").write_text("not for the Hub")
    return ModelFolder(path)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other without the waits that a real fault needs."""
    monkeypatch.setattr(hub_client, "BACKOFF", (0.01,) * 4)


def recomputed(folder: ModelFolder) -> dict[str, Any]:
    """The figures that `predictions.npz` gives."""
    from evaluation.report import summarise

    predictions = folder.predictions()
    assert predictions is not None
    return summarise(*predictions, folder.labels)


def publish(folder: ModelFolder, repo_id: str, **options: Any) -> our_hub.Publication:
    """Publishes as `train.py --push` does."""
    return our_hub.publish(
        folder, repo_id=repo_id, recomputed=lambda: recomputed(folder), **options
    )


def better(folder: ModelFolder, right: int = 55) -> ModelFolder:
    """Gives the folder other figures and the card that goes with them."""
    write_figures(folder.path, right)
    card.write(folder)
    return folder


def test_a_published_folder_is_on_the_hub_whole_in_one_commit(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    publication = publish(folder, repo_id)
    repository = hub.models[repo_id]
    assert len(repository.commits) == 2  # the Hub's own first one, and ours
    files = {name for name in repository.main.files if name != ".gitattributes"}
    assert files == {*folder.files(), "handler.py", "requirements.txt"}
    for name in folder.files():
        assert repository.main.files[name].content == (folder.path / name).read_bytes()
    assert repository.main.files["model.weights.h5"].lfs
    assert not repository.main.files["config.json"].lfs
    assert publication.url == f"{hub.endpoint}/{repo_id}/commit/{repository.main.sha}"
    assert publication.url in str(publication)
    assert f'keras.saving.load_model("hf://{repo_id}")' in str(publication)
    assert not repository.private


def test_keras_alone_loads_what_was_published(hub: Hub, repo_id: str, folder: ModelFolder) -> None:
    import keras

    publish(folder, repo_id)
    ours, theirs = folder.load_model(), keras.saving.load_model(f"hf://{repo_id}")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype="uint8")
    np.testing.assert_allclose(ours.predict(images), theirs.predict(images), atol=1e-6)


def test_a_second_push_of_the_same_folder_makes_no_commit_and_says_so(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    first = publish(folder, repo_id)
    second = publish(folder, repo_id)
    assert (second.commit, second.changed) == (first.commit, False)
    assert "Nothing has changed" in str(second)
    assert len(hub.models[repo_id].commits) == 2


def test_plots_that_the_model_has_no_more_go_in_the_same_commit(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    publish(folder, repo_id)
    hub.put(hub.models[repo_id], {"notes.txt": b"somebody's own"})
    (folder.path / "plots" / "training.png").unlink()
    publish(better(folder), repo_id)
    files = hub.models[repo_id].main.files
    assert "plots/training.png" not in files
    assert "plots/confusion_matrix.png" in files
    assert {".gitattributes", "notes.txt"} <= set(files)
    assert len(hub.models[repo_id].history(hub.models[repo_id].main)) == 4


def test_private_makes_a_private_repository_and_refuses_a_public_one(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    publish(folder, repo_id, private=True)
    assert hub.models[repo_id].private
    hub.models[repo_id].private = False
    with pytest.raises(InputError, match="public"):
        publish(folder, repo_id, private=True)


def test_a_branch_is_created_from_main_and_main_stays(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    publish(folder, repo_id)
    main = hub.models[repo_id].main.sha
    publication = publish(better(folder), repo_id, branch="trial/one")
    repository = hub.models[repo_id]
    assert repository.main.sha == main
    made = repository.commits[repository.branches["trial/one"]]
    assert (made.sha, made.parent) == (publication.commit, main)
    assert f'revision="{made.sha}"' in publication.loading_line


def test_a_branch_of_a_repository_that_is_not_there_yet(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    publish(folder, repo_id, branch="next")
    repository = hub.models[repo_id]
    assert "config.json" in repository.commits[repository.branches["next"]].files
    assert "config.json" not in repository.main.files


def test_a_pull_request_leaves_main_as_it_is(hub: Hub, repo_id: str, folder: ModelFolder) -> None:
    publish(folder, repo_id)
    main = hub.models[repo_id].main.sha
    publication = publish(better(folder), repo_id, create_pr=True)
    repository = hub.models[repo_id]
    assert repository.main.sha == main
    assert list(repository.pull_requests.values()) == [publication.commit]
    assert publication.pull_request == f"{hub.endpoint}/{repo_id}/discussions/1"
    assert publication.pull_request in str(publication)


def test_a_pull_request_without_any_change_is_not_opened_and_the_first_line_says_so(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    commit = publish(folder, repo_id).commit
    publication = publish(folder, repo_id, create_pr=True)
    assert (publication.changed, publication.pull_request) == (False, None)
    assert not hub.models[repo_id].pull_requests
    line = str(publication).splitlines()[0]
    assert line.startswith("Nothing has changed since, so no pull request was opened: ")
    assert line.endswith(commit)


def test_an_inference_endpoint_finds_its_handler(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    publish(folder, repo_id)
    files = hub.models[repo_id].main.files
    assert b"class EndpointHandler" in files["handler.py"].content
    assert b"keras>=" in files["requirements.txt"].content
    assert not (folder.path / "handler.py").exists()


def test_a_hub_with_other_hashes_than_gits_gets_no_second_commit(
    hub: Hub, repo_id: str, folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Blob, "oid", property(lambda blob: f"{zlib.crc32(blob.content):040x}"))
    first = publish(folder, repo_id)
    assert not publish(folder, repo_id).changed
    assert our_hub.pull(repo_id, timeout=60).revision == first.commit


def test_branch_and_pull_request_exclude_each_other(repo_id: str, folder: ModelFolder) -> None:
    with pytest.raises(InputError, match="exclude each other"):
        publish(folder, repo_id, branch="next", create_pr=True)


def test_a_tag_names_the_commit_and_is_not_moved(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    first = publish(folder, repo_id, tag="v1")
    assert hub.models[repo_id].tags == {"v1": first.commit}
    assert publish(folder, repo_id, tag="v1").commit == first.commit
    with pytest.raises(InputError, match="has a tag v1 already"):
        publish(better(folder), repo_id, tag="v1")
    assert hub.models[repo_id].main.sha == first.commit


def test_a_model_that_scores_worse_is_refused_with_both_figures_unless_forced(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    first = publish(folder, repo_id)
    better(folder, right=40)
    with pytest.raises(InputError, match=r"66\.67%.*83\.33%.*--force"):
        publish(folder, repo_id)
    assert hub.models[repo_id].main.sha == first.commit
    assert publish(folder, repo_id, force=True).changed


# What is checked before the first byte


@pytest.mark.parametrize(
    "name",
    ["config.json", "metadata.json", "labels.json", "predictions.npz", "README.md", "history.csv"],
)
def test_an_incomplete_folder_is_refused_by_the_name_of_what_it_lacks(
    hub: Hub, repo_id: str, folder: ModelFolder, name: str
) -> None:
    (folder.path / name).unlink()
    with pytest.raises(InputError, match=f"lacks {name}"):
        our_hub.publish(folder, repo_id=repo_id, recomputed=dict)
    assert not hub.repositories


@pytest.mark.parametrize("figure", ["top1", "top5", "macro_f1", "loss", "superclass_top1"])
def test_figures_that_the_predictions_do_not_give_are_refused(
    hub: Hub, repo_id: str, folder: ModelFolder, figure: str
) -> None:
    evaluation = folder.evaluation or {}
    write_json(folder.path / "evaluation.json", {**evaluation, figure: evaluation[figure] - 0.01})
    with pytest.raises(InputError, match=f"states {figure} = .*predictions.npz gives"):
        publish(folder, repo_id)
    assert not hub.repositories


def test_a_figure_of_one_class_that_was_changed_is_noticed(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    evaluation = folder.evaluation or {}
    evaluation["per_class"][2]["f1"] = 0.5
    write_json(folder.path / "evaluation.json", evaluation)
    with pytest.raises(InputError, match=r"per_class\[2\]\.f1 = 0\.5"):
        publish(folder, repo_id)


def test_figures_that_the_images_do_not_give_are_refused(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    measured = {**recomputed(folder), "top1": 0.5}
    with pytest.raises(InputError, match=r"top1 = 0\.833333, and the images give 0\.5"):
        publish(folder, repo_id, measured=lambda: measured)
    assert not hub.repositories


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("license: mit\nmodel-index: 3", "cannot be read"),
        ("license: [mit", "cannot be read"),
        ("license: mit", "lacks library_name, pipeline_tag"),
    ],
)
def test_a_card_with_wrong_metadata_is_refused(
    hub: Hub, repo_id: str, folder: ModelFolder, metadata: str, said: str
) -> None:
    (folder.path / "README.md").write_text(f"---\n{metadata}\n---\n\n# A model\n")
    with pytest.raises(InputError, match=said):
        publish(folder, repo_id)
    assert not hub.repositories


def test_a_card_that_the_hub_refuses_is_not_sent(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    hub.fail("status", "/api/validate-yaml", status=400, times=None)
    with pytest.raises(InputError, match="the Hub refuses the metadata of the card"):
        publish(folder, repo_id)
    assert not hub.repositories


def test_weights_that_do_not_load_are_refused(
    hub: Hub, repo_id: str, folder: ModelFolder, made: Path, tmp_path: Path
) -> None:
    wider = make_model_folder(tmp_path / "wider", units=16)
    shutil.copy(wider.path / "model.weights.h5", folder.path)
    with pytest.raises(InputError, match="cannot load the model"):
        publish(folder, repo_id)
    assert not hub.repositories


def test_a_link_to_a_file_elsewhere_is_not_published(
    hub: Hub, repo_id: str, folder: ModelFolder, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"private")
    (folder.path / "plots" / "extra.png").symlink_to(secret)
    with pytest.raises(InputError, match="is a link"):
        publish(folder, repo_id)


@pytest.mark.parametrize(
    "name", ["model", "a/b/c", "user/na me", "user/", "../model", "user/x.git"]
)
def test_names_that_the_hub_does_not_know_are_refused(
    hub: Hub, folder: ModelFolder, name: str
) -> None:
    with pytest.raises(InputError, match="user/name"):
        publish(folder, name)
    assert hub.asked("") == 0


def test_without_a_token_it_says_how_to_get_one(
    hub: Hub, repo_id: str, folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match=r"needs a token.*hf auth login"):
        publish(folder, repo_id)


@pytest.mark.parametrize(
    ("token", "said"),
    [(Hub.READ, "is read-only"), ("hf_unknown", "does not accept the token")],
)
def test_a_token_that_may_not_write_is_refused(
    hub: Hub, repo_id: str, folder: ModelFolder, token: str, said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        publish(folder, repo_id, token=token)
    assert token not in str(caught.value)
    assert not hub.repositories


def test_a_fine_grained_token_publishes(hub: Hub, repo_id: str, folder: ModelFolder) -> None:
    assert publish(folder, repo_id, token=Hub.FINE_GRAINED).changed


def test_somebody_elses_name_is_refused_as_a_wrong_call(hub: Hub, folder: ModelFolder) -> None:
    with pytest.raises(InputError, match="no write access to other/model"):
        publish(folder, "other/model")


# Faults on the way


@pytest.mark.parametrize(
    "path",
    [
        "whoami",
        "validate-yaml",
        "/repos/create",
        "/preupload/",
        "/objects/batch",
        "/storage/",
        "/verify",
        "/commit/",
        "/tag/",
    ],
)
@pytest.mark.parametrize("fault", ["status", "lose answer"])
def test_a_passing_fault_anywhere_ends_in_one_commit(
    hub: Hub,
    repo_id: str,
    folder: ModelFolder,
    path: str,
    fault: str,
) -> None:
    ordered = hub.fail(fault, path, status=502)
    publication = publish(folder, repo_id, tag="v1")
    assert ordered.times == 0
    assert len(hub.models[repo_id].commits) == 2
    assert hub.models[repo_id].main.sha == publication.commit
    assert hub.models[repo_id].tags == {"v1": publication.commit}


def test_a_lost_answer_makes_no_second_pull_request(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    publish(folder, repo_id)
    hub.fail("lose answer", "/commit/")
    publication = publish(better(folder), repo_id, create_pr=True)
    assert list(hub.models[repo_id].pull_requests.values()) == [publication.commit]
    assert publication.pull_request == f"{hub.endpoint}/{repo_id}/discussions/1"


def test_a_connection_dropped_in_the_middle_of_an_upload_is_taken_up_again(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    hub.fail("drop request", "/storage/", method="PUT", times=2)
    publish(folder, repo_id)
    stored = hub.models[repo_id].main.files["model.weights.h5"].content
    assert stored == (folder.path / "model.weights.h5").read_bytes()


def test_a_hub_that_asks_for_time_gets_it(hub: Hub, repo_id: str, folder: ModelFolder) -> None:
    hub.fail("status", "/commit/", status=429, headers={"Retry-After": "2"})
    start = time.monotonic()
    assert publish(folder, repo_id).changed
    assert time.monotonic() - start > 2


def test_a_hub_that_asks_for_an_hour_is_not_waited_for(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    hub.fail("status", "/commit/", status=429, headers={"Retry-After": "3600"}, times=None)
    with pytest.raises(HubError, match="429"):
        publish(folder, repo_id)


def test_a_lasting_fault_leaves_all_whole_and_the_named_command_goes_on(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    first = publish(folder, repo_id)
    better(folder)
    before = {name: (folder.path / name).read_bytes() for name in folder.files()}
    lasting = hub.fail("status", "/commit/", times=None)
    with pytest.raises(HubError) as caught:
        publish(folder, repo_id, tag="v2")
    assert "503" in str(caught.value)
    command = f"train.py --push --from {folder.path} --repo-id {repo_id} --tag v2"
    assert str(caught.value).endswith(command)
    assert hub.models[repo_id].main.sha == first.commit
    assert {name: (folder.path / name).read_bytes() for name in folder.files()} == before
    lasting.times = 0
    assert publish(folder, repo_id, tag="v2").changed


def test_uploads_that_arrived_before_a_fault_are_not_sent_again(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    lasting = hub.fail("status", "/commit/", times=None)
    with pytest.raises(HubError):
        publish(folder, repo_id)
    sent = hub.asked("PUT /storage/")
    lasting.times = 0
    publish(folder, repo_id)
    assert hub.asked("PUT /storage/") == sent > 0


def test_a_damaged_upload_is_not_published(hub: Hub, repo_id: str, folder: ModelFolder) -> None:
    hub.fail("damage request", "/storage/", method="PUT", times=None)
    with pytest.raises(HubError, match=r"checksum.*continue with"):
        publish(folder, repo_id)
    assert "config.json" not in hub.models[repo_id].main.files


def test_a_push_of_somebody_else_meanwhile_is_noticed_and_not_overwritten(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    publish(folder, repo_id)
    repository = hub.models[repo_id]
    theirs: list[Any] = []
    hub.fail(
        "slow",
        "/preupload/",
        then=lambda: theirs.append(hub.put(repository, {"README.md": b"theirs"})),
    )
    with pytest.raises(HubError, match="somebody has pushed commit"):
        publish(better(folder), repo_id)
    assert repository.main == theirs[0]


def test_a_silent_hub_is_given_up(
    hub: Hub, repo_id: str, folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_client, "READ_TIMEOUT", 0.2)
    hub.fail("silence", "/whoami", times=None)
    with pytest.raises(HubError, match="does not answer"):
        publish(folder, repo_id)


def test_an_interrupted_upload_ends_at_once_and_names_the_command_that_goes_on(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    publish(folder, repo_id)
    first = hub.models[repo_id].main.sha
    better(folder)
    uploading = threading.Event()
    silence = hub.fail("silence", "/storage/", method="PUT", times=None, then=uploading.set)
    with subprocess.Popen(
        [sys.executable, "train.py", "--push", "--from", folder.path, "--repo-id", repo_id],
        cwd=Path(__file__).parent.parent,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert uploading.wait(300)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    line = said.strip().splitlines()[-1]
    assert line.startswith("error: interrupted: what is published is complete")
    assert line.endswith(f"train.py --push --from {folder.path} --repo-id {repo_id}")
    assert hub.models[repo_id].main.sha == first
    silence.times = 0
    assert publish(folder, repo_id).changed


def test_a_token_that_the_hub_repeats_is_not_shown(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    hub.fail(
        "status", "/commit/", status=422, times=None, headers={"X-Error-Message": f"no {Hub.WRITE}"}
    )
    with pytest.raises(HubError) as caught:
        publish(folder, repo_id)
    assert Hub.WRITE not in str(caught.value)
    assert all(Hub.WRITE not in str(cause) for cause in hub_client.causes(caught.value))
    for path in folder.path.rglob("*"):
        assert not path.is_file() or Hub.WRITE.encode() not in path.read_bytes()
