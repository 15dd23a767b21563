"""The process that holds the models: who is answered when, together with whom, and after a fall."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier.errors import ClassifierError
from classifier.prediction.classifier import Classifier
from interface import worker as module
from interface.worker import Worker

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3)).astype("uint8")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    started = Worker()
    yield started
    started.stop()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many questions went to the process together, each time."""
    counts: list[int] = []
    submit = ProcessPoolExecutor.submit

    def count(pool: ProcessPoolExecutor, call: Any, *arguments: Any) -> Any:
        if arguments and isinstance(arguments[-1], list):
            counts.append(len(arguments[-1]))
        return submit(pool, call, *arguments)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", count)
    return counts


def test_questions_that_wait_are_answered_together_and_each_gets_its_own(
    worker: Worker, tiny_model_folder: Path, sent: list[int]
) -> None:
    worker.load("tiny", tiny_model_folder)
    sizes = [1, 3, 1, 2, 5, 1, 1, 9, 17]
    parts = np.split(IMAGES, np.cumsum(sizes))[: len(sizes)]
    answers = [worker.ask("tiny", part) for part in parts]
    expected = Classifier.load(tiny_model_folder).probabilities(IMAGES)
    start = 0
    for part, answer in zip(parts, answers, strict=True):
        found = answer.result(60)
        np.testing.assert_allclose(found, expected[start : start + len(part)], atol=1e-6)
        start += len(part)
    assert max(sent) == len(sizes)


def test_no_more_are_answered_together_than_keep_the_next_one_waiting(
    worker: Worker, tiny_model_folder: Path, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWERED_TOGETHER", 4)
    worker.load("tiny", tiny_model_folder)
    wait([worker.ask("tiny", IMAGES[:2]) for _ in range(6)], 60)
    large = worker.ask("tiny", IMAGES)
    assert large.result(60).shape == (40, 6)
    assert max(sent) == 2


def test_the_first_model_answers_before_the_others_are_loaded(
    worker: Worker, tiny_model_folder: Path, tmp_path: Path
) -> None:
    order: list[str] = []
    worker.load("first", tiny_model_folder)
    loads = []
    for number in range(3):
        copy = tmp_path / str(number)
        shutil.copytree(tiny_model_folder, copy)
        loads.append(worker.load(f"other {number}", copy))
        loads[-1].add_done_callback(lambda _, number=number: order.append(f"other {number}"))
    question = worker.ask("first", IMAGES[:1])
    question.add_done_callback(lambda _: order.append("answer"))
    wait([question, *loads], 60)
    assert order == ["answer", "other 0", "other 1", "other 2"]


def test_loads_have_their_turn_while_questions_keep_coming(
    worker: Worker, tiny_model_folder: Path
) -> None:
    worker.load("first", tiny_model_folder).result(60)
    loading = worker.load("second", tiny_model_folder)
    for _ in range(200):
        worker.ask("first", IMAGES[:1]).result(60)
        if loading.done():
            break
    assert loading.done()


def test_a_question_that_nobody_waits_for_is_not_asked(
    worker: Worker, tiny_model_folder: Path, sent: list[int]
) -> None:
    worker.load("tiny", tiny_model_folder)
    left, kept = worker.ask("tiny", IMAGES[:1]), worker.ask("tiny", IMAGES[:1])
    assert left.cancel()
    kept.result(60)
    assert max(sent) == 1


def test_a_model_is_forgotten_after_the_questions_before(
    worker: Worker, tiny_model_folder: Path
) -> None:
    worker.load("tiny", tiny_model_folder)
    before = worker.ask("tiny", IMAGES[:1])
    worker.forget("tiny")
    assert before.result(60).shape == (1, 6)
    with pytest.raises(ClassifierError, match="not loaded"):
        worker.ask("tiny", IMAGES[:1]).result(60)


def test_a_killed_process_is_replaced_with_its_models(
    worker: Worker, tiny_model_folder: Path
) -> None:
    worker.load("tiny", tiny_model_folder)
    before = worker.ask("tiny", IMAGES[:2]).result(120)
    for pause in (0, 1):  # the fall is seen only with the question, or before it
        _kill()
        time.sleep(pause)
        after = worker.ask("tiny", IMAGES[:2]).result(120)
        np.testing.assert_array_equal(before, after)


def test_the_questions_of_a_process_that_was_killed_are_asked_once_more(
    worker: Worker, tiny_model_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model_folder, tmp_path / "other")
    worker.load("tiny", tiny_model_folder)
    worker.load("other", tmp_path / "other")
    expected = worker.ask("tiny", IMAGES[:1]).result(120)
    for child in multiprocessing.active_children():
        os.kill(child.pid or 0, signal.SIGSTOP)
    answers = [worker.ask(key, IMAGES[:1]) for key in ("tiny", "other", "tiny", "other")]
    _kill()
    for answer in answers:
        np.testing.assert_allclose(answer.result(120), expected, atol=1e-6)


def _kill() -> None:
    for child in multiprocessing.active_children():
        if child.pid:
            os.kill(child.pid, signal.SIGKILL)
            child.join()


def test_a_folder_that_is_no_model_fails_alone(
    worker: Worker, tiny_model_folder: Path, tmp_path: Path
) -> None:
    bad = worker.load("bad", tmp_path)
    worker.load("tiny", tiny_model_folder)
    with pytest.raises(ClassifierError):
        bad.result(60)
    with pytest.raises(ClassifierError, match="cannot answer"):
        worker.ask("bad", IMAGES[:1]).result(60)
    assert worker.ask("tiny", IMAGES[:1]).result(60).shape == (1, 6)
