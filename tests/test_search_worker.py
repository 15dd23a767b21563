"""A worker of a study whose trials are killed, stopped, diverge or fail, without any training."""

from pathlib import Path

import optuna
import pytest
import yaml

from classifier.errors import ClassifierError, InputError
from classifier.search import worker as workers
from classifier.search.search_space import SearchSpace, load_search_space
from classifier.search.trial import Outcome
from classifier.settings import load_preset
from classifier.training.divergence import DivergedError

GRID = {"dropout": [0.0, 0.1, 0.2]}
RANGES = {"dropout": {"low": 0.0, "high": 0.5}, "l2": {"low": 1e-5, "high": 1e-2, "log": True}}
OWN = {"dropout": 0.1, "l2": 0.001}  # the preset's values


class Killed(BaseException):
    """Ends a worker as SIGKILL does: its trial goes on as running."""


def space_of(folder: Path, search: object) -> SearchSpace:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"hidden_units": [8], **OWN, "search": search}))
    return load_search_space(path, load_preset(path))


@pytest.fixture
def study() -> optuna.Study:
    storage = optuna.storages.InMemoryStorage()
    pruner = workers.build_pruner("none", 1)
    return workers.open_study(storage, "tiny", pruner=pruner, config={})


def succeed(trial, settings, folder) -> Outcome:
    return Outcome(settings.dropout, pruned=False, epochs=1, seconds=0.0, parameters=1)


def fail_with(error: BaseException) -> workers.Train:
    def train(trial, settings, folder) -> Outcome:
        raise error

    return train


def worker(study, space, sampler, trials, train=succeed) -> workers.Worker:
    options = {"sampler": sampler, "trials": trials, "train": train}
    folder = Path("never-written")
    return workers.Worker(study, space, **options, grace=1, folder=folder, after_trial=lambda: None)


def complete(study: optuna.Study) -> list[dict[str, object]]:
    state = optuna.trial.TrialState.COMPLETE
    return [trial.params for trial in study.trials if trial.state == state]


def test_a_grid_goes_on_where_it_was_and_ends_with_its_cells(study, tmp_path):
    for trials in (1, 2, 9):
        worker(study, space_of(tmp_path, GRID), "grid", trials).run()
    assert sorted(params["dropout"] for params in complete(study)) == [0.0, 0.1, 0.2]
    assert len(study.trials) == 3


def test_the_trial_of_a_killed_worker_is_run_again_with_its_parameters(study, tmp_path):
    def train(trial, settings, folder) -> Outcome:
        if trial.number == 1:
            raise Killed
        return succeed(trial, settings, folder)

    space = space_of(tmp_path, RANGES)
    with pytest.raises(Killed):
        worker(study, space, "random", 3, train).run()
    lost = study.trials[1]
    worker(study, space, "random", 3).run()
    assert len(complete(study)) == 3
    assert lost.params in complete(study)
    assert OWN in complete(study)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("no space")])
def test_a_trial_that_was_stopped_is_run_by_the_next_call(study, tmp_path, error):
    space = space_of(tmp_path, GRID)
    for _ in range(5):  # more often than a killed trial is tried again
        with pytest.raises(type(error)):
            worker(study, space, "grid", 3, fail_with(error)).run()
    worker(study, space, "grid", 3).run()
    assert len(complete(study)) == 3


@pytest.mark.parametrize(("sampler", "search"), [("random", RANGES), ("grid", GRID)])
def test_trials_that_diverge_count(study, tmp_path, sampler, search):
    worker(
        study, space_of(tmp_path, search), sampler, 3, fail_with(DivergedError("lower it"))
    ).run()
    assert len(study.trials) == 3
    assert not complete(study)


@pytest.mark.parametrize(("sampler", "search", "left"), [("random", RANGES, 4), ("grid", GRID, 2)])
def test_one_failure_is_replaced_where_there_are_other_settings(
    study, tmp_path, sampler, search, left
):
    def train(trial, settings, folder) -> Outcome:
        if trial.number == 1:
            raise RuntimeError("out of memory")
        return succeed(trial, settings, folder)

    worker(study, space_of(tmp_path, search), sampler, 4, train).run()
    assert len(complete(study)) == left


def test_three_failures_in_succession_end_the_worker(study, tmp_path):
    train = fail_with(RuntimeError("out of memory"))
    with pytest.raises(ClassifierError, match="3 consecutive trials failed, the last one with"):
        worker(study, space_of(tmp_path, RANGES), "tpe", 9, train).run()


def test_settings_that_kill_every_worker_are_given_up(study, tmp_path):
    space = space_of(tmp_path, {"dropout": [0.0]})
    for _ in range(workers.MAX_RETRIES + 1):
        with pytest.raises(Killed):
            worker(study, space, "grid", 1, fail_with(Killed())).run()
        # As another worker does when the heartbeats have stopped.
        study.tell(study.trials[-1].number, state=optuna.trial.TrialState.FAIL)
    worker(study, space, "grid", 1).run()
    assert not complete(study)


def test_a_study_of_other_options_is_refused():
    storage, pruner = optuna.storages.InMemoryStorage(), workers.build_pruner("none", 1)
    workers.open_study(storage, "tiny", pruner=pruner, config={})
    with pytest.raises(InputError, match="the study 'tiny' has epochs null, not 2: use the same"):
        workers.open_study(storage, "tiny", pruner=pruner, config={"epochs": 2})
