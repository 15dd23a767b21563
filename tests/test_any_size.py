"""A model of 64×64 pixels goes the whole way: trained, evaluated, served, published, fine-tuned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file

from app_server import running_app
from classifier.hub import sources
from classifier.model_folder.folder import ModelFolder
from classifier.prediction.classifier import Classifier
from conftest import Run
from data_files import encode, write_image_folder
from hub_server import Hub
from pictures import encoded, scene

pytestmark = pytest.mark.slow
SIZE = 64
RECIPE = ["--set", f"image_size={SIZE}", "--set", "channels=[4, 8, 8, 8]", "--epochs", "1"]
RECIPE += ["--batch-size", "16", "--set", "tta_zoom=0.8", "--set", "learning_rate=0.02"]


def make_dataset(folder: Path, names: str, seed: int) -> Path:
    """Writes photographs of several sizes; a class is known by the width of its stripes."""
    random = np.random.default_rng(seed)

    def picture(width: int) -> bytes:
        side = int(random.integers(60, 100))
        stripes = 255 * (np.arange(side) // width % 2)
        noise = random.normal(0, 20, (side, side, 3))
        return encode(np.clip(stripes[:, None] + noise, 0, 255).astype("uint8"))

    for split, count in (("train", 20), ("test", 6)):
        files = {name: [picture(2 + 3 * i) for _ in range(count)] for i, name in enumerate(names)}
        write_image_folder(folder / split, files)
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("stripes") / "stripes", "abc", seed=0)


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, dataset: Path, run_command: Callable[..., Run]
) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "large"
    command = ["train.py", "--preset", "cnn", "--dataset", dataset, "--output", folder, *RECIPE]
    result = run_command(*command)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    path.write_bytes(encoded(scene(), "PNG"))
    return path


def test_its_folder_says_its_size_and_is_complete(run: Path) -> None:
    folder = ModelFolder(run / "model")
    folder.check(complete=True)
    assert folder.image_size == SIZE
    assert folder.training["settings"]["image_size"] == SIZE
    assert "(N, 64, 64, 3)" in (folder.card or "")
    plain = folder.training["flops_per_image"] / 4  # the image, its middle, both mirrored
    assert plain == int(plain)


def test_the_app_serves_it_beside_a_model_of_another_size(
    run: Path, photograph: Path, tiny_run: Path, tmp_path: Path
) -> None:
    with running_app(tmp_path, "--model", run, "--model", tiny_run) as app:
        client = Client(app.url, verbose=False)
        for name, folder in (("large", run), ("tiny", tiny_run)):
            label, _ = client.predict(handle_file(photograph), name, api_name="/classify")
            expected = Classifier.load(folder / "model").classify(photograph)
            assert label["label"] == expected.labels[0]
            evaluation = client.predict(name, api_name="/evaluation")
            assert evaluation["top1"] == (ModelFolder(folder / "model").evaluation or {})["top1"]
        models = client.predict(api_name="/models")
        assert [model["name"] for model in models] == [run.name, tiny_run.name]


def test_it_is_published_and_fine_tuned_from_the_hub(
    run: Path, hub: Hub, repo_id: str, tmp_path: Path, run_command: Callable[..., Run]
) -> None:
    result = run_command("train.py", "--push", "--from", run, "--repo-id", repo_id)
    assert result.returncode == 0, result.stderr
    others = make_dataset(tmp_path / "others", "wxyz", seed=1)
    command: list[Any] = ["train.py", "--init-from", repo_id, "--dataset", others, "--epochs", 1]
    command += ["--output", tmp_path / "tuned"]
    result = run_command(*command)
    assert result.returncode == 0, result.stderr
    folder = sources.locate(str(tmp_path / "tuned")).folder
    assert folder.image_size == SIZE
    assert folder.labels.classes == ("w", "x", "y", "z")
    revision = hub.models[repo_id].main.sha
    origin = folder.training["init_from"]
    assert (origin["source"], origin["revision"]) == (repo_id, revision)
    assert f"base_model: {repo_id}" in (folder.card or "")
