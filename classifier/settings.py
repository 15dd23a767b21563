"""The settings of a training: a frozen, validated dataclass, set by presets (YAML) and `--set`."""

import dataclasses
import difflib
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from classifier.errors import InputError

DEFAULT_IMAGE_SIZE = 32  # pixels of a side; CIFAR's
MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 8, 256

PRESETS = Path(__file__).resolve().parent.parent / "presets"

CHOICES = {
    "architecture": ("mlp", "residual_mlp", "cnn"),
    "optimizer": ("sgd", "adamw", "lion"),
    "schedule": ("plateau", "cosine", "constant"),
    "precision": ("auto", "float32", "bfloat16"),
    "local_filters": ("random", "patches"),
}
POSITIVE = (
    "hidden_units",
    "width",
    "depth",
    "expansion",
    "local_patches",
    "local_maps",
    "channels",
    "learning_rate",
    "batch_size",
    "epochs",
    "distillation_views",
    "distillation_temperature",
    "validation_fraction",
    "plateau_factor",
)
# 0 to 1, without 1
FRACTIONS = (
    "dropout",
    "momentum",
    "ema_momentum",
    "final_rate",
    "label_smoothing",
    "validation_fraction",
    "plateau_factor",
)
MAX_INTEGER = 2**31 - 1
MIN_FLOAT, MAX_FLOAT = 1.2e-38, 3.4e38  # of float32, in which networks compute
RANGES: dict[str, tuple[float, float]] = {
    "flip": (0, 1),
    "mixup_probability": (0, 1),
    "erasing": (0, 1),
    "cutmix": (0, 1),
    "distillation_weight": (0, 1),
    "crop_area": (0.05, 1),
    "crop_aspect": (1, 4),
    "tta_zoom": (0.3, 1),
    "shift": (0, DEFAULT_IMAGE_SIZE),
    "rotation": (0, 180),
    "noise": (0, 255),
    "image_size": (MIN_IMAGE_SIZE, MAX_IMAGE_SIZE),
    "seed": (0, MAX_INTEGER),  # 32 bits, with room for the seeds that are derived from it
    "warmup_epochs": (0, MAX_INTEGER),
}
IN_PIXELS = ("shift", "image_size")
# The settings that trained weights determine: fine-tuning takes them from the initial model.
ARCHITECTURE = (
    "image_size",
    "architecture",
    "hidden_units",
    "width",
    "depth",
    "expansion",
    "local_units",
    "local_patches",
    "local_maps",
    "channels",
)
RENAMED = {  # settings of earlier versions and their present names
    "average_flip": "tta_flip",
    "average_zoom": "tta_zoom",
    "sparsity": "prune_threshold",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of a training, with their units.

    Raises:
        InputError: a value has the wrong type or is outside its range.
    """

    preset: str = "custom"

    # Pixels of a side, to which every image is resized. Lengths in "pixels of 32" below are scaled
    # with it: 8 are a quarter of the side at any size.
    image_size: int = DEFAULT_IMAGE_SIZE

    # Network
    architecture: str = "mlp"  # mlp (plain), residual_mlp (inverted bottlenecks) or cnn
    hidden_units: tuple[int, ...] = (1024, 512, 256)  # mlp: width of each hidden layer
    dropout: float = 0.0  # dropout rate after each hidden layer
    l2: float = 0.0  # L2 regularisation factor (Dense and Conv2D kernels)
    width: int = 512  # residual_mlp: units between the blocks
    depth: int = 6  # residual_mlp: number of blocks
    expansion: int = 4  # residual_mlp: units inside a block, as a multiple of width
    local_units: int = 0  # residual_mlp: units of each layer with local weights; 0: no such layers
    local_patches: tuple[int, ...] = (9,)  # pixels of 32: side of the initial receptive field
    local_filters: str = "random"  # of the first: random, or whitened patches of training images
    local_maps: tuple[int, ...] = ()  # residual_mlp: side of the feature map of each local layer
    tied: bool = False  # residual_mlp: share the weights of a map: convolutions
    channels: tuple[int, ...] = (32, 64, 128, 256)  # cnn: filters of each stage

    # Optimisation
    optimizer: str = "sgd"  # sgd (Nesterov momentum), adamw or lion
    learning_rate: float = 0.01  # maximum of the schedule
    momentum: float = 0.9  # sgd only
    weight_decay: float = 0.0  # decoupled; adamw and lion only
    prune_threshold: float = 0.0  # adamw: local weights below this many learning rates are set to 0
    clip_norm: float = 0.0  # gradient clipping by global norm; 0: off
    label_smoothing: float = 0.0  # share of the target spread evenly over all classes
    batch_size: int = 128  # images per step
    epochs: int = 40  # maximum number of epochs
    freeze_epochs: int = 0  # with --init-from: first epochs, which train only the new last layer
    schedule: str = "plateau"  # plateau (of val_loss), cosine (decay to final_rate) or constant
    warmup_epochs: float = 0.0  # cosine: linear increase from zero over the first epochs
    final_rate: float = 0.0  # cosine: the last learning rate, as a share of the maximum
    ema_momentum: float = 0.0  # exponential moving average of the weights, per step; 0: off
    plateau_patience: int = 3  # epochs without a better val_loss before the rate is reduced
    plateau_factor: float = 0.3  # the rate is multiplied by this
    early_stopping_patience: int = 0  # epochs without a better val_loss before it stops; 0: off

    # Augmentation of the training images, in the graph
    flip: float = 0.0  # probability of a horizontal flip
    crop_area: float = 1.0  # smallest area of a random crop, as a share of the image
    crop_aspect: float = 1.0  # largest aspect ratio of a random crop
    shift: int = 0  # maximum shift in pixels of 32, in each direction
    rotation: float = 0.0  # maximum rotation in degrees, in each direction
    noise: float = 0.0  # Gaussian noise: highest standard deviation, of 255
    brightness: float = 0.0  # maximum change, as a share of the full scale
    contrast: float = 0.0  # maximum relative change of the contrast
    erasing: float = 0.0  # probability of random erasing
    cutmix: float = 0.0  # probability of CutMix
    mixup: float = 0.0  # alpha of the Beta distribution of mixup; 0: off
    mixup_probability: float = 1.0  # share of the batches with mixup

    # Knowledge distillation: a trained model's predictions for augmented images as targets
    teacher: str = ""  # a model folder or Hub id; empty: no distillation
    distillation_weight: float = 0.9  # weight of the teacher's predictions in the targets
    distillation_temperature: float = 1.0  # softens the teacher's probabilities
    distillation_views: int = 20  # augmented views of each image, predicted once

    # Data, number format, calibration and export
    validation_fraction: float = 0.1  # share of the training split used for validation
    seed: int = 0  # of weights, order, augmentation and dropout
    precision: str = "auto"  # auto: bfloat16 if the processor supports it in hardware
    calibrate: bool = True  # temperature scaling, fitted on validation images
    tta_flip: bool = False  # average the predictions for the image and its horizontal flip
    tta_zoom: float = 1.0  # also average over a zoomed center crop of this share of the side
    store_half: bool = False  # store the weights as float16 (they load as float32)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _convert(field.name, getattr(self, field.name), FIELD_TYPES[field.name])
            _check(field.name, value)
            object.__setattr__(self, field.name, value)
        self._check_maps()

    def _check_maps(self) -> None:
        if self.local_maps and len(self.local_maps) != len(self.local_patches):
            raise InputError(
                "local_maps and local_patches must have the same length. Received: "
                f"{list(self.local_maps)} and {list(self.local_patches)}"
            )
        if self.tied and not self.local_maps:
            raise InputError("tied needs local_maps: the sides of the maps, such as [8, 8, 4]")
        if self.local_filters != "random" and (self.local_maps or not self.local_units):
            raise InputError("local_filters: patches needs local_units, and no local_maps")

    def replace(self, **changes: Any) -> "Settings":
        """Returns these settings with some changed; unknown names raise `InputError`."""
        refuse_unknown(changes, "setting")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Returns all settings in types that JSON and YAML support."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
FIELD_TYPES = typing.get_type_hints(Settings)
TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def preset_names() -> list[str]:
    """Returns the names of the presets that come with the project."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(name_or_file: str | Path) -> Settings:
    """Reads a preset, which is data and never executed.

    Args:
        name_or_file: a name in `presets/`, or the path of a YAML file of settings. The entry
            `search` is for `tune.py` and ignored.

    Raises:
        InputError: no such preset, not a mapping, an unknown name or an invalid value.
    """
    path = preset_path(name_or_file)
    content = read_preset_file(path, name_or_file)
    content.pop("search", None)
    refuse_unknown(content, f"setting in {path.name}")
    return Settings(**{"preset": path.stem, **content})


def preset_path(name_or_file: str | Path) -> Path:
    """Returns the path of a preset's file, whether or not it exists."""
    path = Path(name_or_file)
    return path if path.suffix in (".yaml", ".yml") else PRESETS / f"{name_or_file}.yaml"


def read_preset_file(path: Path, name: str | Path) -> dict[str, Any]:
    """Returns the content of a preset's file; raises `InputError` if it is not a mapping."""
    try:
        if not path.is_file():  # reading a pipe would block
            raise FileNotFoundError
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file: name a YAML file of settings") from None
    except (OSError, ValueError):  # a name with a null character is the latter
        known = ", ".join(preset_names())
        raise InputError(
            f"no preset {str(name)!r}: choose one of {known}, or name a YAML file that exists"
        ) from None
    try:
        content = yaml.load(text, _UniqueKeysLoader)
    except RecursionError:
        raise InputError(f"{path} is not a preset: it is nested too deeply") from None
    except Exception as error:  # of PyYAML, or of its constructors for dates, tags and numbers
        message = " ".join(str(error).split())
        raise InputError(f"{path} is not valid YAML: {message}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{path} is not a preset: it must hold `setting: value` lines")
    return content


class _UniqueKeysLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which itself ignores repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Builds a mapping; raises `YAMLError` for a key that is given twice."""
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                line = node.start_mark.line + 1
                raise yaml.YAMLError(f"{key!r} is given twice in the mapping of line {line}")
        return super().construct_mapping(node, deep)


def parse_overrides(pairs: list[str], **named: Any) -> dict[str, Any]:
    """Returns the settings that a command line changes.

    Args:
        pairs: `["dropout=0.2"]`, as `--set` gives them; the values are YAML.
        named: values of options such as `--epochs`, None if not given.

    Raises:
        InputError: a name is unknown or given twice, or a value cannot be read.
    """
    overrides: dict[str, Any] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise InputError(f"--set takes KEY=VALUE. Received: {pair!r}")
        name = name.strip()
        if name in overrides:
            raise InputError(f"--set names {name} twice: give it once")
        try:
            overrides[name] = yaml.safe_load(value)
        except Exception:  # as of a preset's file
            raise InputError(f"--set {name}: cannot read the value {value!r}") from None
    refuse_unknown(overrides, "setting")
    given = {name: value for name, value in named.items() if value is not None}
    for name in given.keys() & overrides.keys():
        raise InputError(f"{name} is given twice: by its option and by --set")
    return overrides | given


def shorten(value: Any) -> str:
    """Returns a value for a message; YAML can repeat a list in lists a billion times.

    >>> shorten([1, [2, [3, [4]]]])
    '[1, [2, [...]]]'
    """
    return _SHORT.repr(value)


def current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of an earlier version under their present names.

    >>> current_names({"sparsity": 0.8, "epochs": 9})
    {'prune_threshold': 0.8, 'epochs': 9}
    """
    return {RENAMED.get(name, name): value for name, value in settings.items()}


def refuse_unknown(names: Iterable[str], what: str) -> None:
    """Raises `InputError` for the first name that is not a setting."""
    for name in names:
        if name in RENAMED:
            raise InputError(f"the {what} {name!r} is now called {RENAMED[name]!r}")
        if name not in FIELD_TYPES:
            close = difflib.get_close_matches(str(name), FIELD_TYPES, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise InputError(f"unknown {what} {name!r}. {hint}There are: {', '.join(FIELD_TYPES)}")


def _convert(name: str, value: Any, kind: Any) -> Any:
    """Converts a value to the type of its field: floats may be given as `1` or, in YAML, `1e-3`."""
    if isinstance(kind, types.GenericAlias):
        values = value if isinstance(value, (list, tuple)) else (value,)
        return tuple(_convert(name, item, int) for item in values)
    wrong = InputError(f"{name} must be {TYPE_NAMES[kind]}. Received: {shorten(value)}")
    if isinstance(value, bool) != (kind is bool):
        raise wrong
    if kind is float:
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            raise wrong from None
    if kind is str and value is None:
        return ""  # an empty value in YAML
    if not isinstance(value, kind):
        raise wrong
    return value


def _check(name: str, value: Any) -> None:
    received = f"Received: {shorten(value)}"
    if name in CHOICES and value not in CHOICES[name]:
        raise InputError(f"{name} must be one of {', '.join(CHOICES[name])}. {received}")
    values = value if isinstance(value, tuple) else (value,)
    if isinstance(value, tuple) and not value and name != "local_maps":
        raise InputError(f"{name} must hold at least one number. Received: {list(value)}")
    if name in POSITIVE and any(not 0 < item < float("inf") for item in values):
        raise InputError(f"{name} must be greater than 0 and finite. {received}")
    if name in FRACTIONS and not 0 <= value < 1:
        raise InputError(f"{name} must lie between 0 and 1, without 1. {received}")
    if name == "preset" and not _is_file_name(value):
        raise InputError(f"preset must be a name, of at most 100 characters. {received}")
    low, high = RANGES.get(name, (0, 0))
    if name in RANGES and not low <= value <= high:
        unit = " pixels" if name in IN_PIXELS else ""
        raise InputError(f"{name} must lie between {low} and {high}{unit}. {received}")
    if isinstance(value, (int, float)) and not 0 <= value < float("inf"):
        raise InputError(f"{name} must not be negative or infinite. {received}")
    if any(isinstance(item, int) and item > MAX_INTEGER for item in values):
        raise InputError(f"{name} must be at most {MAX_INTEGER}. {received}")
    # A learning rate that is too large is reported as divergence.
    highest = float("inf") if name == "learning_rate" else MAX_FLOAT
    if isinstance(value, float) and value and not MIN_FLOAT <= value <= highest:
        raise InputError(
            f"{name} is too small or too large for a network: it must be 0 or lie between "
            f"{MIN_FLOAT} and {MAX_FLOAT}. {received}"
        )


def _is_file_name(name: str) -> bool:
    """Returns whether a name can be that of a file: the default folder of a run has it."""
    plain = name.isprintable() and Path(name).name == name and name.strip(". ") != ""
    return plain and len(name) <= 100
