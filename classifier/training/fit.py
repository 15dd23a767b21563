"""The training loop: batches, the model that is fitted, optimiser, schedule and callbacks.

settings = load_preset("mlp-baseline")  # classifier/presets.py
data = load_training_data(DataSource("uoft-cs/cifar100"), settings)  # training_data.py
network = build_network(settings, classes=100, mean=data.mean, deviation=data.deviation)
history = fit(network, data, settings, build_callbacks(settings))
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from classifier.settings import OPTIMIZERS, SCHEDULES, Settings
from classifier.training.augmentation import Augmentation

VALIDATION_BATCH = 512  # images
NOT_DECAYED = ["bias", "gamma", "beta"]  # variables without weight decay
# uint8, (N, S, S, 3), RGB 0–255; targets, float32, (N, C): distributions times a class weight.
Images = tuple[np.ndarray, np.ndarray]


class Data(Protocol):
    """What a network is trained on."""

    @property
    def validation(self) -> Images:
        """The validation images."""

    def epoch(self, number: int) -> Images:
        """Returns the training images of an epoch, counted from 0; always as many."""


class Batches(keras.utils.PyDataset):
    """Batches of images in the order of `order`, (N,), at first their own."""

    def __init__(self, data: Images, batch_size: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.data, self.batch_size = data, batch_size
        self.order = np.arange(len(data[0]))

    def start(self, data: Images, seed: int, epoch: int) -> None:
        """Begins an epoch: the order depends only on seed and epoch, so that it can be resumed."""
        self.data = data
        self.order = np.random.default_rng((seed, epoch)).permutation(len(data[0]))

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        images, targets = self.data
        return ({"images": images[chosen], "targets": targets[chosen]},)


class TrainingModel(keras.Model):
    """A network with the augmentation of images and targets, for training.

    Inputs and outputs are dictionaries with the entry `targets`, since augmentation changes the
    targets: loss and accuracy use those of the outputs.
    """

    def __init__(self, network: keras.Model, augmentation: keras.Layer) -> None:
        super().__init__(name="training")
        self.network = network
        self.augmentation = augmentation
        self.built = True  # its parts are

    def call(self, batch: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Classifies `batch["images"]`, in training after augmenting images and targets."""
        images, targets = batch["images"], batch["targets"]
        if training:
            images, targets = self.augmentation(images, targets)
        return {"probabilities": self.network(images, training=training), "targets": targets}

    def compute_loss(self, x: Any, y: Any, y_pred: Any, *rest: Any, **options: Any) -> Any:
        """Returns the compiled loss for the augmented targets."""
        return super().compute_loss(x, y_pred["targets"], y_pred["probabilities"], *rest, **options)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, *rest: Any, **options: Any) -> Any:
        """Returns the compiled metrics for the augmented targets."""
        outputs = y_pred["targets"], y_pred["probabilities"]
        return super().compute_metrics(x, *outputs, *rest, **options)


def build_optimizer(settings: Settings, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Returns the optimiser of the settings with its learning-rate schedule."""
    rate: Any = settings.learning_rate
    schedule, optimizer = SCHEDULES[settings.schedule], OPTIMIZERS[settings.optimizer]
    if schedule.class_name:
        options = schedule.options(settings, steps_per_epoch)
        rate = getattr(keras.optimizers.schedules, schedule.class_name)(**options)
    built = getattr(keras.optimizers, optimizer.class_name)(
        learning_rate=rate,
        global_clipnorm=settings.clip_norm or None,
        use_ema=settings.ema_momentum > 0,
        ema_momentum=settings.ema_momentum,
        **optimizer.options(settings),
    )
    if built.weight_decay is not None:
        built.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return built


def build_callbacks(settings: Settings) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that the settings ask for."""
    callbacks: list[keras.callbacks.Callback] = []
    if settings.ema_momentum:  # validation and the following callbacks see the averaged weights
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    if settings.schedule == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                factor=settings.plateau_factor, patience=settings.plateau_patience
            )
        )
    if settings.early_stopping_patience:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                patience=settings.early_stopping_patience, restore_best_weights=True
            )
        )
    return callbacks


def fit(
    network: keras.Model,
    data: Data,
    settings: Settings,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    first_epoch: int = 0,
    accelerate: Callable[[keras.optimizers.Optimizer], keras.optimizers.Optimizer] = lambda x: x,
    model: type[TrainingModel] = TrainingModel,
    verbose: int | None = None,
) -> dict[str, list[float]]:
    """Trains a network in place.

    Args:
        network: from `build_network`.
        data: training and validation images.
        settings: how to train.
        callbacks: those of `build_callbacks`, and others.
        first_epoch: counted from 0, if the callbacks restore the state of an earlier training.
        accelerate: returns a faster form of the optimiser.
        model: a subclass that handles batches in another way.
        verbose: as Keras takes it; by default a progress bar in a terminal, else a line per epoch.

    Returns:
        Loss and accuracy, of the augmented images, val_loss and val_accuracy of each epoch.
    """
    batches = Batches(data.epoch(first_epoch % settings.epochs), settings.batch_size)
    trainee = model(network, Augmentation(settings))
    trainee.compile(
        optimizer=accelerate(build_optimizer(settings, len(batches))),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing),
        metrics=["accuracy"],
        # On CPUs XLA's matrix products are slower than TensorFlow's; JAX always uses XLA.
        jit_compile=keras.backend.backend() == "jax",
    )
    trainee.optimizer.build(trainee.trainable_variables)
    shuffle = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: batches.start(data.epoch(epoch), settings.seed, epoch)
    )
    history = trainee.fit(
        batches,
        shuffle=False,  # `Batches` shuffles; an order drawn by Keras could not be resumed
        validation_data=Batches(data.validation, VALIDATION_BATCH),
        initial_epoch=first_epoch,
        epochs=settings.epochs,
        callbacks=[shuffle, *callbacks],
        verbose=(1 if sys.stdout.isatty() else 2) if verbose is None else verbose,
    )
    return history.history
