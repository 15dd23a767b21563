"""The model folder: reads, validates and lists its files."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.errors import ClassifierError, InputError
from classifier.files import write_text
from classifier.model_folder import saved_model
from classifier.settings import current_names

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
NEEDED_TO_PUBLISH = (
    *NEEDED_TO_SERVE,
    METADATA,
    TRAINING,
    HISTORY,
    EVALUATION,
    PREDICTIONS,
    CARD,
)
# Patterns of the files that belong to a model folder; all others are ignored.
PATTERNS = (*NEEDED_TO_PUBLISH, ONNX, f"{PLOTS}/*.png", f"{RUNS}/**/events.out.tfevents.*")

MEGABYTE = 2**20
MAX_FILE_BYTES = {  # files above this size are not read
    CONFIG: 4 * MEGABYTE,
    METADATA: MEGABYTE,
    WEIGHTS: 1024 * MEGABYTE,
    LABELS: MEGABYTE,
    TRAINING: 4 * MEGABYTE,
    HISTORY: 16 * MEGABYTE,
    EVALUATION: 64 * MEGABYTE,
    PREDICTIONS: 256 * MEGABYTE,
    CARD: 4 * MEGABYTE,
    PLOTS: 16 * MEGABYTE,  # each
    RUNS: 64 * MEGABYTE,  # each
    ONNX: 1024 * MEGABYTE,
}
MAX_PLOTS = 100
MAX_CLASSES = 10_000
MAX_NAME_LENGTH = 200  # characters
MAX_UNPACKED_BYTES = 1024 * MEGABYTE


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
        dataset = content.get("dataset")
        if dataset is not None and not isinstance(dataset, str):
            raise InputError(f"{path}: `dataset` must be a text or null. Received: {dataset!r}")
        classes = _names(content.get("classes"), "classes", path)
        groups, group_of = content.get("superclasses"), content.get("superclass_of")
        if (groups is None) != (group_of is None):
            raise InputError(f"{path}: `superclasses` and `superclass_of` must come together")
        if groups is None:
            return cls(dataset, classes)
        superclasses = _names(groups, "superclasses", path)
        return cls(dataset, classes, superclasses, _indices(group_of, classes, superclasses, path))

    def write(self, folder: Path) -> None:
        """Writes `labels.json` into a folder."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        write_text(Path(folder) / LABELS, text)


