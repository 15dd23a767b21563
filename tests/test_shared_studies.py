"""Workers of `python tune.py` that share a study through every kind of storage, and that die."""

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from classifier.search import storage as storages
from classifier.search import worker as workers
from classifier.settings import load_preset
from conftest import PROJECT
from held_training import HELD
from ports import free_port
from test_tune import COMPLETE, FAIL, SPACE, call, trials_of, write

SERVE = """
import sys
from optuna.storages import RDBStorage, run_grpc_proxy_server
run_grpc_proxy_server(RDBStorage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""


@pytest.fixture(params=["sqlite", "journal", "grpc", "postgresql"])
def url(request, tmp_path) -> Iterator[str]:
    """The URL of an empty storage of each kind, with a real server behind it where it needs one."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/shared/study.db"
    elif request.param == "journal":
        yield f"journal:{tmp_path}/shared/study.journal"
    elif request.param == "grpc":
        with grpc_server(tmp_path) as address:
            yield address
    else:
        yield request.getfixturevalue("postgres_url")


@contextlib.contextmanager
def grpc_server(folder: Path) -> Iterator[str]:
    """Runs optuna's server, as the documents say, in front of a database."""
    port = free_port()
    command = [sys.executable, "-c", SERVE, f"sqlite:///{folder}/served.db", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield f"grpc:127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_a_worker_killed_in_its_trial_loses_that_trial_and_nothing_else(
    tmp_path, small_dataset, url
):
    preset = write(tmp_path, SPACE, epochs=4)
    command = ["tune.py", "--preset", preset, "--dataset", small_dataset]
    command += ["--sampler", "random", "--trials", "4", "--pruner", "none", "--grace", "4"]
    command += ["--storage", url, "--write-preset", tmp_path / "best.yaml", "--output"]
    start = {"cwd": PROJECT, "text": True, "stderr": subprocess.STDOUT}
    held = [sys.executable, Path(__file__).with_name("held_training.py"), "2"]
    victim = subprocess.Popen(
        [*held, *command, tmp_path / "victim"], stdout=subprocess.PIPE, **start
    )
    assert victim.stdout is not None
    printed = list(itertools.takewhile(lambda line: line != f"{HELD}\n", victim.stdout))
    assert victim.poll() is None, "".join(printed)
    log = tmp_path / "survivor.log"
    with log.open("w") as output:
        survivor = subprocess.Popen(
            [sys.executable, *command, tmp_path / "out"], stdout=output, **start
        )
    while "Epoch 1" not in log.read_text():
        assert survivor.poll() is None, log.read_text()
        time.sleep(0.1)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert survivor.wait(timeout=300) == 0, log.read_text()

    trials = trials_of(storages.open_storage(url))
    assert sorted(trial.state for trial in trials) == sorted([COMPLETE] * 4 + [FAIL])
    lost = next(trial for trial in trials if trial.state == FAIL)
    assert [t.number for t in trials if t.params == lost.params][1:], "it was not tried again"
    assert load_preset(tmp_path / "best.yaml").learning_rate > 0
    results = json.loads((tmp_path / "out" / "study.json").read_text())
    assert (results["complete"], results["lost_or_failed"]) == (4, 1)
    assert not list((tmp_path / "out").glob(".*"))
    if url.startswith("postgresql"):
        written = "".join(path.read_text() for path in (tmp_path / "out").glob("*.*[!g]"))
        assert "me:***@" in written
        assert "secret" not in written


def test_a_journal_tries_the_cell_of_a_vanished_worker_again(tmp_path, small_dataset):
    url = f"journal:{tmp_path}/study.journal"
    preset = write(tmp_path, {"dropout": [0.0, 0.1, 0.2]}, epochs=1)
    assert call(preset, small_dataset, tmp_path, "grid", 1, "--storage", url) == 0
    journal = storages.open_storage(url)
    study = optuna.load_study(study_name="tiny", storage=journal)
    done = study.trials[0].params["dropout"]
    others = iter({0.0, 0.1, 0.2} - {done})
    study.enqueue_trial({"dropout": next(others)}, user_attrs={workers.SLOT: 1})
    vanished = study.ask()

    more = ("--storage", url, "--grace", "1")
    assert call(preset, small_dataset, tmp_path, "grid", 3, *more) == 0
    trials = trials_of(journal)
    complete = [trial.params["dropout"] for trial in trials if trial.state == COMPLETE]
    assert sorted(complete) == [0.0, 0.1, 0.2]
    assert trials[vanished.number].state == FAIL


@pytest.mark.slow
def test_a_database_that_refuses_is_told_in_one_line_without_the_password(
    postgres_url, tmp_path, small_dataset, capsys
):
    preset = write(tmp_path, SPACE, epochs=1)
    for url, reason in (
        (postgres_url.replace("secret", "hidden"), "password authentication failed"),
        (postgres_url.replace("/postgres", "/hidden"), 'database "hidden" does not exist'),
    ):
        assert call(preset, small_dataset, tmp_path / "out", "tpe", 1, "--storage", url) == 1
        (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("error: "))
        assert reason in line
        assert "secret" not in line
