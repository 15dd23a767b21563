"""The training loop: seeded runs come out twice, and a stopped run goes on as if it had not."""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from classifier.architectures import build_network, flops_per_image
from classifier.errors import ClassifierError
from classifier.settings import Settings
from classifier.training import checkpoints, fusion
from classifier.training.augmentation import Augmentation
from classifier.training.checkpoints import RunState
from classifier.training.fit import TrainingModel, fit, top1
from classifier.training.optimizers import build_optimizer
from classifier.training.training_data import Images

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
    architecture="residual_mlp",
    local_units=24,
    local_patches=(9, 16),
    prune_threshold=0.8,
    width=16,
    depth=1,
    optimizer="adamw",
    learning_rate=0.003,
    schedule="cosine",
    warmup_epochs=1,
    final_rate=0.05,
    ema_momentum=0.9,
    early_stopping_patience=0,
    flip=0.5,
    crop_area=0.5,
    crop_aspect=1.2,
    rotation=10,
    noise=10,
    brightness=0.1,
    contrast=0.1,
    erasing=0.3,
    mixup=0.4,
    label_smoothing=0.1,
)


class KilledError(Exception):
    """Stands for the end of the process."""


class KillInEpoch(keras.callbacks.Callback):
    """Ends the training in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch
        self.now = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.now = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self.now == self.epoch and batch == 2:
            raise KilledError


@pytest.fixture(scope="module")
def data() -> tuple[Images, Images]:
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, 160)
    images = random.integers(0, 120, (160, 32, 32, 3)) + labels[:, None, None, None] * 25
    everything = Images(images.astype("uint8"), np.eye(CLASSES, dtype="float32")[labels])
    return (
        Images(everything.images[:120], everything.targets[:120]),
        Images(everything.images[120:], everything.targets[120:]),
    )


def train(
    settings: Settings, data: tuple[Images, Images], checkpoints: Path
) -> tuple[keras.Model, RunState]:
    keras.utils.set_random_seed(settings.seed)
    network = build(settings)
    training, validation = data
    state = fit(
        network,
        settings,
        load_training=lambda epoch: training,
        validation=validation,
        checkpoints=checkpoints,
        augmentation=Augmentation(settings),
    )
    return network, state


def build(settings: Settings) -> keras.Model:
    mean, deviation = np.full(3, 120.0, "float32"), np.full(3, 60.0, "float32")
    return build_network(settings, classes=CLASSES, mean=mean, deviation=deviation)


def assert_same_weights(one: keras.Model, other: keras.Model) -> None:
    for first, second in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.fixture
def kill_in_epoch(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Adds a callback that ends the next trainings in that epoch; None adds none."""
    from classifier.training import fit as training

    build = training.build_callbacks

    def arrange(epoch: int | None) -> None:
        def build_with_end(*arguments: object) -> list[keras.callbacks.Callback]:
            return [*build(*arguments), *([] if epoch is None else [KillInEpoch(epoch)])]

        monkeypatch.setattr(training, "build_callbacks", build_with_end)

    return arrange


@pytest.mark.parametrize("settings", [TINY, AUGMENTED], ids=["classic", "augmented"])
def test_the_same_seed_gives_the_same_weights_twice(settings, data, tmp_path):
    first, _ = train(settings, data, tmp_path / "first")
    second, _ = train(settings, data, tmp_path / "second")
    other, _ = train(settings.replace(seed=1), data, tmp_path / "other")

    assert_same_weights(first, second)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


@pytest.mark.parametrize(
    ("settings", "fuse"),
    [
        pytest.param(TINY, False, id="classic"),
        pytest.param(AUGMENTED, False, id="augmented"),
        pytest.param(AUGMENTED, True, id="fused", marks=pytest.mark.slow),  # XLA compiles
    ],
)
@pytest.mark.parametrize("epoch", [0, 2])
def test_a_training_cut_off_in_an_epoch_ends_with_the_weights_of_one_that_was_not(
    settings, fuse, epoch, data, tmp_path, kill_in_epoch, monkeypatch
):
    if fuse:
        monkeypatch.setattr(fusion, "WORTH_COMPILING", 0)
    whole, whole_state = train(settings, data, tmp_path / "whole")
    kill_in_epoch(epoch)
    with pytest.raises(KilledError):
        train(settings, data, tmp_path / "cut")
    kill_in_epoch(None)
    resumed, state = train(settings, data, tmp_path / "cut")

    assert_same_weights(whole, resumed)
    without_times = [{**row, "seconds": 0} for row in state.rows]
    assert without_times == [{**row, "seconds": 0} for row in whole_state.rows]


