"""The search space of a preset, from its section `search`.

search:
  learning_rate: {low: 0.003, high: 0.1, log: true}
  dropout: {low: 0.0, high: 0.5, step: 0.1}
  hidden_units: [[1024, 512, 256], [2048, 1024]]

A list holds choices. A range has `low` and `high`, optionally `step`, or `log: true` for a uniform
distribution of the logarithm.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.errors import InputError
from classifier.settings import (
    FIELD_TYPES,
    Settings,
    preset_path,
    read_preset_file,
    refuse_unknown,
)

if TYPE_CHECKING:
    import optuna

SECTION = "search"
# Trials are compared after each epoch on the same validation images; the last four settings do not
# affect the training.
FIXED = (
    *("preset", "epochs", "seed", "validation_fraction"),
    *("calibrate", "tta_flip", "tta_zoom", "store_half"),
)
RANGE_KEYS = ("low", "high", "step", "log")

Scalar = str | int | float | bool  # types that all storages support


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        step: the distance between values; None for a continuous range.
        log: whether the logarithm is distributed uniformly.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def suggest(self, trial: optuna.Trial, name: str) -> Scalar:
        """Samples a value."""
        if isinstance(self.low, int):
            return trial.suggest_int(
                name, self.low, int(self.high), step=int(self.step or 1), log=self.log
            )
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def cells(self) -> list[float] | None:
        """Returns all values, None for a continuous range."""
        if self.step is None:
            return None
        count = round((self.high - self.low) / self.step) + 1
        if isinstance(self.low, int):
            return [self.low + index * int(self.step) for index in range(count)]
        return [round(self.low + index * self.step, 12) for index in range(count)]

    def value(self, drawn: Scalar) -> Any:
        """Converts a sampled value to the setting's value."""
        return drawn

    def key(self, value: Any) -> float | None:
        """Converts a setting's value to a sampled value; None if it is not in the space."""
        if not self.low <= value <= self.high:
            return None
        cells = self.cells()
        if cells is None:
            return value
        return next((cell for cell in cells if math.isclose(cell, value, abs_tol=1e-12)), None)

    def describe(self) -> dict[str, Any]:
        """Returns the range in the format of presets."""
        rest = {"step": self.step, "log": self.log}
        chosen = {name: value for name, value in rest.items() if value}
        return {"low": self.low, "high": self.high, **chosen}


@dataclass(frozen=True)
class Choices:
    """A list of values; lists among them are stored as JSON, for storages of scalars."""

    values: tuple[Any, ...]

    def suggest(self, trial: optuna.Trial, name: str) -> Scalar:
        """Samples a value."""
        return trial.suggest_categorical(name, self.cells())  # type: ignore[return-value]

    def cells(self) -> list[Scalar]:
        """Returns all choices as sampled values."""
        return [_key(value) for value in self.values]

    def value(self, drawn: Scalar) -> Any:
        """Converts a sampled value to the setting's value."""
        return self.values[self.cells().index(drawn)]

    def key(self, value: Any) -> Scalar | None:
        """Converts a setting's value to a sampled value; None if it is not in the space."""
        return _key(value) if value in self.values else None

    def describe(self) -> list[Any]:
        """Returns the choices in the format of presets."""
        return [list(value) if isinstance(value, tuple) else value for value in self.values]


@dataclass(frozen=True)
class SearchSpace:
    """The settings of a preset, and the dimensions that are searched.

    Attributes:
        settings: the fixed settings of all trials.
        dimensions: the ranges and choices, by the name of the setting.
    """

    settings: Settings
    dimensions: Mapping[str, Range | Choices]

    def suggest(self, trial: optuna.Trial) -> Settings:
        """Samples the settings of a trial."""
        drawn = {name: kind.suggest(trial, name) for name, kind in self.dimensions.items()}
        return self.settings_of(drawn)

    def settings_of(self, drawn: Mapping[str, Scalar]) -> Settings:
        """Returns the settings of a trial from its sampled values."""
        values = {name: kind.value(drawn[name]) for name, kind in self.dimensions.items()}
        return self.settings.replace(**values)

    def reference(self) -> dict[str, Scalar] | None:
        """Returns the preset's own values as sampled values; None if one is not in the space."""
        keys = {name: kind.key(getattr(self.settings, name)) for name, kind in self._items()}
        return None if None in keys.values() else keys  # type: ignore[return-value]

    def grid(self) -> dict[str, list[Scalar]]:
        """Returns all values of all dimensions.

        Raises:
            InputError: a range is continuous.
        """
        cells = {name: kind.cells() for name, kind in self._items()}
        for name, values in cells.items():
            if values is None:
                raise InputError(
                    f"{SECTION}: a grid needs a finite number of values for {name}: give it a "
                    "`step`, or a list of choices, or choose --sampler random or tpe"
                )
        return cells  # type: ignore[return-value]

    def describe(self) -> dict[str, Any]:
        """Returns the space in the format of presets."""
        return {name: kind.describe() for name, kind in self._items()}

    def _items(self) -> list[tuple[str, Range | Choices]]:
        return list(self.dimensions.items())


