"""Workers that share a study, are killed, or find its database locked."""

import sqlite3
import threading
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from classifier.errors import ClassifierError
from classifier.presets import load_preset
from classifier.search import storage as storages
from classifier.search import trials as searches
from classifier.search.search_space import SearchSpace, load_search_space
from test_tune import COMPLETE, FAIL, PRUNED, SPACE, call, trials_of, write

GRID = {"dropout": [0.0, 0.1, 0.2], "l2": [0.0, 0.1, 0.2]}
RANGES = {"dropout": {"low": 0.0, "high": 0.5}}


class KilledError(BaseException):
    """Ends a worker as SIGKILL does: its trial stays running."""


@pytest.fixture
def database(tmp_path) -> str:
    """The URL of an SQLite file."""
    return f"sqlite:///{tmp_path}/study.db"


def space_of(folder: Path, search: object) -> SearchSpace:
    preset = write(folder, search)
    return load_search_space(preset, load_preset(preset), {})


def succeed(trial, settings) -> float:
    return settings.dropout


def work(url: str, space: SearchSpace, sampler: str, trials: int, train=succeed) -> None:
    """Runs a worker without Keras: short trials collide far more often than trainings."""
    storage = storages.open_storage(url)
    pruner = searches.build_pruner("none", 1)
    study = storages.open_study(storage, "tiny", pruner=pruner, config={})
    searches.run(study, space, sampler, trials, train=train, after_trial=lambda: None)


def age_heartbeats(url: str) -> None:
    """Has the last heartbeats been sent long ago."""
    with sqlalchemy.create_engine(url).begin() as connection:
        query = "UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:00'"
        connection.execute(sqlalchemy.text(query))


def in_state(url: str, state: optuna.trial.TrialState) -> list[dict[str, object]]:
    return [trial.params for trial in trials_of(url) if trial.state == state]


@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_many_workers_run_the_requested_trials_and_at_most_one_more_each(
    tmp_path, database, sampler
):
    space = space_of(tmp_path, GRID)
    failures = []

    def run() -> None:
        try:
            work(database, space, sampler, 9)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    complete = in_state(database, COMPLETE)
    assert 9 <= len(complete) <= 9 + 3
    if sampler == "grid":
        assert len({(params["dropout"], params["l2"]) for params in complete}) == 9


@pytest.mark.parametrize(("sampler", "search"), [("random", RANGES), ("grid", GRID)])
def test_trial_of_a_killed_worker_is_repeated(tmp_path, database, sampler, search):
    def die(trial, settings) -> float:
        raise KilledError

    space = space_of(tmp_path, search)
    with pytest.raises(KilledError):
        work(database, space, sampler, 2, die)
    (killed,) = trials_of(database)
    age_heartbeats(database)
    work(database, space, sampler, 2)
    assert trials_of(database)[killed.number].state == FAIL
    assert killed.params in in_state(database, COMPLETE)
    assert len(in_state(database, COMPLETE)) == 2


def test_trial_that_fails_counts_as_pruned_with_its_reason(tmp_path, database):
    def fail(trial, settings) -> float:
        raise RuntimeError("out of memory")

    work(database, space_of(tmp_path, RANGES), "tpe", 2, fail)
    assert len(in_state(database, PRUNED)) == 2
    assert trials_of(database)[0].user_attrs == {"reason": "out of memory"}


@pytest.mark.parametrize("reports", [0, 1])
def test_worker_whose_trial_was_taken_over_ends_with_one_line(tmp_path, database, reports):
    def sleep_too_long(trial, settings) -> float:
        trial.study.tell(trial.number, state=FAIL)  # as another worker does
        for step in range(reports):
            trial.report(0.5, step=step)
        return 0.5

    with pytest.raises(ClassifierError, match="without heartbeats: start this worker again"):
        work(database, space_of(tmp_path, RANGES), "tpe", 2, sleep_too_long)


def test_database_locked_for_a_while_costs_no_trial(tmp_path, database, monkeypatch):
    """SQLite's own time-out is 5 s; locks of other programs last longer."""

    def lock(trial, settings) -> float:
        connection = sqlite3.connect(tmp_path / "study.db", check_same_thread=False)
        connection.execute("BEGIN EXCLUSIVE")
        threading.Timer(6, connection.rollback).start()
        trial.report(0.5, step=1)
        return 0.5

    work(database, space_of(tmp_path, RANGES), "tpe", 1, lock)
    assert len(in_state(database, COMPLETE)) == 1
    assert storages.TIMEOUTS["sqlite"]["timeout"] > 60


@pytest.mark.slow
def test_server_that_drops_its_connections_costs_no_trial(postgres_url, tmp_path):
    def drop(trial, settings) -> float:
        with sqlalchemy.create_engine(postgres_url).begin() as connection:
            others = "pid <> pg_backend_pid() AND datname = current_database()"
            query = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
            connection.execute(sqlalchemy.text(query))
        trial.report(0.5, step=1)
        return 0.5

    storage = storages.open_storage(postgres_url)
    pruner = searches.build_pruner("none", 1)
    study = storages.open_study(storage, "dropped", pruner=pruner, config={})
    space = space_of(tmp_path, RANGES)
    searches.run(study, space, "random", 2, train=drop, after_trial=lambda: None)
    assert [trial.state for trial in trials_of(postgres_url, "dropped")] == [COMPLETE] * 2


@pytest.mark.slow
def test_password_is_not_written_nor_printed(postgres_url, tmp_path, small_dataset, capsys):
    preset = write(tmp_path, SPACE, epochs=1)
    best, output = tmp_path / "best.yaml", tmp_path / "out"
    more = ["--storage", postgres_url, "--study-name", "password", "--write-preset", str(best)]
    assert call(preset, small_dataset, output, "random", 1, *more) == 0
    text = "".join(path.read_text() for path in (best, *output.glob("*.[cj]s*")))
    assert "me:***@" in text
    wrong = postgres_url.replace("secret", "mistaken")
    assert call(preset, small_dataset, tmp_path / "new", "tpe", 1, "--storage", wrong) == 1
    assert "password authentication failed" in (printed := "".join(capsys.readouterr()))
    assert "secret" not in text + printed
    assert "mistaken" not in printed
