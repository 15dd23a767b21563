"""Publishing a model folder to a Hub: what is checked, what arrives, and what survives a fault."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from classifier.errors import InputError
from classifier.hub import card, publishing
from classifier.hub.commit import Upload
from classifier.hub_client import HubError
from classifier.model_folder.folder import ModelFolder
from hub_server import Hub
from model_folders import make_model_folder, write_figures, write_json

EVENTS = "runs/train/events.out.tfevents.1795473324.{}1234.0.v2"


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


pytestmark = pytest.mark.usefixtures("no_backoff")


def recomputed(folder: ModelFolder) -> dict[str, Any]:
    """The figures that `predictions.npz` gives."""
    from evaluation.report import summarise

    predictions = folder.predictions()
    assert predictions is not None
    return summarise(*predictions, folder.labels)


def publish(folder: ModelFolder, repo_id: str, **options: Any) -> Upload:
    """Publishes as `train.py --push` does."""
    return publishing.publish(
        folder, repo_id=repo_id, recomputed=lambda: recomputed(folder), **options
    )


def evaluated(folder: ModelFolder, right: int = 55) -> ModelFolder:
    """Gives the folder other figures and the card that goes with them."""
    write_figures(folder.path, right)
    card.write(folder)
    return folder


# What arrives


def test_publish_uploads_the_whole_folder_in_one_commit(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    publication = publish(folder, repo_id)
    repository = hub.models[repo_id]
    assert len(repository.commits) == 2  # the Hub's own first one, and ours
    assert repository.main.title == "tiny: top-1 83.33%"
    files = {name for name in repository.main.files if name != ".gitattributes"}
    assert files == {*folder.files(), "handler.py", "requirements.txt"}
    for name in folder.files():
        assert repository.main.files[name].content == (folder.path / name).read_bytes()
    assert publication.commit.commit_url == f"{hub.endpoint}/{repo_id}/commit/{repository.main.sha}"
    assert publication.commit.commit_url in str(publication)
    assert f'keras.saving.load_model("hf://{repo_id}")' in str(publication)
    assert not repository.private


def test_publish_unchanged_folder_makes_no_commit(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    first = publish(folder, repo_id)
    for options in ({}, {"create_pr": True}):
        again = publish(folder, repo_id, **options)
        assert (again.commit.oid, again.changed) == (first.commit.oid, False)
        assert str(again).startswith("Nothing has changed since")
    assert not hub.models[repo_id].pull_requests
    assert len(hub.models[repo_id].commits) == 2


def test_publish_deletes_its_own_old_files_only(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    publish(folder, repo_id)
    hub.put(hub.models[repo_id], {"notes.txt": b"somebody's own"})
    (folder.path / "plots" / "training.png").unlink()
    publish(evaluated(folder), repo_id)
    files = hub.models[repo_id].main.files
    assert "plots/training.png" not in files
    assert {"plots/confusion_matrix.png", ".gitattributes", "notes.txt"} <= set(files)


def test_publish_private_refuses_a_public_repository(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    publish(folder, repo_id, private=True)
    assert hub.models[repo_id].private
    hub.models[repo_id].private = False
    with pytest.raises(InputError, match="public"):
        publish(folder, repo_id, private=True)


def test_publish_to_a_branch_leaves_main(hub: Hub, repo_id: str, folder: ModelFolder) -> None:
    publish(folder, repo_id, branch="next")  # of a repository that is new, too
    repository = hub.models[repo_id]
    assert "config.json" in repository.commits[repository.branches["next"]].files
    assert "config.json" not in repository.main.files
    main = repository.main.sha
    publication = publish(evaluated(folder), repo_id, branch="trial/one")
    made = repository.commits[repository.branches["trial/one"]]
    assert (made.sha, made.parent) == (publication.commit.oid, main)
    assert repository.main.sha == main
    assert "hf://" not in str(publication)


def test_publish_as_pull_request_leaves_main(hub: Hub, repo_id: str, folder: ModelFolder) -> None:
    publish(folder, repo_id)
    main = hub.models[repo_id].main.sha
    publication = publish(evaluated(folder), repo_id, create_pr=True)
    repository = hub.models[repo_id]
    assert repository.main.sha == main
    assert list(repository.pull_requests.values()) == [publication.commit.oid]
    assert publication.commit.pr_url == f"{hub.endpoint}/{repo_id}/discussions/1"
    assert publication.commit.pr_url in str(publication)


def test_publish_never_moves_a_tag(hub: Hub, repo_id: str, folder: ModelFolder) -> None:
    first = publish(folder, repo_id, tag="v1")
    assert hub.models[repo_id].tags == {"v1": first.commit.oid}
    with pytest.raises(InputError, match="has a tag v1 already"):
        publish(evaluated(folder), repo_id, tag="v1")
    assert hub.models[repo_id].main.sha == first.commit.oid


def test_publish_leaves_out_local_paths_and_host_names(
    hub: Hub, repo_id: str, folder: ModelFolder, tmp_path: Path
) -> None:
    training = folder.training
    inside = Path.cwd() / "runs" / "cnn"
    training["command"] = (
        f"python train.py --preset tiny --dataset '{tmp_path}/my photos' "
        f"--label-column animal/kind --init-from {inside} --set 'teacher=\"../teachers/big\"'"
    )
    training["settings"]["teacher"] = r"C:\Users\me\teachers\big"
    write_json(folder.path / "training.json", training)
    events = folder.path / EVENTS.format("mini.example.org.")
    events.parent.mkdir(parents=True)
    events.write_bytes(b"events")
    card.write(ModelFolder(folder.path))
    publish(ModelFolder(folder.path), repo_id)
    files = hub.models[repo_id].main.files
    assert EVENTS.format("") in files
    published = json.loads(files["training.json"].content)
    assert published["command"] == (
        "python train.py --preset tiny --dataset 'my photos' --label-column animal/kind "
        "--init-from runs/cnn --set 'teacher=\"big\"'"
    )
    assert published["settings"]["teacher"] == "big"
    everything = b"".join(blob.content for blob in files.values() if not blob.lfs).decode()
    for text in (str(tmp_path), str(Path.cwd()), "mini.example.org", "Users"):
        assert text not in everything


# What is checked before the first byte


def test_publish_compares_evaluation_with_predictions(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    for value in (0.5, None, 0, float("nan")):
        changed = {**(folder.evaluation or {}), "macro_recall": value}
        write_json(folder.path / "evaluation.json", changed)
        said = f"states macro_recall = {value}, and predictions.npz gives"
        with pytest.raises(InputError, match=said):
            publish(folder, repo_id)
    assert hub.asked("") == 0


def test_publish_compares_the_card_with_the_evaluation(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    stale = str(folder.card)
    evaluated(folder, right=42)
    fresh = str(folder.card)
    header = stale.index("# tiny")
    for text, said in (
        (stale, "states accuracy 0.83.*json 0.7: .*-m classifier.hub.card"),
        (fresh[: fresh.index("# tiny")] + stale[header:], "states Top-1 accuracy 83.33%"),
        (f"{fresh[:4]}model-index: 3\n---\n", "cannot be read"),
    ):
        (folder.path / "README.md").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=said):
            publish(folder, repo_id)
    assert hub.asked("") == 0
    (folder.path / "README.md").write_text(fresh + "\n## More about it\n", encoding="utf-8")
    assert publish(folder, repo_id).changed


def test_publish_refuses_a_card_with_a_local_path(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    command = "python train.py --dataset ../photos"
    write_json(folder.path / "training.json", {**folder.training, "command": command})
    with (folder.path / "README.md").open("a", encoding="utf-8") as readme:
        readme.write(f"\n{command}\n")
    with pytest.raises(InputError, match=r"names python train.py --dataset ../photos, a path"):
        publish(folder, repo_id)


def test_publish_compares_evaluation_with_images(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    measured = {**recomputed(folder), "top1": 0.5}
    with pytest.raises(InputError, match=r"top1 = 0\.833333, and the images give 0\.5"):
        publish(folder, repo_id, measured=lambda: measured)
    assert not hub.repositories


def test_publish_refuses_links(folder: ModelFolder, repo_id: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"private")
    (folder.path / "plots" / "extra.png").symlink_to(secret)
    with pytest.raises(InputError, match="is a link"):
        publish(folder, repo_id)


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "no token with write access to user/.*hf auth login"),
        (Hub.READ, "no token with write access to user/"),
        ("hf_unknown", "no token with write access to user/"),
        ("hf_other", "no token with write access to user/"),
    ],
)
def test_publish_refuses_a_token_that_may_not_write(
    hub: Hub,
    repo_id: str,
    folder: ModelFolder,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    said: str,
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InputError, match=said) as caught:
        publish(folder, repo_id)
    assert token is None or token not in str(caught.value)
    assert not hub.repositories


def test_publish_refuses_a_lower_accuracy_unless_forced(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    first = publish(folder, repo_id)
    evaluated(folder, right=40)
    with pytest.raises(InputError, match=r"66\.67%.*83\.33%.*--force"):
        publish(folder, repo_id)
    assert hub.models[repo_id].main.sha == first.commit.oid
    assert publish(folder, repo_id, force=True).changed


# Faults on the way


@pytest.mark.parametrize(
    "path",
    [
        *("validate-yaml", "/repos/create", "/preupload/", "/objects/batch"),
        *("/storage/", "/verify", "/commit/", "/tag/"),
    ],
)
@pytest.mark.parametrize("fault", ["status", "lose answer"])
def test_publish_survives_a_transient_fault(
    hub: Hub, repo_id: str, folder: ModelFolder, path: str, fault: str
) -> None:
    ordered = hub.fail(fault, path, status=502)
    publication = publish(folder, repo_id, tag="v1")
    assert ordered.times == 0
    assert len(hub.models[repo_id].commits) == 2
    assert hub.models[repo_id].main.sha == publication.commit.oid
    assert hub.models[repo_id].tags == {"v1": publication.commit.oid}


def test_publish_lasting_fault_names_the_command_that_continues(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    first = publish(folder, repo_id)
    evaluated(folder)
    before = {name: (folder.path / name).read_bytes() for name in folder.files()}
    lasting = hub.fail("status", "/commit/", times=None)
    with pytest.raises(HubError, match="503") as caught:
        publish(folder, repo_id, tag="v2")
    command = f"train.py --push --from {folder.path} --repo-id {repo_id}"
    assert str(caught.value).endswith(command)
    assert hub.models[repo_id].main.sha == first.commit.oid
    assert {name: (folder.path / name).read_bytes() for name in folder.files()} == before
    lasting.times = 0
    assert publish(folder, repo_id, tag="v2").changed


def test_publish_never_overwrites_a_concurrent_push(
    hub: Hub, repo_id: str, folder: ModelFolder
) -> None:
    publish(folder, repo_id)
    repository = hub.models[repo_id]
    theirs: list[Any] = []
    hub.fail(
        "answer",
        "/preupload/",
        then=lambda: theirs.append(hub.put(repository, {"README.md": b"theirs"})),
    )
    with pytest.raises(HubError, match="somebody has pushed to main"):
        publish(evaluated(folder), repo_id)
    assert repository.main == theirs[0]
