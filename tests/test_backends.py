"""The same preset trains on TensorFlow and on JAX, and what one exports the other loads."""

from pathlib import Path

import numpy as np
import pytest

from classifier.model_folder.folder import ModelFolder
from conftest import PROJECT

pytestmark = pytest.mark.slow

AUGMENTED = """
architecture: local_mlp
local_units: 48
local_patches: [9, 16]
prune_threshold: 0.8
width: 32
depth: 1
optimizer: adamw
learning_rate: 0.01
batch_size: 32
epochs: 6
schedule: cosine
warmup_epochs: 1
flip: 0.5
crop_area: 0.7
mixup: 0.2
distillation_views: 2
tta_flip: true
store_half: true
precision: float32
"""

PREDICT = """
import sys, keras, numpy as np
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from classifier.model_folder.folder import ModelFolder
images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype("uint8")
models = [ModelFolder(Path(folder)).load_model() for folder in sys.argv[3:]]
np.save(sys.argv[2], [np.asarray(model.predict(images, verbose=0)) for model in models])
print(keras.backend.backend())
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small_dataset, tiny_run, run_command) -> dict[str, Path]:
    """The same augmented and distilled training on each backend."""
    folder = tmp_path_factory.mktemp("backends")
    preset = folder / "augmented.yaml"
    preset.write_text(AUGMENTED + f"teacher: {tiny_run}\naverage_teacher: true\n")
    for backend in ("tensorflow", "jax"):
        result = run_command(
            *("train.py", "--preset", preset, "--dataset", small_dataset),
            *("--output", folder / backend),
            KERAS_BACKEND=backend,
        )
        assert result.returncode == 0, result.stderr
        assert "oneDNN" not in result.stderr  # which TensorFlow says when it is imported
    return {backend: folder / backend for backend in ("tensorflow", "jax")}


def test_both_backends_learn(runs):
    for backend, run in runs.items():
        folder = ModelFolder(run / "model")
        assert folder.training["machine"]["backend"] == backend
        assert folder.history[-1]["loss"] < folder.history[0]["loss"]
        assert folder.history[-1]["val_accuracy"] > 2 / 6  # twice as good as guessing


def test_the_model_holds_the_teacher_with_which_it_is_averaged(runs, tiny_run):
    from classifier.architectures.views import networks_of

    teacher, folder = (ModelFolder(run / "model") for run in (tiny_run, runs["jax"]))
    settings, record = teacher.training["settings"], folder.training["teacher"]
    assert record["settings"] == settings
    own, other = networks_of(folder.load_model())
    assert other.count_params() == teacher.training["parameters"]
    assert own.count_params() + other.count_params() == folder.training["parameters"]
    assert "averaged with its teacher" in folder.card


def test_a_model_answers_alike_on_every_backend(runs, tmp_path, run_command):
    answers = []
    for backend in runs:
        path = tmp_path / f"{backend}.npy"
        models = [run / "model" for run in runs.values()]
        result = run_command("-c", PREDICT, PROJECT, path, *models, KERAS_BACKEND=backend)
        assert result.returncode == 0, result.stderr
        assert result.stdout.strip() == backend
        answers.append(np.load(path))
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-4)
