"""A worker of a study: samples and trains trials until the study has the requested number.

Workers communicate only through the storage. Trials are numbered, and a worker decides on its trial
by those with lower numbers. All workers therefore come to the same decision without a lock, and the
study ends with exactly the requested number of trials.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import (
    BaseSampler,
    GridSampler,
    PartialFixedSampler,
    RandomSampler,
    TPESampler,
)
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from classifier.errors import ClassifierError, DiskFullError, InputError
from classifier.search.space import SearchSpace
from classifier.search.stale_trials import StaleTrials, requeue
from classifier.search.trial import Outcome
from classifier.settings import Settings
from classifier.training.divergence import DivergedError

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
OPEN = (TrialState.RUNNING, TrialState.WAITING)
# Trials that are sampled at random before TPE starts, and not pruned before a median exists.
STARTUP_TRIALS = 5
MAX_FAILURES = 3  # consecutive, before a worker gives up
STUDY_CONFIG = "contract"
DIVERGED = "diverged"  # user attribute of a failed trial

Train = Callable[[optuna.Trial, Settings, Path], Outcome]  # the last: an empty folder


class DuplicateTrial(Exception):  # noqa: N818 - not an error: the trial is skipped
    """Another worker runs the same trial, or the study has enough trials."""


def build_pruner(name: str, epochs: int) -> BasePruner:
    """Returns the pruner for trainings of a number of epochs."""
    if name == "median":
        return MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=max(1, epochs // 4))
    if name == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=epochs)
    return NopPruner()


def build_sampler(name: str, space: SearchSpace, seed: int) -> BaseSampler:
    """Returns the sampler; the seed determines the order of a grid, the same for all workers."""
    if name == "grid":
        return GridSampler(space.grid(), seed=seed)
    if name == "random":
        return RandomSampler(seed=seed % 2**32)
    return TPESampler(seed=seed % 2**32, n_startup_trials=STARTUP_TRIALS, constant_liar=True)


def open_study(
    storage: BaseStorage, name: str, *, pruner: BasePruner, config: dict[str, Any]
) -> optuna.Study:
    """Opens a study, or creates it.

    Args:
        storage: the storage that the workers share.
        name: the name of the study.
        pruner: its pruner.
        config: the configuration that all trials share, as JSON.

    Raises:
        InputError: the study exists with another configuration.
    """
    study = optuna.create_study(
        study_name=name, storage=storage, direction="maximize", pruner=pruner, load_if_exists=True
    )
    if STUDY_CONFIG not in study.user_attrs:
        study.set_user_attr(STUDY_CONFIG, config)
    for key, known, value in _differences(study.user_attrs[STUDY_CONFIG], config):
        raise InputError(
            f"the study {name!r} has {key} {known}, not {value}: use the same options as "
            "before, or another name with --study-name"
        )
    return study


def _differences(known: Any, asked: Any, name: str = "") -> Iterator[tuple[str, str, str]]:
    """Yields the differences between two configurations: name and both values as JSON."""
    if isinstance(known, dict) and isinstance(asked, dict):
        for key in dict.fromkeys([*asked, *known]):
            inner = key if name in ("", "settings") else f"{name}: {key}"
            yield from _differences(known.get(key), asked.get(key), inner)
    elif known != asked:
        yield name, json.dumps(known), json.dumps(asked)


class Worker:
    """Trains trials of a study.

    Args:
        study: the study that the workers share.
        storage: its storage.
        space: the search space.
        sampler: "grid", "random" or "tpe".
        trials: the requested number of complete, pruned and diverged trials.
        grace: seconds without a heartbeat after which a trial is stale.
        folder: for checkpoints of running trials.
        train: trains one trial.
        after_trial: called after each trial of this worker.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: BaseStorage,
        space: SearchSpace,
        *,
        sampler: str,
        trials: int,
        grace: int,
        folder: Path,
        train: Train,
        after_trial: Callable[[], None],
    ) -> None:
        self.study = study
        self.space = space
        self.sampler = sampler
        self.trials = trials
        self.grace = grace
        self.folder = folder
        self.train = train
        self.after_trial = after_trial
        self.stale_trials = StaleTrials(study, storage, grace)
        self._cells = math.prod(map(len, space.grid().values())) if sampler == "grid" else None
        self._failure: Exception | None = None
        self._failures = 0  # consecutive

    def run(self) -> None:
        """Runs trials until the study is finished, including stale trials of other workers.

        Raises:
            InputError: a trial found invalid input.
            ClassifierError: several consecutive trials failed.
            KeyboardInterrupt: the running trial was queued again.
        """
        waiting = False
        while True:
            self.stale_trials.collect()
            trials = self.study.get_trials(deepcopy=False)
            if self._is_finished(trials):
                self._remove_leftovers(trials)
                return
            if not self._is_fully_assigned(trials):
                self._run_next_trial()
                self.after_trial()
                waiting = False
                continue
            if not waiting:
                say("Waiting for the last trials of other workers …")
                waiting = True
            time.sleep(min(2, self.grace / 4))

    def _is_finished(self, trials: list[FrozenTrial]) -> bool:
        if sum(map(_counts, trials)) >= self.trials:
            return True
        return not any(trial.state in OPEN for trial in trials) and self._is_fully_assigned(trials)

    def _is_fully_assigned(self, trials: list[FrozenTrial]) -> bool:
        """Returns whether no trial is left to sample, unless a running one becomes stale."""
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        if running + sum(map(_counts, trials)) >= self.trials:
            return True
        if self._cells is None or any(trial.state == TrialState.WAITING for trial in trials):
            return False
        return len({_cell(trial) for trial in trials} - {None}) >= self._cells

    def _remove_leftovers(self, trials: list[FrozenTrial]) -> None:
        """Removes the checkpoints of killed workers."""
        running = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
        for leftover in set(self.folder.glob(".trial-*")) - set(map(self._state_folder, running)):
            shutil.rmtree(leftover, ignore_errors=True)

    def _state_folder(self, number: int) -> Path:
        """Returns the folder for the checkpoints of a trial."""
        return self.folder / f".trial-{number}"

    def _run_next_trial(self) -> None:
        """Samples and trains one trial."""
        self.study.sampler = build_sampler(self.sampler, self.space, self.space.settings.seed)
        self._failure = None
        try:
            # optimize() instead of ask(): it starts optuna's heartbeat.
            self.study.optimize(self._objective, n_trials=1, catch=(Exception,))
        except ValueError:
            # Raised by optuna if another worker has failed this trial as stale.
            if not isinstance(self._failure, UpdateFinishedTrialError):
                raise
        self._failures = self._failures + 1 if self._failure else 0
        if isinstance(self._failure, (InputError, DiskFullError)):
            raise self._failure
        if self._failures >= MAX_FAILURES:
            raise ClassifierError(
                f"{self._failures} consecutive trials failed, the last one with "
                f"{type(self._failure).__name__}: {self._failure}"
            ) from self._failure

    def _objective(self, trial: optuna.Trial) -> float:
        self._skip_if_duplicate(trial)
        folder = self._state_folder(trial.number)
        try:
            with self.stale_trials.alive(trial):
                settings = self._draw(trial)
                say(f"Trial {trial.number}: {format_parameters(trial.params)}")
                outcome = self.train(trial, settings, folder)
                return self._record_outcome(trial, outcome)
        except optuna.TrialPruned:
            raise
        except KeyboardInterrupt:
            requeue(self.study, self._frozen_trial(trial))
            raise
        except DivergedError as error:
            # Divergence is a result of the settings: it is not retried and no reason to give up.
            trial.set_user_attr(DIVERGED, True)
            say(f"Trial {trial.number} failed: {error}")
            raise
        except Exception as error:
            self._failure = error
            say(f"Trial {trial.number} failed with {type(error).__name__}: {error}")
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _skip_if_duplicate(self, trial: optuna.Trial) -> None:
        """Skips a trial that another worker has sampled too, or that is one too many."""
        own = self._frozen_trial(trial)
        earlier = [
            other
            for other in self.study.get_trials(deepcopy=False)
            if other.number < trial.number and (_counts(other) or other.state in OPEN)
        ]
        if self._cells and _cell(own) in {_cell(other) for other in earlier}:
            raise DuplicateTrial
        if len(earlier) >= self.trials:
            if self._cells:  # keep its cell for a later extension of the study
                requeue(self.study, own)
            raise DuplicateTrial

    def _draw(self, trial: optuna.Trial) -> Settings:
        """Samples settings with a seed of this trial: workers must not sample the same ones."""
        if self.sampler != "grid":
            seed = self.space.settings.seed + trial.number
            self.study.sampler = build_sampler(self.sampler, self.space, seed)
            reference = self.space.reference()
            if trial.number == 0 and reference:
                # The unchanged preset is the first trial: the reference for the gain.
                self.study.sampler = PartialFixedSampler(reference, self.study.sampler)
        return self.space.suggest(trial)

    def _record_outcome(self, trial: optuna.Trial, outcome: Outcome) -> float:
        for name in ("epochs", "seconds", "parameters", "validation_top1"):
            trial.set_user_attr(name, getattr(outcome, name))
        ended = "pruned" if outcome.pruned else "complete"
        say(
            f"Trial {trial.number} {ended}: {outcome.validation_top1:.2%} on validation after "
            f"{outcome.epochs} epochs in {outcome.seconds:.0f} s"
        )
        if outcome.pruned:
            raise optuna.TrialPruned
        return outcome.validation_top1

    def _frozen_trial(self, trial: optuna.Trial) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[trial.number]


def format_parameters(params: Mapping[str, Any]) -> str:
    """Formats the parameters of a trial for the terminal."""
    numbers = {name: f"{value:.4g}" for name, value in params.items() if isinstance(value, float)}
    return ", ".join(f"{name} {numbers.get(name, value)}" for name, value in params.items())


def say(line: str) -> None:
    """Prints a line without buffering."""
    print(line, flush=True)


def _counts(trial: FrozenTrial) -> bool:
    """Returns whether a trial counts towards the requested number."""
    return trial.state in FINISHED or trial.user_attrs.get(DIVERGED, False)


def _cell(trial: FrozenTrial) -> int | None:
    """Returns the grid cell of a trial."""
    return trial.system_attrs.get("grid_id")
