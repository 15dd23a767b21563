"""The training loop and its checkpoints: seeds, resuming, divergence, best and averaged weights."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest

from classifier.architectures import build_network
from classifier.errors import ClassifierError
from classifier.settings import Settings
from classifier.training.checkpoints import RunState
from classifier.training.fit import Images, build_callbacks, fit
from classifier.training.resuming import fit_or_resume, top1
from classifier.training.training_data import class_weights

CLASSES = 5
TINY = Settings(
    hidden_units=(16,),
    dropout=0.2,
    l2=1e-4,
    learning_rate=0.02,
    batch_size=16,
    epochs=4,
    early_stopping_patience=3,
    plateau_patience=1,
    precision="float32",
)
AUGMENTED = TINY.replace(
    architecture="local_mlp",
    local_units=24,
    local_patches=(9, 16),
    prune_threshold=0.8,
    width=16,
    depth=1,
    optimizer="adamw",
    learning_rate=0.003,
    ema_momentum=0.8,
    schedule="cosine",
    warmup_epochs=1,
    final_rate=0.1,
    early_stopping_patience=0,
    flip=0.5,
    crop_area=0.5,
    crop_aspect=1.2,
    rotation=10,
    brightness=0.1,
    contrast=0.1,
    noise=5,
    erasing=0.3,
    cutmix=0.3,
    mixup=0.4,
    label_smoothing=0.1,
)


@dataclasses.dataclass(frozen=True)
class Data:
    training: Images
    validation: Images

    def epoch(self, number: int) -> Images:
        return self.training


class KilledError(Exception):
    """Stands for the end of the process."""


class KillInEpoch(keras.callbacks.Callback):
    """Ends the training in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch, self.now = epoch, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.now = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self.now == self.epoch and batch == 2:
            raise KilledError


@pytest.fixture(scope="module")
def data() -> Data:
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, 160)
    images = random.integers(0, 120, (160, 32, 32, 3)) + labels[:, None, None, None] * 25
    images, targets = images.astype("uint8"), np.eye(CLASSES, dtype="float32")[labels]
    return Data((images[:120], targets[:120]), (images[120:], targets[120:]))


def build(settings: Settings) -> keras.Model:
    mean, deviation = np.full(3, 120.0, "float32"), np.full(3, 60.0, "float32")
    return build_network(settings, classes=CLASSES, mean=mean, deviation=deviation)


def train(
    settings: Settings, data: Data, folder: Path, *further: keras.callbacks.Callback
) -> tuple[keras.Model, RunState]:
    keras.utils.set_random_seed(settings.seed)
    network = build(settings)
    return network, fit_or_resume(network, data, settings, folder, further_callbacks=further)


def assert_same_weights(one: keras.Model, other: keras.Model) -> None:
    for first, second in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("settings", [TINY, AUGMENTED], ids=["classic", "augmented"])
def test_fit_with_the_same_seed_gives_the_same_weights(settings, data, tmp_path):
    first, _ = train(settings, data, tmp_path / "first")
    second, _ = train(settings, data, tmp_path / "second")
    other, _ = train(settings.replace(seed=1), data, tmp_path / "other")

    assert_same_weights(first, second)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


