"""The search space of a preset, from its section `search`, as optuna's distributions.

search:
  learning_rate: {low: 0.003, high: 0.1, log: true}
  dropout: {low: 0.0, high: 0.5, step: 0.1}
  hidden_units: [[1024, 512, 256], [2048, 1024]]

A list holds choices. A range has `low` and `high`, optionally `step`, or `log: true` for a uniform
distribution of the logarithm.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from classifier.errors import InputError
from classifier.settings import (
    FIELD_TYPES,
    Settings,
    preset_path,
    read_preset_file,
    refuse_unknown,
    shorten,
)

SECTION = "search"
# Trials are compared after each epoch on the same validation images; the last four settings do not
# affect the training.
FIXED = (
    *("preset", "epochs", "seed", "validation_fraction"),
    *("calibrate", "tta_flip", "tta_zoom", "store_half"),
)

SCALAR_FIELDS = {name for name, kind in FIELD_TYPES.items() if kind in (str, int, float, bool)}
Scalar = str | int | float | bool  # types that all storages support; lists are stored as JSON
Distribution = CategoricalDistribution | FloatDistribution | IntDistribution


@dataclass(frozen=True)
class SearchSpace:
    """The settings of a preset, and the dimensions that are searched.

    Attributes:
        settings: the fixed settings of all trials.
        section: the searched dimensions as the preset describes them.
        dimensions: their distributions, by the name of the setting.
    """

    settings: Settings
    section: Mapping[str, Any]
    dimensions: Mapping[str, Distribution]

    def suggest(self, trial: optuna.Trial) -> Settings:
        """Samples the settings of a trial."""
        return self.settings_of(
            {name: _suggest(trial, name, kind) for name, kind in self.dimensions.items()}
        )

    def settings_of(self, sampled: Mapping[str, Scalar]) -> Settings:
        """Returns the settings of a trial from its sampled values."""
        values: dict[str, Any] = {name: sampled[name] for name in self.dimensions}
        for name in values.keys() - SCALAR_FIELDS:
            values[name] = json.loads(values[name])
        return self.settings.replace(**values)

    def reference(self) -> dict[str, Scalar] | None:
        """Returns the preset's own values as sampled values; None if one is not in the space."""
        own = {name: _scalar(getattr(self.settings, name)) for name in self.dimensions}
        return own if all(_contains(self.dimensions[name], own[name]) for name in own) else None

    def grid(self) -> list[dict[str, Scalar]]:
        """Returns all combinations of all values.

        Raises:
            InputError: a range is continuous.
        """
        values = [_values(name, kind) for name, kind in self.dimensions.items()]
        return [
            dict(zip(self.dimensions, cell, strict=True)) for cell in itertools.product(*values)
        ]


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
    section = {name: values for name, values in section.items() if name not in (fixed or {})}
    if not section:
        raise InputError("all dimensions are fixed: omit --set for one of them")
    dimensions = {name: _dimension(name, values, settings) for name, values in section.items()}
    return SearchSpace(settings, section, dimensions)


def format_value(value: Scalar) -> str:
    """Returns a sampled value as tables and messages show it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _dimension(name: str, values: Any, settings: Settings) -> Distribution:
    """Raises InputError if a setting cannot be searched, or not over these values."""
    try:
        if name in FIXED:
            raise InputError("it must be the same in every trial, or has no effect on the training")
        if isinstance(values, dict):
            return _range(name, values, settings)
        if not isinstance(values, list) or not values:
            raise InputError(
                f"give a list of choices, or `{{low: …, high: …}}`. Received: {shorten(values)}"
            )
        choices = [_scalar(_converted(name, value, settings)) for value in values]
        for choice in choices:
            if choices.count(choice) > 1:
                raise InputError(f"the choice {shorten(choice)} is given more than once")
        return CategoricalDistribution(choices)
    except (InputError, ValueError) as error:  # the latter of optuna
        raise InputError(f"{SECTION}: {name} cannot be searched: {error}") from None


def _range(name: str, values: dict[str, Any], settings: Settings) -> Distribution:
    """Returns the distribution of a range; Optuna raises ValueError for contradictions."""
    number = FIELD_TYPES[name]
    if number not in (int, float):
        raise InputError("it is not a number: give a list of choices")
    if not {"low", "high"} <= set(values) <= {"low", "high", "step", "log"}:
        found = ", ".join(map(str, values)) or "nothing"
        raise InputError(f"a range takes low, high and, optionally, step or log. Received: {found}")
    low, high = (_converted(name, values[key], settings) for key in ("low", "high"))
    log = values.get("log", False)
    if not isinstance(log, bool):
        raise InputError(f"log must be true or false. Received: {shorten(log)}")
    step = None if values.get("step") is None else _step(values["step"], low, high)
    if number is int:
        return IntDistribution(low, high, log=log, step=1 if step is None else int(step))
    return FloatDistribution(low, high, log=log, step=step)


def _step(step: Any, low: float, high: float) -> float:
    is_integer = isinstance(low, int)
    try:
        number = float(str(step))
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf or (is_integer and number % 1):
        kind = "an integer" if is_integer else "a number"
        raise InputError(f"step must be {kind} above 0. Received: {shorten(step)}")
    if not _is_whole((high - low) / number):
        raise InputError(
            f"steps of {number:g} do not lead from {low:g} to {high:g}: choose a high that is low "
            "plus a multiple of step"
        )
    return number


def _is_whole(number: float) -> bool:
    return math.isclose(number, round(number), abs_tol=1e-9)


def _converted(name: str, value: Any, settings: Settings) -> Any:
    """Returns a value in the type of its setting; raises InputError if it is invalid."""
    return getattr(settings.replace(**{name: value}), name)


def _scalar(value: Any) -> Scalar:
    return json.dumps(list(value)) if isinstance(value, tuple) else value


def _suggest(trial: optuna.Trial, name: str, kind: Distribution) -> Any:
    if isinstance(kind, CategoricalDistribution):
        return trial.suggest_categorical(name, kind.choices)
    suggest = trial.suggest_int if isinstance(kind, IntDistribution) else trial.suggest_float
    return suggest(name, kind.low, kind.high, step=kind.step, log=kind.log)  # type: ignore[arg-type]


def _values(name: str, kind: Distribution) -> list[Any]:
    """Returns all values of a dimension; raises InputError if it is continuous."""
    if isinstance(kind, CategoricalDistribution):
        return list(kind.choices)
    if kind.log or kind.step is None:
        raise InputError(
            f"{SECTION}: a grid needs a finite number of values for {name}: give it a `step`, or a "
            "list of choices, or choose --sampler random or tpe"
        )
    count = round((kind.high - kind.low) / kind.step) + 1
    return [round(kind.low + index * kind.step, 12) for index in range(count)]


def _contains(kind: Distribution, value: Any) -> bool:
    if isinstance(kind, CategoricalDistribution):
        return value in kind.choices
    is_reached = kind.step is None or _is_whole((value - kind.low) / kind.step)
    return kind.low <= value <= kind.high and is_reached
