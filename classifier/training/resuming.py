"""What a run adds to the loop of `fit`: checkpoints, the end at divergence, event files."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from classifier.settings import Settings
from classifier.training.checkpoints import BestWeights, RunState
from classifier.training.distribution import ALONE, ProcessGroup, sharded_model
from classifier.training.divergence import StopAtDivergence
from classifier.training.fit import (
    VALIDATION_BATCH,
    Data,
    Images,
    TrainingModel,
    build_callbacks,
    fit,
)
from classifier.training.fused_adamw_adapter import accelerate_optimizer
from classifier.training.pruning import WeightPruning

STATE = "state.npz"


def fit_or_resume(
    network: keras.Model,
    data: Data,
    settings: Settings,
    folder: Path,
    *,
    further_callbacks: Sequence[keras.callbacks.Callback] = (),
    group: ProcessGroup = ALONE,
) -> RunState:
    """Trains a network in place, or resumes its training from the state in a folder.

    Args:
        network: from `build_network`.
        data, settings: as for `fit`.
        folder: of the training's state; created if needed.
        further_callbacks: in addition to those of the settings; only the first process has them.
        group: the processes that train together; only the first writes files.

    Returns:
        The state after the last epoch, with the history in `rows`. With early stopping, the network
        has the weights of the best epoch.

    Raises:
        ValueError: the state in the folder is of another network.
        DivergedError: a loss or a weight is not finite.
    """
    callbacks = [*build_callbacks(settings), WeightPruning(network, settings.prune_threshold)]
    best = BestWeights(network, folder)
    if group.is_chief:
        folder.mkdir(parents=True, exist_ok=True)
        if settings.early_stopping_patience:
            callbacks.append(best)
        callbacks.extend(further_callbacks)
    state = RunState(folder / STATE, callbacks, write=group.is_chief)
    group.check_same({"completed epochs": len(state.rows)})
    fit(
        network,
        data,
        settings,
        [StopAtDivergence(settings.learning_rate), *callbacks, state],
        first_epoch=settings.epochs if state.finished else len(state.rows),
        accelerate=accelerate_optimizer,
        model=sharded_model() if group.devices > 1 else TrainingModel,
        verbose=None if group.is_chief else 0,
    )
    if settings.early_stopping_patience:
        best.restore(state.best_epoch)
    return state


def event_files(folder: Path) -> list[keras.callbacks.Callback]:
    """Returns a callback that writes TensorBoard's event files, which the Hub shows, too.

    There is none without TensorFlow, with which Keras writes them on all backends.
    """
    if not importlib.util.find_spec("tensorflow"):
        return []
    return [keras.callbacks.TensorBoard(str(folder), write_graph=False, profile_batch=0)]


def top1(model: keras.Model, data: Images) -> float:
    """Returns the top-1 accuracy."""
    images, targets = data
    probabilities = model.predict(images, batch_size=VALIDATION_BATCH, verbose=0)
    return float(np.mean(probabilities.argmax(axis=1) == targets.argmax(axis=1)))