def load_search_space(
    name_or_file: str | Path, settings: Settings, fixed: Mapping[str, Any] | None = None
) -> SearchSpace:
    """Reads the search space of a preset.

    Args:
        name_or_file: as `load_preset` takes it.
        settings: the preset's settings, with those of the command line.
        fixed: settings from the command line, which are not searched.

    Raises:
        InputError: there is no `search`, or an entry of it is invalid.
    """
    path = preset_path(name_or_file)
    section = read_preset_file(path, name_or_file).get(SECTION)
    if section is None:
        raise InputError(
            f"{path.name} has no `{SECTION}`: write there which settings to search, for instance "
            "`search: {dropout: [0.1, 0.2, 0.4]}`"
        )
    if not isinstance(section, dict) or not section:
        raise InputError(f"{path.name}: `{SECTION}` must hold `setting: values` lines")
    refuse_unknown(section, f"setting under `{SECTION}` in {path.name}")
    dimensions = {
        name: _dimension(name, values, settings)
        for name, values in section.items()
        if name not in (fixed or {})
    }
    if not dimensions:
        raise InputError("all dimensions are fixed: omit --set for one of them")
    return SearchSpace(settings, dimensions)


def _dimension(name: str, values: Any, settings: Settings) -> Range | Choices:
    if name in FIXED:
        raise InputError(
            f"{SECTION}: {name} cannot be searched: it must be the same in every trial, or has "
            "no effect on the training"
        )
    if isinstance(values, list):
        return _choices(name, values, settings)
    if isinstance(values, dict):
        return _range(name, values, settings)
    raise InputError(
        f"{SECTION}: {name} needs a list of choices, or `{{low: …, high: …}}`. Received: {values!r}"
    )


def _choices(name: str, values: list[Any], settings: Settings) -> Choices:
    if not values:
        raise InputError(f"{SECTION}: {name} has no choices: give at least two")
    converted = tuple(_checked(name, value, settings) for value in values)
    if len(set(converted)) < len(converted):
        twice = next(value for value in converted if converted.count(value) > 1)
        raise InputError(f"{SECTION}: {name} has the choice {_key(twice)!r} more than once")
    return Choices(converted)


def _range(name: str, values: dict[str, Any], settings: Settings) -> Range:
    if FIELD_TYPES[name] not in (int, float):
        raise InputError(f"{SECTION}: {name} is not a number: give a list of choices")
    wrong = [key for key in values if key not in RANGE_KEYS]
    if wrong or not {"low", "high"} <= set(values):
        found = ", ".join(map(str, values)) or "nothing"
        raise InputError(
            f"{SECTION}: {name} takes low, high and, optionally, step or log. Received: {found}"
        )
    low, high = (_checked(name, values[key], settings) for key in ("low", "high"))
    if low >= high:
        raise InputError(f"{SECTION}: {name} has low {low} and high {high}: low must be lower")
    log = values.get("log", False)
    if not isinstance(log, bool):
        raise InputError(f"{SECTION}: log of {name} must be true or false. Received: {log!r}")
    if log and low <= 0:
        raise InputError(f"{SECTION}: {name} with log needs a low above 0. Received: {low}")
    step = values.get("step")
    if step is None:
        return Range(low, high, 1 if isinstance(low, int) and not log else None, log)
    if log:
        raise InputError(f"{SECTION}: {name} has both step and log: leave one out")
    return Range(low, high, _step(name, step, low, high))


def _step(name: str, step: Any, low: float, high: float) -> float:
    is_integer = isinstance(low, int)
    try:
        number = float("nan") if isinstance(step, bool) else float(step)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number <= high - low + 1e-12 or (is_integer and number != round(number)):
        kind = "an integer" if is_integer else "a number"
        raise InputError(
            f"{SECTION}: step of {name} must be {kind} above 0 and at most {high - low:g}. "
            f"Received: {step!r}"
        )
    steps = (high - low) / number
    if not math.isclose(steps, round(steps), abs_tol=1e-9):
        raise InputError(
            f"{SECTION}: steps of {number:g} do not lead {name} from {low:g} to {high:g}: choose "
            "a high that is low plus a multiple of step"
        )
    return int(number) if is_integer else number


def _checked(name: str, value: Any, settings: Settings) -> Any:
    """Converts a value to the type of its setting; raises InputError if it is invalid."""
    try:
        return getattr(settings.replace(**{name: value}), name)
    except InputError as error:
        raise InputError(f"{SECTION}: {error}") from None


def _key(value: Any) -> Scalar:
    return json.dumps(list(value)) if isinstance(value, tuple) else value