@pytest.mark.parametrize("settings", [TINY, AUGMENTED], ids=["classic", "augmented"])
@pytest.mark.parametrize("epoch", [0, 2])
def test_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(
    settings, epoch, data, tmp_path
):
    whole, whole_state = train(settings, data, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(settings, data, tmp_path / "cut {epoch}", KillInEpoch(epoch))
    resumed, state = train(settings, data, tmp_path / "cut {epoch}")

    assert_same_weights(whole, resumed)
    without_times = [{**row, "seconds": 0} for row in state.rows]
    assert without_times == [{**row, "seconds": 0} for row in whole_state.rows]


def test_early_stopping_restores_the_best_weights_from_their_file(data, tmp_path):
    settings = TINY.replace(epochs=30, learning_rate=0.05, early_stopping_patience=2)
    network, state = train(settings, data, tmp_path)
    assert len(state.rows) < 30
    losses = [row["val_loss"] for row in state.rows]
    assert state.best_epoch == int(np.argmin(losses)) + 1
    assert [file.name for file in tmp_path.glob("best-*")] == [
        f"best-{state.best_epoch:04d}.weights.h5"
    ]
    again, state_again = train(settings, data, tmp_path)  # finished: it trains no further

    assert_same_weights(network, again)
    assert state_again.rows == state.rows


def test_averaged_weights_are_validated_and_are_the_result(data):
    settings = TINY.replace(ema_momentum=0.9, epochs=2, early_stopping_patience=0)
    network = build(settings)
    history = fit(network, data, settings, build_callbacks(settings), verbose=0)
    raw = build(settings)
    fit(raw, data, settings.replace(ema_momentum=0.0), [], verbose=0)

    assert history["val_accuracy"][-1] == pytest.approx(top1(network, data.validation))
    assert not np.array_equal(network.get_weights()[0], raw.get_weights()[0])


@pytest.mark.parametrize("rate", [1e3, 1e10, 1e30])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_loss_that_is_not_finite_ends_the_training(rate, schedule, data, tmp_path):
    settings = TINY.replace(learning_rate=rate, schedule=schedule)
    with pytest.raises(ClassifierError, match="diverged in epoch 1: lower learning_rate"):
        train(settings, data, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_validation_loss_that_is_not_finite_ends_the_training(data, tmp_path):
    images, targets = data.validation
    broken = Data(data.training, (images, np.full_like(targets, np.nan)))
    with pytest.raises(ClassifierError, match=r"diverged in epoch 1.*val_loss"):
        train(TINY, broken, tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_end_the_training(data, tmp_path):
    class Spoil(keras.callbacks.Callback):
        def on_test_end(self, logs: dict[str, float] | None = None) -> None:
            if (tmp_path / "state.npz").exists():
                self.model.network.get_layer("probabilities").bias.assign(np.full(CLASSES, np.inf))

    with pytest.raises(ClassifierError, match=r"diverged in epoch 2.*bias"):
        train(TINY, data, tmp_path, Spoil())
    with np.load(tmp_path / "state.npz") as state:
        assert all(np.isfinite(state[name]).all() for name in state.files if name != "memory")


def test_a_checkpoint_of_another_network_is_not_trained_over(data, tmp_path):
    train(TINY.replace(epochs=1), data, tmp_path)
    with pytest.raises(ValueError, match="shape"):
        train(TINY.replace(epochs=2, hidden_units=(8,)), data, tmp_path)


def test_fit_learns_and_each_row_has_the_learning_rate_of_its_epoch(data, tmp_path):
    settings = TINY.replace(epochs=15, learning_rate=0.1, early_stopping_patience=0)
    rates = []

    class Rates(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            rates.append(float(self.model.optimizer.learning_rate))

    network, state = train(settings, data, tmp_path, Rates())

    assert top1(network, data.training) > 0.6  # guessing gets 0.2
    assert [row["learning_rate"] for row in state.rows] == rates
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] < 0.05  # where validation stands still
    assert list(state.rows[0]) == [
        *("epoch", "accuracy", "loss", "val_accuracy", "val_loss", "learning_rate", "seconds")
    ]


@pytest.mark.parametrize(("power", "ratio"), [(1.0, 9.0), (0.5, 3.0), (0.0, 1.0)])
def test_class_weights_are_inverse_to_a_power_of_the_class_size(power, ratio):
    labels = np.repeat([0, 1], [90, 10])
    settings = Settings(class_weight="balanced", class_weight_power=power)
    weights = class_weights(labels, 3, settings)
    assert weights[1] / weights[0] == pytest.approx(ratio)
    assert weights[labels].mean() == pytest.approx(1)
    np.testing.assert_array_equal(class_weights(labels, 3, Settings()), 1)
