"""The model folder: reads, validates and lists its files."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from classifier.errors import InputError
from classifier.files import write_text
from classifier.model_folder import saved_model
from classifier.presets import current_names

if TYPE_CHECKING:
    import keras

CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"
LABELS = "labels.json"
TRAINING = "training.json"
HISTORY = "history.csv"
EVALUATION = "evaluation.json"
PREDICTIONS = "predictions.npz"
PLOTS = "plots"
CARD = "README.md"
RUNS = "runs"
ONNX = "model.onnx"  # the model once more, for other programs; only where it was asked for

NEEDED_TO_SERVE = (CONFIG, WEIGHTS, LABELS)
RECORDS = (METADATA, TRAINING, HISTORY, EVALUATION, PREDICTIONS, CARD)
NEEDED_TO_PUBLISH = (*NEEDED_TO_SERVE, *RECORDS)
# Patterns of the files that belong to a model folder; all others are ignored.
PATTERNS = (*NEEDED_TO_PUBLISH, ONNX, f"{PLOTS}/*.png", f"{RUNS}/**/events.out.tfevents.*")

TOP = 5  # classes in an answer, the most probable first
MAX_BYTES = 2**30  # larger files are not read
MAX_CLASSES = 4_000
MAX_NAME_LENGTH = 200  # characters

Content = TypeVar("Content")


@dataclass(frozen=True)
class ClassNames:
    """The names of the model's classes and superclasses, as in the data set.

    Attributes:
        dataset: the name of the data set, None if unknown.
        classes: the name of each of the C outputs.
        superclasses: the names of the superclasses, None if the data set has none.
        superclass_of: for each class its index into `superclasses`, None if there are none.
    """

    dataset: str | None
    classes: tuple[str, ...]
    superclasses: tuple[str, ...] | None = None
    superclass_of: tuple[int, ...] | None = None

    @classmethod
    def read(cls, folder: Path) -> ClassNames:
        """Reads and checks the `labels.json` of a model folder; raises `InputError`."""
        path = Path(folder) / LABELS
        content = _read_json(path)
        classes, superclasses, superclass_of = (
            tuple(value) if isinstance(value := content.get(key), list) else None
            for key in ("classes", "superclasses", "superclass_of")
        )
        dataset = content.get("dataset")
        known = None if dataset is None else str(dataset)
        names = cls(known, classes or (), superclasses, superclass_of)
        names.check(str(path))
        return names

    def check(self, where: str) -> None:
        """Raises `InputError` unless a model folder can hold these names.

        Args:
            where: the file or data set that they come from, for the message.
        """
        for what, names in (("classes", self.classes), ("superclasses", self.superclasses)):
            if names is not None and not 2 <= len(names) <= MAX_CLASSES:
                raise InputError(
                    f"{where} has {len(names):,} {what}: a model takes 2 to {MAX_CLASSES:,}. Add "
                    "or merge some"
                )
            seen: set[str] = set()
            for name in names or ():
                if not _is_name(name) or name in seen:
                    raise InputError(
                        f"the name {str(name)[:60]!a} among the {what} of {where} is empty, "
                        f"repeated, longer than {MAX_NAME_LENGTH} characters or holds some that "
                        "are not printed: rename it"
                    )
                seen.add(name)
        groups, group_of = self.superclasses or (), self.superclass_of or ()
        if len(group_of) != (len(self.classes) if groups else 0) or any(
            type(index) is not int or not 0 <= index < len(groups) for index in group_of
        ):
            raise InputError(f"{where}: `superclass_of` must give the superclass of each class")

    def write(self, folder: Path) -> None:
        """Writes `labels.json` into a folder."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        write_text(Path(folder) / LABELS, text)


