"""The checkpoint of a run: a training that is killed at any moment can be resumed."""

import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from classifier.files import write_atomically
from classifier.training.distribution import undistributed

# The state of each callback between epochs.
CALLBACK_STATE = {
    "EarlyStopping": ("wait", "stopped_epoch", "best", "best_epoch"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "BestWeights": ("best",),
}

# The largest share of the time for writing checkpoints that take longer than `SLOW_WRITE` seconds:
# on a GPU an epoch of a large dense network is shorter than writing its checkpoint.
MAX_WRITING, SLOW_WRITE = 0.1, 0.25


class BestWeights(keras.callbacks.ModelCheckpoint):
    """Saves the weights of a network after each epoch with the lowest val_loss so far.

    Each has its own file: an interrupted write does not damage an older one.

    Args:
        network: whose weights are saved, undistributed.
        folder: of the files; exists.
    """

    def __init__(self, network: keras.Model, folder: Path) -> None:
        self.network, self.folder = network, folder
        literal = str(folder).replace("{", "{{").replace("}", "}}")  # Keras formats the path
        super().__init__(
            f"{literal}/best-{{epoch:04d}}.weights.h5", save_best_only=True, save_weights_only=True
        )

    def set_model(self, model: keras.Model) -> None:
        """Watches the training of the model, and saves the network."""
        super().set_model(self.network)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves undistributed: JAX would otherwise wait for the other processes."""
        with undistributed():
            super().on_epoch_end(epoch, logs)

    def restore(self, epoch: int) -> None:
        """Loads the weights of an epoch, counted from 1, into the network."""
        self.network.load_weights(self.folder / f"best-{epoch:04d}.weights.h5")

    def remove_all_but(self, epoch: int) -> None:
        """Deletes the files of all other epochs."""
        for file in self.folder.glob("best-*.weights.h5"):
            if file.name != f"best-{epoch:04d}.weights.h5":
                file.unlink(missing_ok=True)


class RunState(keras.callbacks.Callback):
    """Restores the complete state of a training, and writes it after an epoch.

    It is written after every epoch, or less often if that would take more than a tenth of the time.

    Unlike `keras.callbacks.BackupAndRestore`, the file also holds the state of the other callbacks
    and the history, next to all variables of model and optimiser (random states included). It is
    replaced atomically. This callback must be the last one, so that the others have been updated.

    Args:
        path: the file, `….npz`.
        others: the callbacks whose state is stored.
        write: whether this process writes the file.
    """

    def __init__(
        self, path: Path, others: list[keras.callbacks.Callback], *, write: bool = True
    ) -> None:
        super().__init__()
        self.write = write
        self.path = path
        self.others = {type(other).__name__: other for other in others}
        self.rows: list[dict[str, float]] = []
        self.finished = False
        self._first = 0  # of the rows of this training, after those of an earlier one
        self._variables: list[np.ndarray] = []
        self._callback_states: dict[str, dict[str, Any]] = {}
        self._epoch_began = 0.0
        self._rate = 0.0
        self._began = time.perf_counter()
        self._ended: float | None = None
        self._next_write = 0.0  # no checkpoint before this time
        self._seconds_before = 0.0
        if path.exists():
            self._read()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the training, including the time before interruptions."""
        ended = time.perf_counter() if self._ended is None else self._ended
        return self._seconds_before + ended - self._began

    @property
    def best_epoch(self) -> int:
        """The epoch of this training with the lowest validation loss, counted from 1."""
        own = range(self._first, len(self.rows))
        return min(own, key=lambda index: self.rows[index]["val_loss"]) + 1

    def prepend(self, earlier: "RunState") -> None:
        """Inserts the epochs of a previous training at the start of the history."""
        own = [{**row, "epoch": row["epoch"] + len(earlier.rows)} for row in self.rows]
        self.rows = [*earlier.rows, *own]
        self._first = len(earlier.rows)
        self._seconds_before += earlier.seconds

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Restores the variables, and the state of the callbacks, which they have just reset."""
        if not self.rows:
            return
        swap = self.others.get("SwapEMAWeights")
        if swap is not None:  # it is told that the averages are in the model, as they were
            swap.on_epoch_end(-1)
        for variable, array in zip(_variables(self.model), self._variables, strict=True):
            variable.assign(array)
        self._variables = []
        for name, other in self.others.items():
            for attribute, value in self._callback_states.get(name, {}).items():
                setattr(other, attribute, value)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Records the end of the training."""
        self._ended = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Records the start time and the learning rate of the epoch."""
        self._epoch_began = time.perf_counter()
        # At the end of the epoch the optimiser already has that of the next one.
        self._rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds the epoch to the history and writes the checkpoint, unless one was just written."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        numbers.pop("learning_rate", None)
        seconds = round(time.perf_counter() - self._epoch_began, 3)
        row = {"epoch": epoch + 1, **numbers, "learning_rate": self._rate, "seconds": seconds}
        self.rows.append(row)
        last = epoch + 1 == self.params["epochs"]
        self.finished = last or bool(self.model.stop_training)
        if self.write and (self.finished or time.perf_counter() >= self._next_write):
            began = time.perf_counter()
            write_atomically(self.path, self._write)
            duration = time.perf_counter() - began
            if duration > SLOW_WRITE:
                self._next_write = began + duration / MAX_WRITING
            best = self.others.get("BestWeights")
            if isinstance(best, BestWeights):
                best.remove_all_but(self.best_epoch)

    def _read(self) -> None:
        with np.load(self.path, allow_pickle=False) as stored:
            state = json.loads(str(stored["memory"]))
            self._variables = [stored[f"variable_{index}"] for index in range(len(stored) - 1)]
        self.rows, self.finished = state["rows"], state["finished"]
        self._seconds_before, self._callback_states = state["seconds"], state["callbacks"]

    def _write(self, path: Path) -> None:
        arrays = {
            f"variable_{index}": keras.ops.convert_to_numpy(variable.value)
            for index, variable in enumerate(_variables(self.model))
        }
        state = {
            "rows": self.rows,
            "finished": self.finished,
            "seconds": self.seconds,
            "callbacks": {
                name: {attribute: getattr(other, attribute) for attribute in attributes}
                for name, other in self.others.items()
                if (attributes := CALLBACK_STATE.get(name))
            },
        }
        memory = json.dumps(state, default=np.generic.item)
        with path.open("wb") as file:
            np.savez(file, memory=np.array(memory), **arrays)


def _variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]
