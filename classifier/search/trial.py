"""One trial: a training with the settings that were drawn, watched by the pruner epoch by epoch."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import optuna

from classifier.architectures import build_network
from classifier.settings import Settings
from classifier.training import precision
from classifier.training.distillation import epoch_images
from classifier.training.fit import fit, top1
from classifier.training.training_data import TrainingData


@dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    Attributes:
        validation_top1: of the trained network, as `training.json` states it.
        pruned: whether it was ended early as hopeless.
        epochs: whole epochs trained.
        seconds: wall clock.
        parameters: of the network.
    """

    validation_top1: float
    pruned: bool
    epochs: int
    seconds: float
    parameters: int


class Pruning(keras.callbacks.Callback):
    """Reports the accuracy on validation after each epoch and ends a training that is hopeless.

    Args:
        trial: of the study whose pruner decides.
        epochs: after the last of them nothing is left to save.
    """

    def __init__(self, trial: optuna.Trial, epochs: int) -> None:
        super().__init__()
        self.trial = trial
        self.epochs = epochs
        self.pruned = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Reports the epoch; stops the training in good order rather than by an exception."""
        self.trial.report(float((logs or {})["val_accuracy"]), step=epoch + 1)
        if epoch + 1 < self.epochs and self.trial.should_prune():
            self.pruned = True
            self.model.stop_training = True


def run_trial(
    trial: optuna.Trial, settings: Settings, data: TrainingData, checkpoints: Path
) -> Outcome:
    """Trains as `train.py` does and measures on validation; the test split is left alone.

    Args:
        trial: takes the reports.
        settings: what it drew.
        data: the same for all trials.
        checkpoints: an empty folder for the training's state.
    """
    began = time.perf_counter()
    pruning = Pruning(trial, settings.epochs)
    try:
        precision.set_policy(precision.resolve(settings.precision))
        keras.utils.set_random_seed(settings.seed)
        network = build_network(
            settings, classes=len(data.split.classes), mean=data.mean, deviation=data.deviation
        )
        load_epoch, augmentation = epoch_images(data, settings)
        state = fit(
            network,
            settings,
            load_training=load_epoch,
            validation=data.validation,
            checkpoints=checkpoints,
            augmentation=augmentation,
            further_callbacks=[pruning],
        )
        return Outcome(
            validation_top1=top1(network, data.validation),
            pruned=pruning.pruned,
            epochs=state.epochs_done,
            seconds=round(time.perf_counter() - began, 1),
            parameters=network.count_params(),
        )
    finally:
        # The next trial is another network: nothing of this one may stay in memory.
        keras.utils.clear_session(free_memory=True)
        gc.collect()
