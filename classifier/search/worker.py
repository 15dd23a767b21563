"""A worker of a study: trains trials until the study has the requested number.

Workers communicate only through the storage. Each trial of a study has a slot: 0 to the requested
number - 1, in a grid the index of the cell. Every worker queues a trial for each slot that has
none; of two trials for the same slot, the one with the higher number is skipped. So no worker needs
a lock, and the study ends with exactly the requested number of trials.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from classifier.errors import ClassifierError, DiskFullError, InputError
from classifier.search.heartbeat import StaleTrials, heartbeats
from classifier.search.search_space import Scalar, SearchSpace, format_value
from classifier.search.trial import Outcome
from classifier.settings import Settings
from classifier.training.divergence import DivergedError

# Trials that are sampled at random before TPE starts, and not pruned before a median exists.
STARTUP_TRIALS = 5
MAX_FAILURES = 3  # consecutive, before a worker gives up
MAX_RETRIES = 3  # for settings that kill every worker
STUDY_CONFIG = "config"
# User attributes of trials.
SLOT = "slot"
DIVERGED = "diverged"  # a result of its settings: the trial counts
FAILED = "failed"  # its slot is given up, and another one takes its place

Train = Callable[[optuna.Trial, Settings, Path], Outcome]  # the last: an empty folder


def build_pruner(name: str, epochs: int) -> BasePruner:
    """Returns the pruner for trainings of a number of epochs."""
    if name == "median":
        return MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=max(1, epochs // 4))
    if name == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=epochs)
    return NopPruner()


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
    if STUDY_CONFIG not in study.user_attrs and not study.get_trials(deepcopy=False):
        study.set_user_attr(STUDY_CONFIG, config)
    for key, known, value in _differences(study.user_attrs.get(STUDY_CONFIG, {}), config):
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


@dataclass
class Worker:
    """Trains trials of a study.

    Attributes:
        study: the study that the workers share.
        space: the search space.
        sampler: "grid", "random" or "tpe".
        trials: the requested number of complete, pruned and diverged trials.
        grace: seconds without a heartbeat after which a trial is stale.
        folder: for checkpoints of running trials.
        train: trains one trial.
        after_trial: called after each trial of this worker.
    """

    study: optuna.Study
    space: SearchSpace
    sampler: str
    trials: int
    grace: float
    folder: Path
    train: Train
    after_trial: Callable[[], None]
    _failures: int = field(default=0, init=False)  # consecutive

    def run(self) -> None:
        """Runs trials until the study is finished, including stale trials of other workers.

        Raises:
            ClassifierError: several trials failed in succession, or the disk is full.
        """
        stale_trials = StaleTrials(self.study, self.grace)
        said = False
        while True:
            stale_trials.fail()
            counted, running, waiting = self._fill_queue()
            if len(counted) >= self.trials or not running | waiting:
                break
            if waiting and len(counted | running) < self.trials:
                self._run_next_trial()
                self.after_trial()
                said = False
                continue
            if not said:
                say("Waiting for the last trials of other workers …")
                said = True
            time.sleep(min(2, self.grace / 4))
        self._remove_leftovers()

    def _fill_queue(self) -> tuple[set[int], set[int], set[int]]:
        """Queues a trial for each slot that has none.

        Returns:
            The slots whose trial counts, is running, and is waiting.
        """
        trials = self.study.get_trials(deepcopy=False)
        counted = _slots(filter(_counts, trials))
        running = _slots(t for t in trials if t.state == TrialState.RUNNING) - counted
        waiting = _slots(t for t in trials if t.state == TrialState.WAITING) - counted - running
        failed = [t for t in trials if t.state == TrialState.FAIL]
        killed = Counter(slot for t in failed for slot in _slots([t]))
        given_up = _slots(t for t in failed if t.user_attrs.get(FAILED))
        given_up |= {slot for slot, times in killed.items() if times > MAX_RETRIES}
        for slot, params in enumerate(self._slot_params()):
            if len(counted | running | waiting) >= self.trials:
                break
            if slot not in counted | running | waiting | given_up:
                self.study.enqueue_trial(params, user_attrs={SLOT: slot})
                waiting.add(slot)
        return counted, running, waiting

    def _slot_params(self) -> Iterable[dict[str, Scalar]]:
        """Returns the parameters of each slot that are not left to the sampler."""
        if self.sampler == "grid":
            cells = self.space.grid()
            random.Random(self.space.settings.seed).shuffle(cells)
            return cells
        # The unchanged preset is the first trial: the reference for the gain.
        return itertools.chain([self.space.reference() or {}], itertools.repeat({}))

    def _run_next_trial(self) -> None:
        """Trains the trial that has waited longest."""
        trial = self.study.ask()
        folder = self.folder / f".trial-{trial.number}"
        try:
            if self._is_superfluous(trial):
                self._release_slot(trial)
            else:
                with heartbeats(trial, grace=self.grace):
                    self._train(trial, folder)
        except UpdateFinishedTrialError:
            say(f"Trial {trial.number} was ended by another worker")
        except (KeyboardInterrupt, InputError, DiskFullError):
            self._release_slot(trial)
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _is_superfluous(self, trial: optuna.Trial) -> bool:
        """Returns whether another worker has queued a trial for the same slot before."""
        slot = trial.user_attrs.get(SLOT)
        earlier = self.study.get_trials(deepcopy=False)[: trial.number]
        return slot is None or slot in _slots(
            t for t in earlier if _counts(t) or not t.state.is_finished()
        )

    def _release_slot(self, trial: optuna.Trial) -> None:
        """Ends a trial without counting it, so that its slot can be queued again."""
        trial.set_user_attr(SLOT, None)
        self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    def _train(self, trial: optuna.Trial, folder: Path) -> None:
        try:
            settings = self._sample(trial)
            values = (f"{name} {format_value(value)}" for name, value in trial.params.items())
            say(f"Trial {trial.number}: {', '.join(values)}")
            outcome = self.train(trial, settings, folder)
        except (InputError, DiskFullError, UpdateFinishedTrialError):
            raise
        except Exception as error:
            diverged = isinstance(error, DivergedError)
            reason = str(error) if diverged else f"{type(error).__name__}: {error}"
            trial.set_user_attr(DIVERGED if diverged else FAILED, True)
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            say(f"Trial {trial.number} failed: {reason}")
            self._failures = 0 if diverged else self._failures + 1
            if self._failures >= MAX_FAILURES:
                raise ClassifierError(
                    f"{self._failures} consecutive trials failed, the last one with {reason}"
                ) from error
        else:
            self._failures = 0
            self._record(trial, outcome)

    def _sample(self, trial: optuna.Trial) -> Settings:
        """Samples settings with a seed of this slot: workers must not sample the same ones."""
        seed = (self.space.settings.seed + trial.user_attrs[SLOT]) % 2**32
        self.study.sampler = (
            TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=True)
            if self.sampler == "tpe"
            else RandomSampler(seed=seed)  # has no effect on a cell of a grid
        )
        return self.space.suggest(trial)

    def _record(self, trial: optuna.Trial, outcome: Outcome) -> None:
        for name in ("epochs", "seconds", "parameters", "validation_top1"):
            trial.set_user_attr(name, getattr(outcome, name))
        state = TrialState.PRUNED if outcome.pruned else TrialState.COMPLETE
        value = None if outcome.pruned else outcome.validation_top1
        self.study.tell(trial, value, state, skip_if_finished=True)
        say(
            f"Trial {trial.number} {state.name.lower()}: {outcome.validation_top1:.2%} on "
            f"validation after {outcome.epochs} epochs in {outcome.seconds:.0f} s"
        )

    def _remove_leftovers(self) -> None:
        """Removes the checkpoints of killed workers."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        used = {self.folder / f".trial-{trial.number}" for trial in running}
        for leftover in set(self.folder.glob(".trial-*")) - used:
            shutil.rmtree(leftover, ignore_errors=True)


def say(line: str) -> None:
    """Prints a line without buffering."""
    print(line, flush=True)


def _slots(trials: Iterable[FrozenTrial]) -> set[int]:
    """Returns the slots of these trials; a released trial has none."""
    return {trial.user_attrs[SLOT] for trial in trials if trial.user_attrs.get(SLOT) is not None}


def _counts(trial: FrozenTrial) -> bool:
    """Returns whether a trial counts towards the requested number."""
    finished = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return finished or trial.user_attrs.get(DIVERGED, False)
