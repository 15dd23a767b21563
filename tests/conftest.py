"""Fixtures that many tests share: data sets, runs of the commands, and a model trained on them."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import command_runner
from app_server import app, logged  # noqa: F401 - fixtures
from chromium import browser  # noqa: F401 - a fixture
from hub_server import ENDPOINT, hub, no_backoff, repo_id, running_hub  # noqa: F401 - fixtures
from postgres_server import postgres_url  # noqa: F401 - a fixture
from static_site import open_site, site, site_address  # noqa: F401 - fixtures

PROJECT = Path(__file__).resolve().parent.parent

# What tests load and import is theirs: nothing is asked of the network, nothing is reported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ["HF_ENDPOINT"] = ENDPOINT
os.environ["HF_HUB_DISABLE_XET"] = "1"  # files by Git LFS, which the server of the tests speaks
HUB_CACHE = tempfile.TemporaryDirectory(prefix="hub-cache-")  # removed when the tests end
os.environ["HF_HUB_CACHE"] = HUB_CACHE.name
os.environ["HF_DATASETS_CACHE"] = str(Path(HUB_CACHE.name, "datasets"))
os.environ["CIFAR100_MLP_CACHE"] = str(Path(HUB_CACHE.name, "arrays"))
os.environ.pop("HF_TOKEN", None)
sys.path.insert(0, str(PROJECT))
# Started in the background, a shell has us ignore Ctrl-C, and so would the commands under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

CLASSES = ["apple", "bridge", "cloud", "dolphin", "elephant", "fox"]
SUPERCLASSES = ["animals", "things"]
SUPERCLASS_OF = [1, 1, 1, 0, 0, 0]
TINY_SETTINGS = ["--set", "hidden_units=[32]", "--batch-size", "32", "--epochs", "3"]
TINY_SETTINGS += ["--set", "learning_rate=0.05"]

Run = subprocess.CompletedProcess[str]


@pytest.fixture
def cifar100_folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real CIFAR-100 as `datasets` reads it; skips where it is not at hand."""
    monkeypatch.delenv("CIFAR100_MLP_CACHE")  # the user's own cache spares the decoding
    folder = Path(os.environ.get("CIFAR100_DIR") or PROJECT.parent / "shared" / "cifar100")
    if not folder.is_dir():
        pytest.skip("the real CIFAR-100 is not here: name its folder in CIFAR100_DIR")
    return folder.resolve()


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the Hub's layout: 6 classes, 2 superclasses, 40 training and 10 test images each.

    Each class has a colour and a bright square of its own, under noise: learnable in seconds, and
    not by every network to the last image.
    """
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as PillowImage

    folder = tmp_path_factory.mktemp("data") / "shapes"
    features = Features(
        {
            "img": Image(),
            "fine_label": ClassLabel(names=CLASSES),
            "coarse_label": ClassLabel(names=SUPERCLASSES),
        }
    )
    random = np.random.default_rng(0)
    for split, per_class in (("train", 40), ("test", 10)):
        labels = random.permutation(np.repeat(np.arange(len(CLASSES)), per_class))
        rows = {
            "img": [PillowImage.fromarray(_shape(int(label), random)) for label in labels],
            "fine_label": labels.tolist(),
            "coarse_label": [SUPERCLASS_OF[label] for label in labels],
        }
        (folder / "data").mkdir(parents=True, exist_ok=True)
        table = Dataset.from_dict(rows, features=features)
        table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module", autouse=True)
def environment_restored() -> Iterator[None]:
    """What code under test sets in the environment is gone before the next file of tests starts."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def run_command() -> Callable[..., Run]:
    """Runs one of the project's Python commands as a user does and returns what it printed."""

    def run(*arguments: object, timeout: float = 300, **environment: str) -> Run:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=PROJECT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture
def call_command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Runs a command like `run_command`, but in this process, which has imported Keras already."""

    def call(*arguments: object, **environment: str) -> Run:
        monkeypatch.chdir(PROJECT)
        monkeypatch.setattr(sys, "argv", sys.argv)
        words = [str(word) for word in arguments]
        status = 0
        with contextlib.ExitStack() as stack:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            for name, value in environment.items():
                patch.setenv(name, value)
            streams = [
                stack.enter_context(
                    tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace")
                )
                for _ in range(2)
            ]
            with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
                try:
                    command_runner.run_command(words)
                except SystemExit as end:
                    status = int(end.code or 0)
            texts = []
            for stream in streams:
                stream.seek(0)
                texts.append(stream.buffer.read().decode().replace("\r\n", "\n"))
        return subprocess.CompletedProcess(words, status, *texts)

    return call


@pytest.fixture(scope="session")
def tiny_run(
    tmp_path_factory: pytest.TempPathFactory,
    small_dataset: Path,
    run_command: Callable[..., Run],
) -> Path:
    """The run folder of a tiny training, made by `train.py` from start to model folder."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    result = run_command(
        *("train.py", "--preset", "mlp-baseline", "--dataset", small_dataset, "--output", folder),
        *TINY_SETTINGS,
    )
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="session")
def tiny_model_folder(tiny_run: Path) -> Path:
    """A complete model folder; tests that change it take a copy."""
    return tiny_run / "model"


def _shape(label: int, random: np.random.Generator) -> np.ndarray:
    """An image, uint8, (32, 32, 3), whose colour and square tell its class."""
    colour = np.array([label % 3 == channel for channel in range(3)]) * 12.0
    image = np.full((32, 32, 3), 90.0) + colour
    top, left = 4 + 9 * (label // 3), 3 + 8 * (label % 3)
    image[top : top + 10, left : left + 10] += 24
    return np.clip(image + random.normal(0, 100, image.shape), 0, 255).astype("uint8")
