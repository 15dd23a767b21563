"""The training itself: batches, the model that is fitted, callbacks, and the loop around them."""

import importlib.util
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from classifier.environment import import_quietly
from classifier.files import require_space
from classifier.settings import Settings
from classifier.training import fusion
from classifier.training.augmentation import Augmentation
from classifier.training.checkpoints import RunState, size_of_epoch
from classifier.training.distribution import ALONE, ProcessGroup, undistributed
from classifier.training.divergence import StopAtDivergence
from classifier.training.memory import MallocTuning
from classifier.training.optimizers import build_optimizer
from classifier.training.training_data import Images

STATE = "state.npz"
WRITING = (keras.callbacks.ModelCheckpoint, keras.callbacks.TensorBoard)  # files
VALIDATION_BATCH = 512  # images


class Batches(keras.utils.PyDataset):
    """Batches in an order that depends on the seed and the epoch alone, so that it can be resumed.

    Args:
        load: gives the images of an epoch, so that each epoch may see other views of them.
        batch_size: images per batch.
        seed: of the order.
    """

    def __init__(self, load: Callable[[int], Images], *, batch_size: int, seed: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.load = load
        self.batch_size = batch_size
        self.seed = seed
        self.start(0)

    def start(self, epoch: int) -> None:
        """Takes up the images and the order of an epoch, counted from 0."""
        self.data = self.load(epoch)
        self.order = np.random.default_rng((self.seed, epoch)).permutation(len(self.data.images))

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return ({"images": self.data.images[chosen], "targets": self.data.targets[chosen]},)


class TrainingModel(keras.Model):
    """A network with what surrounds it in training alone: augmentation of images and targets.

    It takes and returns dictionaries, since augmentation changes the targets too: what it calls
    `targets` on the way out is what the loss and the accuracy are measured against.

    Args:
        network: from `build_network`.
        augmentation: of the images and targets of a batch.
        group: whose devices divide each batch.
        fuse: whether XLA fuses operations on elements, under TensorFlow (see `fusion`).
    """

    def __init__(
        self,
        network: keras.Model,
        augmentation: Augmentation | None,
        group: ProcessGroup = ALONE,
        *,
        fuse: bool = False,
    ) -> None:
        super().__init__(name="training")
        self.network = network
        self.augmentation = augmentation
        self.group = group
        self.fuse = fuse
        self.built = True  # as its parts are

    def call(self, batch: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Classifies `batch["images"]`, in training after augmenting images and targets."""
        images, targets = self.group.shard(batch["images"]), self.group.shard(batch["targets"])
        if training and self.augmentation is not None:
            images, targets = self.augmentation(images, targets)
        return {"probabilities": self.network(images, training=training), "targets": targets}

    def train_step(self, *batch: Any) -> Any:
        """Takes Keras' own step of the backend."""
        with fusion.elementwise(self.fuse):
            return super().train_step(*batch)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, *rest: Any, **options: Any
    ) -> Any:
        """Returns the compiled loss against the targets that the augmentation made."""
        return super().compute_loss(x, y_pred["targets"], y_pred["probabilities"], *rest, **options)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, float]:
        """Returns the compiled metrics against the targets that the augmentation made."""
        targets, probabilities = y_pred["targets"], y_pred["probabilities"]
        return super().compute_metrics(x, targets, probabilities, sample_weight)


class ModelCheckpoint(keras.callbacks.ModelCheckpoint):
    """Keras' own, for a network that several processes train and one of them saves.

    It comes before whatever else writes, and looks first whether the disk has room for all of it.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves without the other processes, which JAX would otherwise wait for."""
        require_space(Path(self.filepath).parent, size_of_epoch(self.model))
        with undistributed():
            super().on_epoch_end(epoch, logs)


