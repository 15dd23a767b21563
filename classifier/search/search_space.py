"""The search space of a preset, from its section `search`, as optuna's distributions.

search:
  learning_rate: {low: 0.003, high: 0.1, log: true}
  dropout: {low: 0.0, high: 0.5, step: 0.1}
  hidden_units: [[1024, 512, 256], [2048, 1024]]

A list holds choices; a range takes the arguments of optuna's distributions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from classifier.errors import InputError
from classifier.presets import read_preset
from classifier.settings import Settings, shorten

# The data are loaded once for all trials, which are compared after each epoch on the same images.
SHARED = ("preset", "epochs", "seed", "image_size", "validation_fraction")
WEIGHTS = ("class_weight", "class_weight_power")  # of the images, computed with the data
# Only fine-tuning freezes layers; calibration, views and export come after the training.
UNUSED: tuple[str, ...] = ("freeze_epochs", "calibrate", "average_teacher", "store_half")
UNUSED += tuple(name for name, _ in Settings() if name.startswith("tta_"))
FIELD_TYPES = {name: type(value) for name, value in Settings()}
Scalar = str | int | float | bool  # types that databases support; lists are stored as JSON
Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
RANGES: dict[type, Any] = {int: IntDistribution, float: FloatDistribution}


@dataclass(frozen=True)
class SearchSpace:
    """The settings of a preset, and the dimensions that are searched.

    Attributes:
        settings: the fixed settings of all trials.
        dimensions: the distributions of those that are searched, by name.
    """

    settings: Settings
    dimensions: dict[str, Distribution]

    def suggest(self, trial: optuna.Trial) -> Settings:
        """Samples the settings of a trial; raises InputError if they contradict each other."""
        for name, kind in self.dimensions.items():
            if isinstance(kind, CategoricalDistribution):
                trial.suggest_categorical(name, kind.choices)
            elif isinstance(kind, IntDistribution):
                trial.suggest_int(name, kind.low, kind.high, step=kind.step, log=kind.log)
            else:
                trial.suggest_float(name, kind.low, kind.high, step=kind.step, log=kind.log)
        return self.settings_of(trial.params)

    def settings_of(self, sampled: Mapping[str, Scalar]) -> Settings:
        """Returns the settings of a trial from its sampled values."""
        values = {
            name: value if type(value) is FIELD_TYPES[name] else json.loads(str(value))
            for name, value in sampled.items()
        }
        return self.settings.replace(**values)

    def reference(self) -> dict[str, Scalar]:
        """Returns the preset's own values as sampled values, perhaps outside of the space."""
        return {name: _scalar(getattr(self.settings, name)) for name in self.dimensions}

    def grid(self) -> dict[str, list[Scalar]]:
        """Returns all values of each dimension; raises InputError if a range is continuous."""
        return {name: _values(name, kind) for name, kind in self.dimensions.items()}


def load_search_space(
    name_or_file: str | Path, settings: Settings, fixed: Mapping[str, Any]
) -> SearchSpace:
    """Reads the search space of a preset.

    Args:
        name_or_file: as `load_preset` takes it.
        settings: the preset's settings, with those of the command line.
        fixed: settings from the command line, which are not searched.

    Raises:
        InputError: there is no `search`, or an entry of it is invalid.
    """
    path, content = read_preset(name_or_file)
    section = content.get("search")
    if not isinstance(section, dict) or not section.keys() - fixed.keys():
        raise InputError(
            f"{path.name} has no `search`, or --set fixes all of it: write there which settings to "
            "search, for instance `search: {dropout: [0.1, 0.2, 0.4]}`"
        )
    dimensions = {
        name: _dimension(name, values, settings)
        for name, values in section.items()
        if name not in fixed
    }
    return SearchSpace(settings, dimensions)


def _dimension(name: str, values: Any, settings: Settings) -> Distribution:
    """Raises InputError if a setting cannot be searched, or not over these values."""

    def converted(value: Any) -> Any:
        return getattr(settings.replace(**{name: value}), name)

    try:
        if name in SHARED + WEIGHTS + UNUSED:
            raise InputError("it must be the same in every trial, or has no effect on the training")
        if isinstance(values, list) and values:
            choices = [_scalar(converted(value)) for value in values]
            return CategoricalDistribution(list(dict.fromkeys(choices)))
        if not isinstance(values, dict) or FIELD_TYPES.get(name) not in RANGES:
            raise InputError(
                f"give a list, or low and high of numbers. Received: {shorten(values)}"
            )
        options = values | {key: converted(values[key]) for key in values.keys() & {"low", "high"}}
        return RANGES[FIELD_TYPES[name]](**options)
    except (InputError, ValueError, TypeError, ArithmeticError) as error:
        raise InputError(f"search: {name} cannot be searched: {error}") from None


def _scalar(value: Any) -> Scalar:
    return json.dumps(list(value)) if isinstance(value, tuple) else value


def _values(name: str, kind: Distribution) -> list[Any]:
    if isinstance(kind, CategoricalDistribution):
        return list(kind.choices)
    if kind.log or kind.step is None:
        raise InputError(
            f"search: a grid needs a finite number of values for {name}: give it a `step`, or a "
            "list of choices, or choose --sampler random or tpe"
        )
    end = kind.high + kind.step / 2
    return np.arange(kind.low, end, kind.step, dtype=type(kind.low)).round(12).tolist()
