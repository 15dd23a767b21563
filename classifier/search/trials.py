"""Runs the trials of a study, each a training; other workers may run trials of the same study.

Workers communicate only through the database. The trial of a killed worker is queued again when its
heartbeats have stopped (see `storage`); one that is stopped by Ctrl-C is queued again at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import optuna
from optuna.exceptions import StorageInternalError, TrialPruned
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from classifier.architectures import build_network
from classifier.architectures.local_start import start_from_patches
from classifier.errors import ClassifierError
from classifier.search.search_space import SearchSpace
from classifier.settings import Settings
from classifier.training import precision, pruning
from classifier.training.distillation import distill
from classifier.training.divergence import StopAtDivergence
from classifier.training.fit import build_callbacks, fit
from classifier.training.fused_adamw_adapter import accelerate_optimizer
from classifier.training.resuming import top1
from classifier.training.training_data import TrainingData

# Trials that are sampled at random before TPE starts, and not pruned before a median exists.
STARTUP_TRIALS = 5
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)  # towards the number of trials


def build_pruner(name: str, epochs: int) -> BasePruner:
    """Returns the pruner "median", "hyperband" or "none" for trainings of a number of epochs."""
    return {
        "median": MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=max(1, epochs // 4)),
        "hyperband": HyperbandPruner(min_resource=1, max_resource=epochs),
        "none": NopPruner(),
    }[name]


def build_sampler(name: str, space: SearchSpace, seed: int) -> BaseSampler:
    """Returns the sampler "grid", "random" or "tpe"."""
    if name == "grid":
        return GridSampler(space.grid(), seed=seed)
    if name == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=True)


def run(
    study: optuna.Study,
    space: SearchSpace,
    sampler: str,
    trials: int,
    *,
    train: Callable[[optuna.Trial, Settings], float],
    after_trial: Callable[[], None],
) -> None:
    """Runs trials until the study has the requested number, or the grid is complete.

    Args:
        study: the study that the workers share.
        space: its search space.
        sampler: as `build_sampler` takes it.
        trials: the requested number. When it is reached, each other worker may still run one more.
        train: trains a trial; returns the validation accuracy.
        after_trial: called after each trial of this worker.

    Raises:
        ClassifierError: the database failed, or another worker took a trial over.
    """
    study.sampler = build_sampler(sampler, space, space.settings.seed)
    queued = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))  # interrupted ones
    exhausted = isinstance(study.sampler, GridSampler) and study.sampler.is_exhausted(study)
    counted = study.get_trials(deepcopy=False, states=COUNTED)
    if (exhausted and not queued) or len(counted) >= trials:
        return
    if sampler != "grid":
        # The unchanged preset is the first trial: the reference for the gain.
        study.enqueue_trial(space.reference(), skip_if_exists=True)
    run_trial = partial(objective, space=space, sampler=sampler, train=train)
    enough = optuna.study.MaxTrialsCallback(trials, states=COUNTED)
    try:
        study.optimize(run_trial, callbacks=[enough, lambda study, trial: after_trial()])
    except (StorageInternalError, ValueError, AssertionError) as error:
        # Of Optuna, which asserts that another worker ends no trial of this one.
        raise ClassifierError(
            "the database failed, or another worker has taken over a trial without heartbeats: "
            "start this worker again, which repeats the running trial"
        ) from error


def objective(trial: optuna.Trial, *, space: SearchSpace, sampler: str, train: Any) -> float:
    """Trains a trial; one whose settings do not work counts, as a pruned one.

    A trial that ends for another reason, such as Ctrl-C, is put back into the queue.
    """
    if sampler != "grid":
        # Other workers, and a resumed search, must not sample the same settings again.
        (seed,) = np.random.SeedSequence((space.settings.seed, trial.number)).generate_state(1)
        trial.study.sampler = build_sampler(sampler, space, int(seed))
    try:
        settings = space.suggest(trial)
        print(f"Trial {trial.number}: {trial.params}", flush=True)
        accuracy = train(trial, settings)
        print(f"Trial {trial.number}: {accuracy:.2%} on validation", flush=True)
        return accuracy
    except (KeyboardInterrupt, OSError, StorageInternalError):
        frozen = trial.study.get_trials(deepcopy=False)[trial.number]
        optuna.storages.RetryHeartbeatStaleTrialCallback()(trial.study, frozen)
        raise
    except Exception as error:  # it diverges, is too large for the memory, or was pruned
        print(f"Trial {trial.number} ends: {error}", flush=True)
        trial.set_user_attr("reason", str(error))
        raise TrialPruned from error


def train_trial(trial: optuna.Trial, settings: Settings, *, data: TrainingData) -> float:
    """Trains like `train.py` and returns the validation accuracy, without averaged views.

    Raises:
        TrialPruned: the pruner stopped it early.
    """
    try:
        precision.prepare(settings)
        network = build_network(
            settings, classes=len(data.split.classes), mean=data.mean, deviation=data.deviation
        )
        start_from_patches(network, data.training.images, settings)
        images, settings, _ = distill(data, settings)
        callbacks = [
            StopAtDivergence(settings.learning_rate),
            *build_callbacks(settings),
            pruning.WeightPruning(network, settings.prune_threshold),
            keras.callbacks.LambdaCallback(on_epoch_end=partial(_report, trial, settings.epochs)),
        ]
        fit(network, images, settings, callbacks, accelerate=accelerate_optimizer)
        pruning.prune(network, settings)  # as for the export
        return top1(network, data.validation)
    finally:
        # The next trial builds another network: release the memory of this one.
        keras.utils.clear_session(free_memory=True)


def _report(trial: optuna.Trial, epochs: int, epoch: int, logs: dict[str, float]) -> None:
    """Reports the validation accuracy after an epoch; raises `TrialPruned` if the pruner says so.

    The last epoch is not pruned.
    """
    trial.report(float(logs["val_accuracy"]), step=epoch + 1)
    if epoch + 1 < epochs and trial.should_prune():
        raise TrialPruned("pruned")