def test_slow_checkpoints_are_written_less_often_and_resumed_from(
    data, tmp_path, kill_in_epoch, monkeypatch
):
    whole, _ = train(TINY, data, tmp_path / "whole")
    monkeypatch.setattr(checkpoints, "SLOW_WRITE", 0.0)
    monkeypatch.setattr(checkpoints, "MAX_WRITING", 1e-6)
    kill_in_epoch(2)
    with pytest.raises(KilledError):
        train(TINY, data, tmp_path / "cut")
    with np.load(tmp_path / "cut" / "state.npz") as stored:
        assert len(json.loads(str(stored["memory"]))["rows"]) == 1  # of two whole epochs
    kill_in_epoch(None)
    resumed, state = train(TINY, data, tmp_path / "cut")

    assert_same_weights(whole, resumed)
    assert state.epochs_done == TINY.epochs


def test_early_stopping_restores_the_best_weights_also_after_a_resume(data, tmp_path):
    settings = TINY.replace(epochs=30, learning_rate=0.05, early_stopping_patience=2)
    network, state = train(settings, data, tmp_path)
    assert state.epochs_done < 30

    again, state_again = train(settings, data, tmp_path)

    assert_same_weights(network, again)
    assert state_again.rows == state.rows
    losses = [row["val_loss"] for row in state.rows]
    assert state.best_epoch == int(np.argmin(losses)) + 1


@pytest.mark.parametrize("rate", [1e3, 1e10, 1e35, 1e39])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_first_loss_that_is_not_finite_ends_the_training(rate, schedule, data, tmp_path):
    settings = TINY.replace(learning_rate=rate, schedule=schedule)
    with pytest.raises(ClassifierError, match="diverged in epoch 1: lower learning_rate"):
        train(settings, data, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_validation_loss_that_is_not_finite_ends_the_training(data, tmp_path):
    training, validation = data
    broken = Images(validation.images, np.full_like(validation.targets, np.nan))
    with pytest.raises(ClassifierError, match=r"diverged in epoch 1.*val_loss"):
        train(TINY, (training, broken), tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_end_the_training_and_the_last_whole_state_stays(
    data, tmp_path, monkeypatch
):
    from classifier.training import fit as training

    def spoil(epoch: int, logs: dict[str, float] | None) -> None:
        if epoch == 2:
            bias = callback.model.network.get_layer("probabilities").bias
            bias.assign(np.full(CLASSES, np.inf))

    class Late(training.StopAtDivergence):
        """Sees each epoch after its last batch has spoilt the weights."""

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            spoil(epoch, logs)
            super().on_epoch_end(epoch, logs)

    callback = Late(0.02)
    monkeypatch.setattr(training, "StopAtDivergence", lambda rate: callback)
    with pytest.raises(ClassifierError, match=r"diverged in epoch 3.*bias"):
        train(TINY, data, tmp_path)
    with np.load(tmp_path / "state.npz") as state:
        assert all(np.isfinite(state[name]).all() for name in state.files if name != "memory")


def test_a_damaged_checkpoint_is_named_and_not_trained_over(data, tmp_path):
    train(TINY.replace(epochs=1), data, tmp_path)
    (tmp_path / "state.npz").write_bytes(b"PK\x03\x04 half of a file")

    with pytest.raises(ClassifierError, match=r"state\.npz cannot be read"):
        train(TINY.replace(epochs=2), data, tmp_path)


def test_training_learns_what_can_be_learnt(data, tmp_path):
    settings = TINY.replace(epochs=15, early_stopping_patience=0)
    network, state = train(settings, data, tmp_path)

    assert top1(network, data[0]) > 0.6  # guessing gets 0.2
    assert state.rows[-1]["loss"] < state.rows[0]["loss"]
    assert list(state.rows[0]) == [
        *("epoch", "accuracy", "loss", "val_accuracy", "val_loss", "learning_rate", "seconds")
    ]


def test_each_row_has_the_learning_rate_that_its_epoch_began_with(data, tmp_path):
    settings = TINY.replace(epochs=12, learning_rate=0.1, early_stopping_patience=0)
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(
            float(callback.model.optimizer.learning_rate)
        )
    )
    training, validation = data
    state = fit(
        build(settings),
        settings,
        load_training=lambda epoch: training,
        validation=validation,
        checkpoints=tmp_path,
        further_callbacks=[callback],
    )
    assert [row["learning_rate"] for row in state.rows] == seen
    assert state.rows[0]["learning_rate"] == pytest.approx(0.1)
    assert len(set(seen)) > 1


def test_the_learning_rate_falls_when_validation_stands_still(data, tmp_path):
    settings = TINY.replace(epochs=12, learning_rate=0.1, early_stopping_patience=0)
    _, state = train(settings, data, tmp_path)

    rates = [row["learning_rate"] for row in state.rows]
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] < 0.05


