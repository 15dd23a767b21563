"""One trial: trains with sampled settings and reports each epoch to the pruner."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import optuna

from classifier.architectures import build_network
from classifier.architectures.local_start import start_from_patches
from classifier.settings import Settings
from classifier.training import precision
from classifier.training.distillation import epoch_images
from classifier.training.fit import fit, top1
from classifier.training.training_data import TrainingData


@dataclass(frozen=True)
class Outcome:
    """The result of a trial.

    Attributes:
        validation_top1: the validation accuracy, as in `training.json`.
        pruned: whether the pruner stopped it early.
        epochs: completed epochs.
        seconds: wall time.
        parameters: the parameter count of the network.
    """

    validation_top1: float
    pruned: bool
    epochs: int
    seconds: float
    parameters: int


class Pruning(keras.callbacks.Callback):
    """Reports the validation accuracy after each epoch and stops pruned trials.

    Args:
        trial: the trial.
        epochs: the number of epochs; the last one is not pruned.
    """

    def __init__(self, trial: optuna.Trial, epochs: int) -> None:
        super().__init__()
        self.trial = trial
        self.epochs = epochs
        self.pruned = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Reports the epoch; a pruned training is stopped without an exception."""
        self.trial.report(float((logs or {})["val_accuracy"]), step=epoch + 1)
        if epoch + 1 < self.epochs and self.trial.should_prune():
            self.pruned = True
            self.model.stop_training = True


def run_trial(
    trial: optuna.Trial, settings: Settings, data: TrainingData, checkpoints: Path
) -> Outcome:
    """Trains like `train.py` and measures the validation accuracy; the test split is not used.

    Args:
        trial: the trial.
        settings: its settings.
        data: the data, the same for all trials.
        checkpoints: an empty folder for the checkpoints.
    """
    began = time.perf_counter()
    pruning = Pruning(trial, settings.epochs)
    try:
        precision.set_policy(precision.resolve(settings.precision))
        keras.utils.set_random_seed(settings.seed)
        network = build_network(
            settings, classes=len(data.split.classes), mean=data.mean, deviation=data.deviation
        )
        start_from_patches(network, data.training.images, settings)
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
        # The next trial builds another network: release the memory of this one.
        keras.utils.clear_session(free_memory=True)
        gc.collect()