@dataclass(frozen=True)
class ModelFolder:
    """A trained model and its records; a file is read on access, and again once it has changed.

    Attributes:
        path: the folder.

    Example:
        >>> folder = ModelFolder(Path("pretrained/mlp-baseline"))
        >>> folder.check()
        >>> folder.load_model().output_shape
        (None, 100)
    """

    path: Path
    _contents: dict[str, tuple[tuple[int, ...], Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def labels(self) -> ClassNames:
        """The class names; raises `InputError` if `labels.json` is missing or invalid."""
        return self._read(LABELS, lambda path: ClassNames.read(path.parent))

    @property
    def config(self) -> dict[str, Any]:
        """The layers and their options, as Keras wrote them; raises `InputError`."""
        return self._read(CONFIG, _read_json)

    @property
    def image_size(self) -> int:
        """The side of the model's input images in pixels; raises `InputError`."""
        return saved_model.image_size(self.config)

    @property
    def training(self) -> dict[str, Any]:
        """How the model was trained; empty without `training.json`."""
        return self._read_record(TRAINING, _read_training) or {}

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """The content of `evaluation.json`, None if the model was not evaluated."""
        return self._read_record(EVALUATION, _read_json)

    @property
    def history(self) -> list[dict[str, float]]:
        """A row per epoch, without empty cells; empty without `history.csv`."""
        return self._read_record(HISTORY, _read_history) or []

    @property
    def plots(self) -> list[Path]:
        """The plots, sorted by name."""
        return sorted(path for path in (self.path / PLOTS).glob("*.png") if path.is_file())

    @property
    def card(self) -> str | None:
        """The text of the model card, metadata included; None if there is none."""
        return self._read_record(CARD, lambda path: path.read_text("utf-8", "replace"))

    def predictions(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the predictions on the evaluated split, None without `predictions.npz`.

        They are probabilities, float32, (N, C), and the true labels, int32, (N,).

        Raises:
            InputError: the file is damaged, has unexpected content or is too large.
        """
        path = self.path / PREDICTIONS
        if not path.exists():
            return None
        _check_size(path)
        classes = len(self.labels.classes)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                probabilities = arrays["probabilities"].astype(np.float32)
                labels = arrays["labels"].astype(np.int32)
            if (
                probabilities.shape != (labels.size, classes)
                or labels.shape != (len(probabilities),)
                or not np.isfinite(probabilities).all()
                or not 0 <= labels.min() <= labels.max() < classes
            ):
                raise ValueError("shapes or values are others")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{path} must hold probabilities (N, {classes}) and N labels from 0 to "
                f"{classes - 1} ({error}): evaluate the model again with `python -m evaluation`"
            ) from error
        return probabilities, labels

    def files(self) -> list[str]:
        """Returns the relative paths of the files that match `PATTERNS`, sorted.

        Checkpoints, hidden, temporary and unrelated files are not included.
        """
        found = {path for pattern in PATTERNS for path in self.path.glob(pattern)}
        names = [path.relative_to(self.path).as_posix() for path in found if path.is_file()]
        return sorted(name for name in names if not f"/{name}".count("/."))

    def check(self, *, complete: bool = False) -> None:
        """Checks that the model can be loaded safely; imports neither Keras nor a backend.

        Args:
            complete: whether to check for publishing too: all files exist and are readable, and
                no file is a link.

        Raises:
            InputError: it cannot.
        """
        if not self.path.is_dir():
            raise InputError(f"{self.path} is not a folder: name a model folder")
        needed = NEEDED_TO_PUBLISH if complete else NEEDED_TO_SERVE
        missing = [name for name in needed if not (self.path / name).is_file()]
        if missing:
            raise InputError(
                f"{self.path} is not a {'complete ' if complete else ''}model folder: it lacks "
                f"{', '.join(missing)}. Name a folder that train.py has written"
            )
        for name in self.files():
            _check_size(self.path / name)
        _ = self.labels
        saved_model.check(self.config, self.path / WEIGHTS)
        if complete:
            self._check_complete()

    def load_model(self) -> keras.Model:
        """Checks and loads the model, uncompiled, with Keras's `safe_mode`, on any backend.

        Raises:
            InputError: `check` fails, or the weights do not match the model.
        """
        self.check()
        return saved_model.load(self.path, classes=len(self.labels.classes))

    def _read(self, name: str, read: Callable[[Path], Content]) -> Content:
        """Returns what a file holds, which is parsed only if it has changed."""
        path = self.path / name
        _check_size(path)
        status = path.stat()
        state = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self._contents.get(name, ((), None))[0] != state:
            self._contents[name] = state, read(path)
        return self._contents[name][1]

    def _read_record(self, name: str, read: Callable[[Path], Content]) -> Content | None:
        return self._read(name, read) if (self.path / name).exists() else None

    def _check_complete(self) -> None:
        for name in self.files():
            if (self.path / name).is_symlink():
                raise InputError(f"{self.path / name} is a link: replace it by the file")
        if not self.plots:
            raise InputError(
                f"{self.path / PLOTS} holds no plots: evaluate with `python -m evaluation`"
            )
        if not self.training or not self.history or not self.card:
            raise InputError(f"{self.path} has an empty {TRAINING}, {HISTORY} or {CARD}")
        predictions = self.predictions()
        if predictions is None or (self.evaluation or {}).get("samples") != len(predictions[1]):
            raise InputError(
                f"{self.path / EVALUATION} and {PREDICTIONS} are of different images: evaluate "
                "the model again with `python -m evaluation`"
            )


def _read_training(path: Path) -> dict[str, Any]:
    training = _read_json(path)
    for name in ("settings", "dataset"):
        if not isinstance(training.get(name), dict):
            training.pop(name, None)
    if "settings" in training:
        training["settings"] = current_names(training["settings"])
    return training


def _read_history(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                {key: float(value) for key, value in row.items() if key and value}
                for row in csv.DictReader(file)
            ]
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path} is not a table of numbers with a header: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    """Reads a file with a JSON object, after a check of its size."""
    _check_size(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error or 'too deeply nested'}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object. Received: {type(content).__name__}")
    return content


def _check_size(path: Path) -> None:
    """Raises InputError for a file that is missing or too large to be read."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise InputError(f"{path.parent} holds no {path.name}: is it a model folder?") from None
    if size > MAX_BYTES:
        raise InputError(f"{path} has {size:,} bytes: more than the {MAX_BYTES:,} that are allowed")


def _is_name(value: Any) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_NAME_LENGTH
        and value.isprintable()
        and not value.isspace()
    )
