"""The teacher's answers are computed once, and again where the stored ones cannot be used."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from classifier.training.distillation import stored_answers

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype("uint8")
ANSWERS = np.random.default_rng(1).dirichlet(np.ones(4), 6).astype("float32")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An empty cache folder; counts how often the teacher was asked."""
    monkeypatch.setenv("CIFAR100_MLP_CACHE", str(tmp_path))
    return []


def teacher(asked: list[int]) -> Callable[[np.ndarray], np.ndarray]:
    def ask(images: np.ndarray) -> np.ndarray:
        asked.append(len(images))
        return ANSWERS

    return ask


def test_answers_are_read_from_the_disk_the_second_time(asked: list[int]) -> None:
    first, second = (stored_answers(b"teacher", IMAGES, teacher(asked)) for _ in range(2))
    assert asked == [6]
    assert first.dtype == second.dtype == np.float32
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, ANSWERS, atol=1e-3)


def test_another_teacher_and_other_images_are_asked_for(asked: list[int]) -> None:
    stored_answers(b"teacher", IMAGES, teacher(asked))
    stored_answers(b"another", IMAGES, teacher(asked))
    stored_answers(b"teacher", IMAGES[::-1], teacher(asked))
    assert len(asked) == 3


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY damaged"])
def test_a_damaged_file_is_computed_again(asked: list[int], tmp_path: Path, content: bytes) -> None:
    stored_answers(b"teacher", IMAGES, teacher(asked))
    (file,) = (tmp_path / "answers").iterdir()
    file.write_bytes(content)
    answers = stored_answers(b"teacher", IMAGES, teacher(asked))
    assert len(asked) == 2
    np.testing.assert_allclose(answers, ANSWERS, atol=1e-3)
    stored_answers(b"teacher", IMAGES, teacher(asked))
    assert len(asked) == 2