def fit(
    network: keras.Model,
    settings: Settings,
    *,
    load_training: Callable[[int], Images],
    validation: Images,
    checkpoints: Path,
    tensorboard: Path | None = None,
    augmentation: Augmentation | None = None,
    further_callbacks: Sequence[keras.callbacks.Callback] = (),
    group: ProcessGroup = ALONE,
) -> RunState:
    """Trains the network in place, or goes on where the state in `checkpoints` stands.

    Args:
        network: from `build_network`.
        settings: the recipe.
        load_training: the training images of an epoch, counted from 0; as many each time.
        validation: measured after each epoch; never trained on.
        checkpoints: folder of the run's state; created if needed.
        tensorboard: folder for event files, where TensorFlow is installed; None: write none.
        augmentation: applied to each training batch.
        further_callbacks: they see each epoch beside those that the settings ask for.
        group: the processes that train together; the first alone writes.

    Returns:
        The state after the last epoch, with the history in `rows`.

    Raises:
        ClassifierError: the state on disk does not fit or cannot be read.
        DiskFullError: there is no room for what the training writes.
        DivergedError: a loss or a weight is not finite.
    """
    if group.is_chief:
        checkpoints.mkdir(parents=True, exist_ok=True)
    batches = Batches(load_training, batch_size=settings.batch_size, seed=settings.seed)
    images = settings.epochs * len(batches.order)
    trainee = TrainingModel(
        network, augmentation, group, fuse=fusion.xla_is_worthwhile(network, images)
    )
    trainee.compile(
        optimizer=build_optimizer(settings, len(batches)),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing),
        metrics=["accuracy"],
        # On a processor XLA's matrix products are slower than TensorFlow's; JAX lives on XLA.
        jit_compile=keras.backend.backend() == "jax",
    )
    trainee.optimizer.build(trainee.trainable_variables)
    callbacks = build_callbacks(settings, checkpoints, tensorboard)
    if not group.is_chief:
        callbacks = [callback for callback in callbacks if not isinstance(callback, WRITING)]
    state = RunState(checkpoints / STATE, callbacks, write=group.is_chief)
    state.restore(trainee)
    if group.is_chief:
        state.check_space(trainee)
    group.check_same(state.epochs_done, "the number of epochs that they have behind them")
    trainee.fit(
        batches,
        # The batches know their order; Keras would draw another that no resumed run can repeat.
        shuffle=False,
        validation_data=Batches(
            lambda epoch: validation, batch_size=VALIDATION_BATCH, seed=settings.seed
        ),
        initial_epoch=settings.epochs if state.finished else state.epochs_done,
        epochs=settings.epochs,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: batches.start(epoch)),
            StopAtDivergence(settings.learning_rate),
            MallocTuning(),
            *callbacks,
            *further_callbacks,
            state,
        ],
        # A progress bar for a reader; one line an epoch for a log file.
        verbose=(1 if sys.stdout.isatty() else 2) if group.is_chief else 0,
    )
    return state


def top1(model: keras.Model, data: Images) -> float:
    """Returns the share of the images whose most probable class is that of their target."""
    probabilities = model.predict(data.images, batch_size=VALIDATION_BATCH, verbose=0)
    return float(np.mean(probabilities.argmax(axis=1) == data.targets.argmax(axis=1)))


def build_callbacks(
    settings: Settings, checkpoints: Path, tensorboard: Path | None
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of the classic recipe, as far as the settings ask for them."""
    callbacks: list[keras.callbacks.Callback] = [
        # A file for each new best: one that is cut off in the middle replaces no whole one.
        ModelCheckpoint(
            checkpoints / "best-{epoch:04d}.weights.h5",
            monitor="val_loss",
            save_best_only=True,
            save_weights_only=True,
        )
    ]
    if settings.schedule == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor="val_loss",
                factor=settings.plateau_factor,
                patience=settings.plateau_patience,
            )
        )
    if settings.early_stopping_patience:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor="val_loss",
                patience=settings.early_stopping_patience,
                restore_best_weights=True,
            )
        )
    # Keras writes TensorBoard's files with TensorFlow, on whichever backend it trains.
    if tensorboard is not None and importlib.util.find_spec("tensorflow"):
        import_quietly("tensorflow")
        callbacks.append(
            keras.callbacks.TensorBoard(str(tensorboard), write_graph=False, profile_batch=0)
        )
    return callbacks
