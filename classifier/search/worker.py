"""A worker of a study: it draws trials and trains them until the study has as many as it shall.

Workers know each other through the storage alone. Each trial that is drawn has a number, and what a
worker does with its trial depends on those with lower numbers: so every worker comes to the same
decision, without a lock, and the study ends with exactly the number of trials that was asked for.
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
from classifier.search.lost import StaleTrials, requeue
from classifier.search.space import SearchSpace
from classifier.search.trial import Outcome
from classifier.settings import Settings
from classifier.training.divergence import DivergedError

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
OPEN = (TrialState.RUNNING, TrialState.WAITING)
# Drawn at random before TPE has something to learn from, and before a median means something.
STARTUP_TRIALS = 5
MAX_FAILURES = 3  # one after the other, before a worker gives up
STUDY_CONFIG = "contract"
DIVERGED = "diverged"  # user attribute of a failed trial

Train = Callable[[optuna.Trial, Settings, Path], Outcome]  # the last: an empty folder


class DuplicateTrial(Exception):  # noqa: N818 - no error: the study is better off without this trial
    """Another trial does what this one would do, or the study has enough of them."""


def build_pruner(name: str, epochs: int) -> BasePruner:
    """Returns the pruner of a study of trainings of so many epochs."""
    if name == "median":
        return MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=max(1, epochs // 4))
    if name == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=epochs)
    return NopPruner()


def build_sampler(name: str, space: SearchSpace, seed: int) -> BaseSampler:
    """Returns the sampler; a grid's order is that of the seed, the same for all workers."""
    if name == "grid":
        return GridSampler(space.grid(), seed=seed)
    if name == "random":
        return RandomSampler(seed=seed % 2**32)
    return TPESampler(seed=seed % 2**32, n_startup_trials=STARTUP_TRIALS, constant_liar=True)


def open_study(
    storage: BaseStorage, name: str, *, pruner: BasePruner, contract: dict[str, Any]
) -> optuna.Study:
    """Opens a study, or makes it.

    Args:
        storage: shared by the workers.
        name: of the study.
        pruner: of its trials.
        contract: what all trials of a study must have in common; as JSON can hold it.

    Raises:
        InputError: the study that is there is of something else.
    """
    study = optuna.create_study(
        study_name=name, storage=storage, direction="maximize", pruner=pruner, load_if_exists=True
    )
    if STUDY_CONFIG not in study.user_attrs:
        study.set_user_attr(STUDY_CONFIG, contract)
    for key, known, value in _differences(study.user_attrs[STUDY_CONFIG], contract):
        raise InputError(
            f"the study {name!r} is one with {key} {known}, not {value}: call it as before, or "
            "name another one with --study-name"
        )
    return study


def _differences(known: Any, asked: Any, name: str = "") -> Iterator[tuple[str, str, str]]:
    """Yields what differs between two contracts, entry by entry: its name, and both in words."""
    if isinstance(known, dict) and isinstance(asked, dict):
        for key in dict.fromkeys([*asked, *known]):
            inner = key if name in ("", "settings") else f"{name}: {key}"
            yield from _differences(known.get(key), asked.get(key), inner)
    elif known != asked:
        yield name, json.dumps(known), json.dumps(asked)