@dataclass(frozen=True)
class ModelFolder:
    """A trained model and its records; files are read on access.

    Attributes:
        path: the folder.

    Example:
        >>> folder = ModelFolder(Path("pretrained/mlp-baseline"))
        >>> folder.check()
        >>> folder.load_model().output_shape
        (None, 100)
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def labels(self) -> ClassNames:
        """The class names; raises `InputError` if `labels.json` is missing or invalid."""
        return ClassNames.read(self.path)

    @property
    def config(self) -> dict[str, Any]:
        """The layers and their options, as Keras wrote them; raises `InputError`."""
        return _read_json(self.path / CONFIG)

    @property
    def image_size(self) -> int:
        """The side of the model's input images in pixels; raises `InputError`."""
        return saved_model.image_size(self.config)

    @property
    def training(self) -> dict[str, Any]:
        """How the model was trained; empty without `training.json`."""
        training = self._json(TRAINING) or {}
        if isinstance(training.get("settings"), dict):
            training["settings"] = current_names(training["settings"])
        return training

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """The content of `evaluation.json`, None if the model was not evaluated."""
        return self._json(EVALUATION)

    @property
    def history(self) -> list[dict[str, float]]:
        """A row per epoch, without empty cells; empty without `history.csv`."""
        path = self.path / HISTORY
        if not path.exists():
            return []
        _check_size(path, MAX_FILE_BYTES[HISTORY])
        try:
            with path.open(newline="", encoding="utf-8") as file:
                return [
                    {key: float(value) for key, value in row.items() if key and value}
                    for row in csv.DictReader(file)
                ]
        except (ValueError, TypeError, csv.Error) as error:
            raise InputError(f"{path} is not a table of numbers with a header: {error}") from error

    @property
    def plots(self) -> list[Path]:
        """The plots, sorted by name."""
        return sorted(path for path in (self.path / PLOTS).glob("*.png") if path.is_file())

    @property
    def card(self) -> str | None:
        """The text of the model card, metadata included; None if there is none."""
        path = self.path / CARD
        if not path.exists():
            return None
        _check_size(path, MAX_FILE_BYTES[CARD])
        return path.read_text(encoding="utf-8", errors="replace")

    def predictions(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the predictions on the evaluated split, None without `predictions.npz`.

        Returns:
            probabilities: float32, (N, C).
            labels: int32, (N,), the true classes.

        Raises:
            InputError: the file is damaged, has unexpected content or is too large.
        """
        path = self.path / PREDICTIONS
        if not path.exists():
            return None
        _check_size(path, MAX_FILE_BYTES[PREDICTIONS])
        try:
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > MAX_UNPACKED_BYTES:
                raise InputError(f"{path} unpacks to {unpacked:,} bytes: more than is allowed")
            with np.load(path, allow_pickle=False) as arrays:
                probabilities, labels = arrays["probabilities"], arrays["labels"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{path} does not hold the arrays `probabilities` and `labels` ({error}): "
                "evaluate the model again with `python -m evaluation`"
            ) from error
        return _check_predictions(probabilities, labels, len(self.labels.classes), path)

    def files(self) -> list[str]:
        """Returns the relative paths of the files that match `PATTERNS`, sorted.

        Checkpoints, hidden, temporary and unrelated files are not included.
        """
        found = {path for pattern in PATTERNS for path in self.path.glob(pattern)}
        relative = [path.relative_to(self.path) for path in found if path.is_file()]
        return sorted(
            path.as_posix()
            for path in relative
            if not any(part.startswith(".") for part in path.parts)
        )

    def check(self, *, complete: bool = False) -> None:
        """Checks that the model can be loaded safely; imports neither Keras nor a backend.

        Args:
            complete: whether to check for publishing too: all files exist and are readable, the
                model is uncompiled, and no file is a link.

        Raises:
            InputError: one line that says what is wrong and what to do.
        """
        if not self.path.is_dir():
            raise InputError(f"{self.path} is not a folder: name a model folder")
        self._check_present(NEEDED_TO_PUBLISH if complete else NEEDED_TO_SERVE)
        for name in self.files():
            _check_size(self.path / name, MAX_FILE_BYTES[name.partition("/")[0]])
        config = self.config
        saved_model.check(config, self.path / WEIGHTS, classes=len(self.labels.classes))
        if complete:
            self._check_complete(config)

    def load_model(self) -> keras.Model:
        """Checks and loads the model, uncompiled, with Keras's `safe_mode`, on any backend.

        Raises:
            InputError: `check` fails, or the weights do not match the model.
        """
        self.check()
        return saved_model.load(self.path, classes=len(self.labels.classes))

    def _json(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        return _read_json(path) if path.exists() else None

    def _check_present(self, names: tuple[str, ...]) -> None:
        missing = [name for name in names if not (self.path / name).is_file()]
        if missing:
            what = "a complete model folder" if names == NEEDED_TO_PUBLISH else "a model folder"
            raise InputError(
                f"{self.path} is not {what}: it lacks {', '.join(missing)}. "
                "Name a folder that train.py has written"
            )

    def _check_complete(self, config: dict[str, Any]) -> None:
        if config.get("compile_config"):
            raise InputError(f"{self.path / CONFIG} holds a compiled model: save it uncompiled")
        for name in self.files():
            if (self.path / name).is_symlink():
                raise InputError(f"{self.path / name} is a link: replace it by the file")
        if not self.plots:
            raise InputError(
                f"{self.path / PLOTS} holds no plots: evaluate with `python -m evaluation`"
            )
        if len(self.plots) > MAX_PLOTS:
            raise InputError(f"{self.path / PLOTS} holds more than {MAX_PLOTS} plots")
        if not self.training or not self.history or not self.card:
            raise InputError(f"{self.path} has an empty {TRAINING}, {HISTORY} or {CARD}")
        self._check_figures()

    def _check_figures(self) -> None:
        evaluation, predictions = self.evaluation or {}, self.predictions()
        for name in ("top1", "top5", "macro_f1"):
            value = evaluation.get(name)
            if (
                isinstance(value, bool)
                or not isinstance(value, (int, float))
                or not 0 <= value <= 1
            ):
                raise InputError(
                    f"{self.path / EVALUATION} holds no {name} between 0 and 1. Received: {value!r}"
                )
        if predictions is None or evaluation.get("samples") != len(predictions[1]):
            raise InputError(
                f"{self.path / EVALUATION} and {PREDICTIONS} are of different images: evaluate "
                "the model again with `python -m evaluation`"
            )


def _read_json(path: Path) -> dict[str, Any]:
    """Reads a file with a JSON object, after a check of its size."""
    _check_size(path, MAX_FILE_BYTES[path.name])
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error or 'too deeply nested'}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object. Received: {type(content).__name__}")
    return content


def _check_size(path: Path, limit: int) -> None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise InputError(f"{path.parent} holds no {path.name}: is it a model folder?") from None
    except OSError as error:
        raise ClassifierError(f"cannot read {path}: {error.strerror}") from error
    if size > limit:
        raise InputError(f"{path} has {size:,} bytes: more than the {limit:,} that are allowed")


def is_name(value: Any) -> bool:
    """Tells whether a model folder can hold a name of a class or superclass."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_NAME_LENGTH
        and value.isprintable()
        and not value.isspace()
    )


def _names(values: Any, field: str, path: Path) -> tuple[str, ...]:
    if (
        not isinstance(values, list)
        or not 2 <= len(values) <= MAX_CLASSES
        or not all(map(is_name, values))
    ):
        raise InputError(
            f"{path}: `{field}` must be a list of 2 to {MAX_CLASSES:,} names, of at most "
            f"{MAX_NAME_LENGTH} printable characters each"
        )
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise InputError(f"{path}: `{field}` names {twice!r} more than once")
    return tuple(values)


def _indices(
    values: Any, classes: tuple[str, ...], superclasses: tuple[str, ...], path: Path
) -> tuple[int, ...]:
    if (
        not isinstance(values, list)
        or len(values) != len(classes)
        or not all(type(value) is int and 0 <= value < len(superclasses) for value in values)
    ):
        raise InputError(
            f"{path}: `superclass_of` must hold, for each of the {len(classes)} classes, an "
            f"integer from 0 to {len(superclasses) - 1}"
        )
    return tuple(values)


def _check_predictions(
    probabilities: np.ndarray, labels: np.ndarray, classes: int, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    if (
        probabilities.dtype.kind != "f"
        or labels.dtype.kind not in "iu"
        or labels.ndim != 1
        or probabilities.shape != (len(labels), classes)
        or not len(labels)
    ):
        raise InputError(
            f"{path} must hold probabilities (N, {classes}) and N labels. "
            f"Received: {probabilities.dtype} {probabilities.shape}, {labels.dtype} {labels.shape}"
        )
    if not np.isfinite(probabilities).all() or not 0 <= labels.min() <= labels.max() < classes:
        raise InputError(f"{path} contains values that are not probabilities, or unknown labels")
    return probabilities.astype(np.float32), labels.astype(np.int32)
