"""From the Hub and back by the commands alone: data set, training, publishing, loading."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from classifier.data.loading import load_split
from classifier.data.source import DataSource
from data_files import encode
from hub_server import Hub, files_of

Run = Callable[..., subprocess.CompletedProcess[str]]
DATASET = "uoft-cs/cifar100"


@pytest.fixture
def dataset(hub: Hub, small_dataset: Path) -> str:
    """The default id, with a small data set behind it."""
    hub.put(hub.create("datasets", DATASET), files_of(small_dataset))
    return DATASET


def test_load_split_takes_a_named_test_split_else_draws_one(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CIFAR100_MLP_CACHE", str(tmp_path))
    images = {
        f"{split}/{name}/{number}.png": encode(np.full((8, 8, 3), number, np.uint8))
        for split, count in (("train", 10), ("val", 2))
        for name in ("cat", "dog")
        for number in range(count)
    }
    hub.put(hub.create("datasets", "user/pets"), images)
    tested = DataSource("user/pets", test_split="validation")
    assert [len(load_split(tested, split).labels) for split in ("train", "test")] == [20, 4]
    assert [len(load_split("user/pets", split).labels) for split in ("train", "test")] == [16, 4]


@pytest.mark.slow
def test_train_push_publishes_a_model_that_keras_alone_loads(
    hub: Hub, repo_id: str, dataset: str, run_command: Run, tmp_path: Path
) -> None:
    tiny = ("--set", "hidden_units=[16]", "--epochs", "2", "--set", "learning_rate=0.05")
    environment = {
        "HF_TOKEN": Hub.WRITE,
        "CIFAR100_MLP_CACHE": str(tmp_path / "arrays"),
        "HF_DATASETS_CACHE": str(tmp_path / "datasets"),
    }
    result = run_command(
        *("train.py", *tiny, "--output", tmp_path / "run", "--push", "--repo-id", repo_id),
        **environment,
    )
    assert result.returncode == 0, result.stderr
    repository = hub.models[repo_id]
    assert f"{hub.endpoint}/{repo_id}/commit/{repository.main.sha}" in result.stdout
    assert f'keras.saving.load_model("hf://{repo_id}")' in result.stdout
    assert Hub.WRITE not in result.stdout + result.stderr
    training = json.loads(repository.main.files["training.json"].content)
    assert training["dataset"]["id"] == dataset
    assert training["dataset"]["revision"] == hub.repositories["datasets", dataset].main.sha

    published = json.loads(repository.main.files["evaluation.json"].content)
    assert top1_with_keras_alone(repo_id, tmp_path) == pytest.approx(published["top1"], abs=1e-3)

    again = run_command(
        *("train.py", "--push", "--from", tmp_path / "run", "--repo-id", repo_id),
        *("--dataset", dataset),
        **environment,
    )
    assert again.returncode == 0, again.stderr
    assert "Nothing has changed" in again.stdout


def test_push_dataset_id_names_the_data_set_on_the_card(
    hub: Hub, repo_id: str, small_dataset: Path, call_command: Run, tmp_path: Path
) -> None:
    def card() -> ModelCard:
        return ModelCard(hub.models[repo_id].main.files["README.md"].content.decode())

    tiny = ("--set", "hidden_units=[16]", "--epochs", "1", "--dataset", small_dataset)
    named = ("--dataset-id", "user/small")
    result = call_command(
        *("train.py", *tiny, *named, "--output", tmp_path / "run", "--push", "--repo-id", repo_id),
        HF_TOKEN=Hub.WRITE,
    )
    assert result.returncode == 0, result.stderr
    assert card().data.datasets == ["user/small"]
    assert "--dataset user/small" in card().text  # in the command that trains it again
    push = ("train.py", "--push", "--from", tmp_path / "run", "--repo-id", repo_id)
    result = call_command(*push, "--dataset-id", "user/other", HF_TOKEN=Hub.WRITE)
    assert result.returncode == 0, result.stderr
    assert card().data.datasets == ["user/other"]

    readme = tmp_path / "run" / "model" / "README.md"
    readme.write_text(readme.read_text() + "\n## About the photographs\n")
    result = call_command(*push, "--dataset-id", "user/third", HF_TOKEN=Hub.WRITE)
    assert result.returncode == 0, result.stderr
    assert "is not the generated card and stays as it is" in result.stdout
    assert "## About the photographs" in card().text


def test_train_refuses_another_dataset_id_than_that_of_the_hub(
    hub: Hub, dataset: str, call_command: Run, tmp_path: Path
) -> None:
    result = call_command(
        *("train.py", "--dataset-id", "user/small", "--output", tmp_path / "run"),
        CIFAR100_MLP_CACHE=str(tmp_path / "arrays"),
        HF_DATASETS_CACHE=str(tmp_path / "datasets"),
    )
    assert result.returncode == 2
    assert f"the data set is {dataset} on the Hub, not a local copy" in result.stderr
    assert not (tmp_path / "run" / "run.json").exists()


def top1_with_keras_alone(repo_id: str, folder: Path) -> float:
    """Loads a published model by `hf://` in a program that knows nothing of this project."""
    from datasets import load_dataset

    test = load_dataset(DATASET, split="test")
    np.savez(
        folder / "test.npz",
        images=np.stack([np.asarray(image) for image in test["img"]]),
        labels=np.asarray(test["fine_label"]),
    )
    program = (
        "import keras, numpy as np\n"
        f"data = np.load({str(folder / 'test.npz')!r})\n"
        f"model = keras.saving.load_model('hf://{repo_id}')\n"
        "answers = np.asarray(model.predict(data['images'], verbose=0)).argmax(1)\n"
        "print((answers == data['labels']).mean())"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return float(result.stdout)