class Worker:
    """Trains trials of a study.

    Args:
        study: shared by the workers.
        storage: that of the study.
        space: what is searched.
        sampler: "grid", "random" or "tpe".
        trials: complete, pruned and diverged ones that the study shall have in the end.
        grace: seconds of silence after which another worker counts as lost.
        folder: for the state of the training that runs.
        train: trains one trial.
        after_trial: called whenever a trial of this worker has ended.
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
        self.lost = StaleTrials(study, storage, grace)
        self._cells = math.prod(map(len, space.grid().values())) if sampler == "grid" else None
        self._failure: Exception | None = None
        self._failures = 0  # one after the other

    def run(self) -> None:
        """Works until the study is whole, also after others that were killed.

        Raises:
            InputError: a trial found that the call is wrong.
            ClassifierError: several trials failed one after the other.
            KeyboardInterrupt: the running trial has gone back to the queue.
        """
        waiting = False
        while True:
            self.lost.collect()
            trials = self.study.get_trials(deepcopy=False)
            if self._is_whole(trials):
                self._sweep(trials)
                return
            if not self._is_taken(trials):
                self._work()
                self.after_trial()
                waiting = False
                continue
            if not waiting:
                say("Waiting for the last trials of other workers …")
                waiting = True
            time.sleep(min(2, self.grace / 4))

    def _is_whole(self, trials: list[FrozenTrial]) -> bool:
        if sum(map(_is_tried, trials)) >= self.trials:
            return True
        return not any(trial.state in OPEN for trial in trials) and self._is_taken(trials)

    def _is_taken(self, trials: list[FrozenTrial]) -> bool:
        """Whether nothing is left to draw, unless a running trial gets lost."""
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        if running + sum(map(_is_tried, trials)) >= self.trials:
            return True
        if self._cells is None or any(trial.state == TrialState.WAITING for trial in trials):
            return False
        return len({_cell(trial) for trial in trials} - {None}) >= self._cells

    def _sweep(self, trials: list[FrozenTrial]) -> None:
        """Removes the states that killed workers have left behind."""
        running = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
        for leftover in set(self.folder.glob(".trial-*")) - set(map(self._state, running)):
            shutil.rmtree(leftover, ignore_errors=True)

    def _state(self, number: int) -> Path:
        """The folder of a running trial's state."""
        return self.folder / f".trial-{number}"

    def _work(self) -> None:
        """Draws and trains one trial."""
        self.study.sampler = build_sampler(self.sampler, self.space, self.space.settings.seed)
        self._failure = None
        try:
            # optimize() and not ask(): it gives the trial optuna's heartbeat.
            self.study.optimize(self._objective, n_trials=1, catch=(Exception,))
        except ValueError:
            # What optuna says to a trial that another worker has failed, taking this one for lost.
            if not isinstance(self._failure, UpdateFinishedTrialError):
                raise
        self._failures = self._failures + 1 if self._failure else 0
        if isinstance(self._failure, (InputError, DiskFullError)):
            raise self._failure
        if self._failures >= MAX_FAILURES:
            raise ClassifierError(
                f"{self._failures} trials failed one after the other, the last one by "
                f"{type(self._failure).__name__}: {self._failure}"
            ) from self._failure

    def _objective(self, trial: optuna.Trial) -> float:
        self._give_way(trial)
        folder = self._state(trial.number)
        try:
            with self.lost.alive(trial):
                settings = self._draw(trial)
                say(f"Trial {trial.number}: {in_words(trial.params)}")
                outcome = self.train(trial, settings, folder)
                return self._conclude(trial, outcome)
        except optuna.TrialPruned:
            raise
        except KeyboardInterrupt:
            requeue(self.study, self._frozen(trial))
            raise
        except DivergedError as error:
            # Settings that diverge are a result, and no reason to give up or to draw once more.
            trial.set_user_attr(DIVERGED, True)
            say(f"Trial {trial.number} failed: {error}")
            raise
        except Exception as error:
            self._failure = error
            say(f"Trial {trial.number} failed by {type(error).__name__}: {error}")
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _give_way(self, trial: optuna.Trial) -> None:
        """Leaves out a trial that two workers drew at the same moment, or that is one too many."""
        own = self._frozen(trial)
        earlier = [
            other
            for other in self.study.get_trials(deepcopy=False)
            if other.number < trial.number and (_is_tried(other) or other.state in OPEN)
        ]
        if self._cells and _cell(own) in {_cell(other) for other in earlier}:
            raise DuplicateTrial
        if len(earlier) >= self.trials:
            if self._cells:  # its cell is still to be tried, should the study be made longer
                requeue(self.study, own)
            raise DuplicateTrial

    def _draw(self, trial: optuna.Trial) -> Settings:
        """Has the sampler choose, with a seed of this trial: workers must not draw the same."""
        if self.sampler != "grid":
            seed = self.space.settings.seed + trial.number
            self.study.sampler = build_sampler(self.sampler, self.space, seed)
            reference = self.space.reference()
            if trial.number == 0 and reference:
                # The preset as it is comes first: what the search gains is measured against it.
                self.study.sampler = PartialFixedSampler(reference, self.study.sampler)
        return self.space.suggest(trial)

    def _conclude(self, trial: optuna.Trial, outcome: Outcome) -> float:
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

    def _frozen(self, trial: optuna.Trial) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[trial.number]


def in_words(params: Mapping[str, Any]) -> str:
    """Returns what a trial drew as a reader reads it."""
    numbers = {name: f"{value:.4g}" for name, value in params.items() if isinstance(value, float)}
    return ", ".join(f"{name} {numbers.get(name, value)}" for name, value in params.items())


def say(line: str) -> None:
    """Prints a line at once, also into a log file."""
    print(line, flush=True)


def _is_tried(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those that the study was asked for."""
    return trial.state in FINISHED or trial.user_attrs.get(DIVERGED, False)


def _cell(trial: FrozenTrial) -> int | None:
    """The cell of the grid that a trial tries."""
    return trial.system_attrs.get("grid_id")