def test_fit_with_ema_momentum_validates_and_returns_the_averaged_weights(data, tmp_path):
    _, validation = data
    settings = AUGMENTED.replace(epochs=2, ema_momentum=0.99, l2=0)
    network, state = train(settings, data, tmp_path)
    probabilities = network.predict(validation.images, verbose=0)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing)
    assert float(loss(validation.targets, probabilities)) == pytest.approx(
        state.rows[-1]["val_loss"], rel=1e-4
    )


def test_only_the_newest_best_weights_are_kept(data, tmp_path):
    train(TINY, data, tmp_path)
    assert len(list(tmp_path.glob("best-*.weights.h5"))) == 1


def test_fused_steps_learn_what_the_others_do(data, tmp_path, monkeypatch):
    plain, plain_state = train(AUGMENTED, data, tmp_path / "plain")
    monkeypatch.setattr(fusion, "WORTH_COMPILING", 0)
    fused, fused_state = train(AUGMENTED, data, tmp_path / "fused")

    for one, other in zip(plain.get_weights(), fused.get_weights(), strict=True):
        # Adam turns a rounding of a gradient near 0 into a step of up to a learning rate.
        np.testing.assert_allclose(one, other, atol=0.01)
    losses = [[row["val_loss"] for row in state.rows] for state in (plain_state, fused_state)]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_fusing_compiles_operations_on_elements_and_no_product(data):
    batch = {"images": data[0].images[:16], "targets": data[0].targets[:16]}
    marked = {fuse: operations_for_xla(batch, fuse=fuse) for fuse in (False, True)}

    assert not marked[False]
    assert {"Sigmoid", "Mul", "Rsqrt"} <= marked[True] <= fusion.FUSED
    assert not {"MatMul", "BatchMatMulV2", "ResourceApplyAdam"} & marked[True]


def operations_for_xla(batch: dict[str, np.ndarray], *, fuse: bool) -> set[str]:
    """Traces a training step, and returns which kinds of operations are marked for XLA."""
    import tensorflow as tf

    trainee = TrainingModel(build(AUGMENTED), Augmentation(AUGMENTED), fuse=fuse)
    trainee.compile(optimizer=build_optimizer(AUGMENTED, 1), loss="categorical_crossentropy")
    trainee.optimizer.build(trainee.trainable_variables)
    graph = tf.function(trainee.train_step).get_concrete_function((batch,)).graph.as_graph_def()
    return {node.op for node in graph.node if node.attr["_XlaCompile"].b}


def test_a_short_training_is_not_worth_compiling_for(monkeypatch):
    network = build(AUGMENTED)
    images = fusion.WORTH_COMPILING / (3 * flops_per_image(network))

    assert not fusion.xla_is_worthwhile(network, int(images * 0.9))
    assert fusion.xla_is_worthwhile(network, int(images * 1.1))
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert not fusion.xla_is_worthwhile(network, int(images * 1.1))
