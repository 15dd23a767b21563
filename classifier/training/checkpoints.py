"""The checkpoint of a run: a training that is killed at any moment can be resumed."""

import json
import math
import time
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from classifier.errors import ClassifierError
from classifier.files import require_space, write_atomically

# The state of each callback between epochs; best weights are stored separately, as arrays.
CALLBACK_STATE = {
    "EarlyStopping": ("wait", "stopped_epoch", "best", "best_epoch"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "ModelCheckpoint": ("best",),
}

# The largest share of the time for writing checkpoints that take longer than `SLOW_WRITE` seconds:
# on a GPU an epoch of a large dense network is shorter than writing its checkpoint.
MAX_WRITING, SLOW_WRITE = 0.1, 0.25
EPOCH_BYTES = 1 << 20  # upper bound: history, event files and file headers of an epoch
MODEL_FOLDER_BYTES = 8 << 20  # of predictions, plots and event files beside the weights


class RunState(keras.callbacks.Callback):
    """Writes the complete state of a training after an epoch, and restores it.

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
        self._best_weights: list[np.ndarray] | None = None
        self._callback_states: dict[str, dict[str, Any]] = {}
        self._epoch_began = 0.0
        self._rate = 0.0
        self._began = time.perf_counter()
        self._ended: float | None = None
        self._next_write = 0.0  # no checkpoint before this time
        self._seconds_before = 0.0

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the training, including the time before interruptions."""
        ended = time.perf_counter() if self._ended is None else self._ended
        return self._seconds_before + ended - self._began

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss, counted from 1."""
        return min(range(len(self.rows)), key=lambda index: self.rows[index]["val_loss"]) + 1

    @property
    def epochs_done(self) -> int:
        """The number of completed epochs."""
        return len(self.rows)

    def prepend(self, earlier: "RunState") -> None:
        """Inserts the epochs of a previous training at the start of the history."""
        own = [{**row, "epoch": row["epoch"] + earlier.epochs_done} for row in self.rows]
        self.rows = [*earlier.rows, *own]
        self._seconds_before += earlier.seconds

    def restore(self, model: keras.Model) -> None:
        """Restores the built model and its optimiser from the file, if it exists.

        Raises:
            ClassifierError: the file does not match this model or is damaged.
        """
        if not self.path.exists():
            return
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                state = json.loads(str(stored["memory"]))
                variables = _variables(model)
                arrays = [stored[f"variable_{index}"] for index in range(len(variables))]
                best = [stored[f"best_{index}"] for index in range(state["best_weights"])]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ClassifierError(
                f"the checkpoint {self.path} cannot be read ({error}): remove it to start again"
            ) from None
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        self.rows = state["rows"]
        self.finished = state["finished"]
        self._seconds_before = state["seconds"]
        self._callback_states = state["callbacks"]
        self._best_weights = best or None

    def check_space(self, model: keras.Model) -> None:
        """Raises `DiskFullError` if there is not enough free space for the whole run."""
        folder = self.path.parent
        # Checkpoint and best weights, twice while they are replaced, and the model folder.
        needed = 2 * (_size(_variables(model)) + _size(model.variables)) + MODEL_FOLDER_BYTES
        existing = sum(file.stat().st_size for file in folder.iterdir())
        require_space(folder, needed - existing)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Restores the state of the other callbacks, which they have just reset."""
        for name, other in self.others.items():
            for attribute, value in self._callback_states.get(name, {}).items():
                setattr(other, attribute, value)
        if self._best_weights is not None:
            self.others["EarlyStopping"].best_weights = self._best_weights

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
        self.finished = bool(self.model.stop_training)
        last = self.finished or epoch + 1 == self.params["epochs"]
        if self.write and (last or time.perf_counter() >= self._next_write):
            began = time.perf_counter()
            write_atomically(self.path, self._write)
            duration = time.perf_counter() - began
            if duration > SLOW_WRITE:
                self._next_write = began + duration / MAX_WRITING
        if self.write:
            self._remove_old_weights()

    def _write(self, path: Path) -> None:
        variables = _variables(self.model)
        arrays = {
            f"variable_{index}": keras.ops.convert_to_numpy(variable.value)
            for index, variable in enumerate(variables)
        }
        stopping = self.others.get("EarlyStopping")
        best = (stopping.best_weights if stopping else None) or []
        arrays |= {f"best_{index}": np.asarray(array) for index, array in enumerate(best)}
        state = {
            "rows": self.rows,
            "finished": self.finished,
            "seconds": self.seconds,
            "best_weights": len(best),
            "callbacks": {
                name: {attribute: _plain(getattr(other, attribute)) for attribute in attributes}
                for name, other in self.others.items()
                if (attributes := CALLBACK_STATE.get(name))
            },
        }
        with path.open("wb") as file:
            np.savez(file, memory=np.array(json.dumps(state)), **arrays)

    def _remove_old_weights(self) -> None:
        """Deletes all weights that `ModelCheckpoint` wrote but the newest."""
        for old in sorted(self.path.parent.glob("best-*.weights.h5"))[:-1]:
            old.unlink(missing_ok=True)


def size_of_epoch(model: keras.Model) -> int:
    """Returns the bytes that are written after an epoch, before old files are deleted."""
    return _size(_variables(model)) + _size(model.variables) + EPOCH_BYTES


def _size(variables: list[Any]) -> int:
    return sum(4 * math.prod(variable.shape) for variable in variables)


def _variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def _plain(value: Any) -> Any:
    """Converts NumPy scalars to Python numbers, for JSON."""
    return value.item() if isinstance(value, np.generic) else value
