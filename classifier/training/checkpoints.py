"""The state of a run on disk, so that a training killed at any moment goes on where it was."""

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

# What each callback remembers between epochs; their best weights are kept apart, as arrays.
REMEMBERED = {
    "EarlyStopping": ("wait", "stopped_epoch", "best", "best_epoch"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "ModelCheckpoint": ("best",),
}

EPOCH_BYTES = 1 << 20  # at most, of an epoch's rows, event files and file headers
MODEL_FOLDER_BYTES = 8 << 20  # of predictions, plots and event files beside the weights


class RunState(keras.callbacks.Callback):
    """Writes the whole state of a training after each epoch, and takes it up again.

    One file holds every variable of model and optimiser (random states included), what the other
    callbacks remember, and the history. It is written beside the old one and renamed over it, so
    that there is a whole one at any moment. This callback must be the last of the list: it looks
    at the others after they have seen the epoch.

    Args:
        path: the file, `….npz`.
        others: the callbacks whose memory belongs to the state.
        write: whether this process is the one that writes the file.
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
        self._memories: dict[str, dict[str, Any]] = {}
        self._epoch_began = 0.0
        self._rate = 0.0
        self._began = time.perf_counter()
        self._ended: float | None = None
        self._seconds_before = 0.0

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the training, those before interruptions included."""
        ended = time.perf_counter() if self._ended is None else self._ended
        return self._seconds_before + ended - self._began

    @property
    def best_epoch(self) -> int:
        """The epoch, counted from 1, with the lowest loss on validation."""
        return min(range(len(self.rows)), key=lambda index: self.rows[index]["val_loss"]) + 1

    @property
    def epochs_done(self) -> int:
        """Number of whole epochs that this state has behind it."""
        return len(self.rows)

    def prepend(self, earlier: "RunState") -> None:
        """Puts the epochs of a training that ended before this one in front of its history."""
        own = [{**row, "epoch": row["epoch"] + earlier.epochs_done} for row in self.rows]
        self.rows = [*earlier.rows, *own]
        self._seconds_before += earlier.seconds

    def restore(self, model: keras.Model) -> None:
        """Sets the built model and its optimiser to the state on disk, if there is one.

        Raises:
            ClassifierError: the file does not fit this model or is damaged.
        """
        if not self.path.exists():
            return
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                memory = json.loads(str(stored["memory"]))
                variables = _variables(model)
                arrays = [stored[f"variable_{index}"] for index in range(len(variables))]
                best = [stored[f"best_{index}"] for index in range(memory["best_weights"])]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ClassifierError(
                f"the checkpoint {self.path} cannot be read ({error}): remove it to start anew"
            ) from None
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        self.rows = memory["rows"]
        self.finished = memory["finished"]
        self._seconds_before = memory["seconds"]
        self._memories = memory["callbacks"]
        self._best_weights = best or None

    def check_space(self, model: keras.Model) -> None:
        """Checks, before the first epoch, that the disk has room for all that a run writes.

        Raises:
            DiskFullError: it has not.
        """
        folder = self.path.parent
        # The state and the best weights, each with the next one beside it, and the model folder.
        needed = 2 * (_size(_variables(model)) + _size(model.variables)) + MODEL_FOLDER_BYTES
        there = sum(file.stat().st_size for file in folder.iterdir())
        require_space(folder, needed - there)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Gives the other callbacks their memory back, which they forgot just now."""
        for name, other in self.others.items():
            for attribute, value in self._memories.get(name, {}).items():
                setattr(other, attribute, value)
        if self._best_weights is not None:
            self.others["EarlyStopping"].best_weights = self._best_weights

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Stops the clock."""
        self._ended = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the epoch's clock, and notes the learning rate that it begins with."""
        self._epoch_began = time.perf_counter()
        # At the epoch's end the optimiser has the next one's already.
        self._rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds the epoch's row to the history and writes the state."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        numbers.pop("learning_rate", None)
        seconds = round(time.perf_counter() - self._epoch_began, 3)
        row = {"epoch": epoch + 1, **numbers, "learning_rate": self._rate, "seconds": seconds}
        self.rows.append(row)
        self.finished = bool(self.model.stop_training)
        if self.write:
            write_atomically(self.path, self._write)
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
        memory = {
            "rows": self.rows,
            "finished": self.finished,
            "seconds": self.seconds,
            "best_weights": len(best),
            "callbacks": {
                name: {attribute: _plain(getattr(other, attribute)) for attribute in attributes}
                for name, other in self.others.items()
                if (attributes := REMEMBERED.get(name))
            },
        }
        with path.open("wb") as file:
            np.savez(file, memory=np.array(json.dumps(memory)), **arrays)

    def _remove_old_weights(self) -> None:
        """Keeps the newest of the best weights that `ModelCheckpoint` wrote."""
        for old in sorted(self.path.parent.glob("best-*.weights.h5"))[:-1]:
            old.unlink(missing_ok=True)


def size_of_epoch(model: keras.Model) -> int:
    """Returns the bytes that are written after an epoch, before older files go."""
    return _size(_variables(model)) + _size(model.variables) + EPOCH_BYTES


def _size(variables: list[Any]) -> int:
    return sum(4 * math.prod(variable.shape) for variable in variables)


def _variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def _plain(value: Any) -> Any:
    """Returns NumPy numbers as Python's, which JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value
