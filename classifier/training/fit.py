"""The training loop: batches, the model that is fitted, and callbacks."""

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
WRITING = (keras.callbacks.ModelCheckpoint, keras.callbacks.TensorBoard)  # they write files
VALIDATION_BATCH = 512  # images


class Batches(keras.utils.PyDataset):
    """Shuffled batches; the order depends only on the seed and the epoch, for resuming.

    Args:
        load: returns the images of an epoch, which may differ from epoch to epoch.
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
        """Loads the images and the order of an epoch, counted from 0."""
        self.data = self.load(epoch)
        self.order = np.random.default_rng((self.seed, epoch)).permutation(len(self.data.images))

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return ({"images": self.data.images[chosen], "targets": self.data.targets[chosen]},)


class TrainingModel(keras.Model):
    """A network with the augmentation of images and targets, for training.

    Inputs and outputs are dictionaries with the entry `targets`, since augmentation changes the
    targets: loss and accuracy use those of the outputs.

    Args:
        network: from `build_network`.
        augmentation: of the images and targets of a batch.
        group: shards each batch over its devices.
        fuse: whether XLA fuses element-wise operations, with TensorFlow (see `fusion`).
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
        self.built = True  # its parts are

    def call(self, batch: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Classifies `batch["images"]`, in training after augmenting images and targets."""
        images, targets = self.group.shard(batch["images"]), self.group.shard(batch["targets"])
        if training and self.augmentation is not None:
            images, targets = self.augmentation(images, targets)
        return {"probabilities": self.network(images, training=training), "targets": targets}

    def train_step(self, *batch: Any) -> Any:
        """Runs the training step of the backend, with fused operations if `fuse` is set."""
        with fusion.elementwise(self.fuse):
            return super().train_step(*batch)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, *rest: Any, **options: Any
    ) -> Any:
        """Returns the compiled loss for the augmented targets."""
        return super().compute_loss(x, y_pred["targets"], y_pred["probabilities"], *rest, **options)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, float]:
        """Returns the compiled metrics for the augmented targets."""
        targets, probabilities = y_pred["targets"], y_pred["probabilities"]
        return super().compute_metrics(x, targets, probabilities, sample_weight)


class ModelCheckpoint(keras.callbacks.ModelCheckpoint):
    """`keras.callbacks.ModelCheckpoint` for distributed models, with a check of the free space.

    It is the first callback that writes: it checks for all of them.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves undistributed: JAX would otherwise wait for the other processes."""
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
    """Trains a network in place, or resumes its training from the state in `checkpoints`.

    Args:
        network: from `build_network`.
        settings: the settings.
        load_training: returns the training images of an epoch, counted from 0; always the same
            number.
        validation: the validation images.
        checkpoints: folder of the run's state; created if needed.
        tensorboard: folder of event files, which are written if TensorFlow is installed; None for
            none.
        augmentation: applied to each training batch.
        further_callbacks: callbacks in addition to those of the settings.
        group: the processes that train together; only the first writes files.

    Returns:
        The state after the last epoch, with the history in `rows`.

    Raises:
        ClassifierError: the state on disk does not match or cannot be read.
        DiskFullError: there is not enough free space.
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
        # On CPUs XLA's matrix products are slower than TensorFlow's; JAX always uses XLA.
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
    group.check_same(state.epochs_done, "numbers of completed epochs")
    trainee.fit(
        batches,
        # `Batches` shuffles; an order drawn by Keras could not be resumed.
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
        # A progress bar in a terminal; one line per epoch in a log file.
        verbose=(1 if sys.stdout.isatty() else 2) if group.is_chief else 0,
    )
    return state


def top1(model: keras.Model, data: Images) -> float:
    """Returns the top-1 accuracy."""
    probabilities = model.predict(data.images, batch_size=VALIDATION_BATCH, verbose=0)
    return float(np.mean(probabilities.argmax(axis=1) == data.targets.argmax(axis=1)))


def build_callbacks(
    settings: Settings, checkpoints: Path, tensorboard: Path | None
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that the settings ask for."""
    callbacks: list[keras.callbacks.Callback] = []
    if settings.ema_momentum:
        callbacks.append(keras.callbacks.SwapEMAWeights())  # the averages are validated
    callbacks += [
        # A new file for each best epoch: an interrupted write does not damage an older file.
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
    # Keras writes event files with TensorFlow, also on other backends.
    if tensorboard is not None and importlib.util.find_spec("tensorflow"):
        import_quietly("tensorflow")
        callbacks.append(
            keras.callbacks.TensorBoard(str(tensorboard), write_graph=False, profile_batch=0)
        )
    return callbacks
