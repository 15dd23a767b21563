"""The handler of Inference Endpoints: alone in a folder with the model, without this project."""

import base64
import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from classifier.data.images import open_image, to_model_input
from classifier.hub.published_files import published_files
from model_folders import make_model_folder
from pictures import good_pictures


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an endpoint finds: the published model folder with the handler in it."""
    folder = make_model_folder(tmp_path_factory.mktemp("endpoint") / "model")
    path = folder.path
    for name, content in published_files(folder).items():
        (path / name).write_bytes(content.read_bytes() if isinstance(content, Path) else content)
    return path


@pytest.fixture(scope="module")
def module(repository: Path) -> Any:
    """The handler's module, loaded as the endpoint loads it: from the repository, by its path."""
    spec = importlib.util.spec_from_file_location("handler", repository / "handler.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def handler(module: Any, repository: Path) -> Any:
    """A handler that has loaded the model."""
    return module.EndpointHandler(str(repository))


def picture(size: tuple[int, int] = (48, 40), mode: str = "RGB", **options: Any) -> bytes:
    """Returns a file with noise in it."""
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (size[1], size[0], 4), dtype="uint8")
    file = io.BytesIO()
    Image.fromarray(pixels, "RGBA").convert(mode).save(file, **{"format": "PNG", **options})
    return file.getvalue()


def test_handler_takes_every_form_of_an_image(handler: Any) -> None:
    content = picture()
    text = base64.b64encode(content).decode()
    expected = handler({"inputs": content})
    assert [set(answer) for answer in expected] == [{"label", "score"}] * 5
    scores = [answer["score"] for answer in expected]
    assert scores == sorted(scores, reverse=True)
    assert all(isinstance(score, float) for score in scores)
    assert {answer["label"] for answer in expected} <= set(handler.classes)
    lines = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    for image in (
        text,
        lines,
        f"data:image/png;base64,{text}",
        Image.open(io.BytesIO(content)),
        bytearray(content),
    ):
        assert handler({"inputs": image}) == expected
    assert handler(content) == handler(text) == expected


@pytest.mark.parametrize(
    "inputs", [None, 3, "", b"", "not base64!", "aGVsbG8=", b"hello", picture()[:200], ["x"], {}]
)
def test_handler_refuses_other_inputs_in_one_line(handler: Any, inputs: Any) -> None:
    with pytest.raises(ValueError, match=r"^inputs ") as caught:
        handler({"inputs": inputs})
    assert "\n" not in str(caught.value)


def test_to_pixels_gives_the_pixels_of_the_app(module: Any) -> None:
    for name, content in good_pictures().items():
        ours = to_model_input(open_image(content), 32)
        theirs = module.to_pixels(module.open_image(content), 32)
        assert theirs.dtype == np.float32
        np.testing.assert_array_equal(theirs, ours, err_msg=name)


def test_handler_needs_keras_and_pillow_alone(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(picture())
    program = (
        "import sys\n"
        "from handler import EndpointHandler\n"
        f"print(EndpointHandler('.')(open({str(tmp_path / 'photo.png')!r}, 'rb').read())[0])\n"
        "print(sorted(name for name in sys.modules if name in ('classifier', 'evaluation')))"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": ""}
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    answer, modules = result.stdout.strip().splitlines()[-2:]
    assert "'label'" in answer
    assert modules == "[]"
    requirements = (repository / "requirements.txt").read_text().split()
    assert [re.match(r"\w+>=[\d.]+", line) is not None for line in requirements] == [True, True]
