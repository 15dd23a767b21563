"""Writes the results of a study: table, plots, JSON, and a preset of the best trial.

Trials are ranked by validation accuracy; the test split is not used.
"""

from __future__ import annotations

import json
import shlex
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from classifier.errors import InputError
from classifier.files import is_writable, write_atomically, write_text
from classifier.search.search_space import SearchSpace
from classifier.settings import Settings

HEADER_PREFIX = "# Found by a search of "  # marks presets that a search may overwrite
SUMMARY = "study.json"
PLOTS = {
    "history": "plot_optimization_history",
    "importance": "plot_param_importances",
    "parallel_coordinates": "plot_parallel_coordinate",
}


def best_trial(study: optuna.Study, params: dict[str, Any] | None = None) -> FrozenTrial | None:
    """Returns the best complete trial, of those with these parameters if given."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    chosen = [trial for trial in complete if params in (None, trial.params)]
    return max(chosen, key=lambda trial: trial.values, default=None)


def sentence(study: optuna.Study, space: SearchSpace) -> str:
    """Returns one line: the best trial, and its gain over the unchanged preset."""
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    complete, pruned = states.count(TrialState.COMPLETE), states.count(TrialState.PRUNED)
    line = f"{complete} complete and {pruned} pruned trials"
    best, own = best_trial(study), best_trial(study, space.reference())
    if best is not None:
        line += f"; the best is trial {best.number}: {best.value:.2%} on validation"
    if best is not None and own is not None:
        gain = 100 * (best.values[0] - own.values[0])
        line += f", {gain:+.2f} points over the {own.value:.2%} of the unchanged preset"
    return f"{line}."


def write_tables(
    study: optuna.Study, space: SearchSpace, about: dict[str, Any], folder: Path
) -> None:
    """Writes `trials.csv`, and `study.json` with what is told `about` the search, atomically."""
    write_text(folder / "trials.csv", study.trials_dataframe().to_csv(index=False))
    best = best_trial(study)
    accuracies = {
        trial.number: list(trial.intermediate_values.values())
        for trial in study.get_trials(deepcopy=False)
    }
    summary = {
        **about,
        "result": sentence(study, space),
        "best": best and {"trial": best.number, "validation_top1": best.value, **best.params},
        "validation_accuracy_by_epoch": accuracies,
    }
    write_text(folder / SUMMARY, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")


def write_plots(study: optuna.Study, folder: Path) -> list[str]:
    """Writes the plots; returns a message for each that needs more trials."""
    mpl.use("Agg")
    lines = []
    for name, function in PLOTS.items():
        try:
            write_atomically(folder / f"{name}.png", partial(_draw, function, study))
        except (ValueError, RuntimeError, UserWarning) as error:
            lines.append(f"No {name}.png: there are too few trials that differ ({error})")
    return lines


def write_preset(
    path: Path, study: optuna.Study, space: SearchSpace, about: dict[str, Any]
) -> None:
    """Writes the settings of the best trial as a preset; its header tells the search."""
    best = study.best_trial
    standard = Settings().to_dict()
    settings = {
        name: value
        for name, value in space.settings_of(best.params).to_dict().items()
        if name != "preset" and (value != standard[name] or name in space.dimensions)
    }
    machine, data = about["machine"], about["dataset"]
    header = (
        f"{HEADER_PREFIX}{', '.join(space.dimensions)} of the preset {space.settings.preset}.\n"
        f"# {sentence(study, space)}\n"
        f"# Reaches {best.value:.2%} top-1 on {data['validation_images']:,} training images held "
        f"out for validation, after {best.last_step} epochs;\n# the test split was not used. On "
        f"{machine['cores']} cores of {machine['processor']}, {about['date']}, with\n"
        f"#     {about['command']}\n# Train it, longer with --epochs, by\n"
        f"#     {shlex.join(['python', 'train.py', '--preset', str(path)])}\n\n"
    )
    text = yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=100)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, header + text)


def check_targets(folder: Path, study: str, preset: Path | None) -> None:
    """Raises InputError if a search would overwrite anything but its own earlier results."""
    path = folder / SUMMARY
    if path.exists() and f'"study": {json.dumps(study, ensure_ascii=False)},' not in path.read_text(
        encoding="utf-8"
    ):
        raise InputError(f"{folder} holds the results of another study: choose another --output")
    if preset is None:
        return
    if preset.suffix not in (".yaml", ".yml") or not is_writable(preset.parent):
        raise InputError(f"--write-preset {preset}: give a file ….yaml in a folder to write to")
    header = HEADER_PREFIX.encode()
    if preset.exists() and not (preset.is_file() and preset.read_bytes().startswith(header)):
        raise InputError(f"{preset} was not written by a search: choose another --write-preset")


def _draw(name: str, study: optuna.Study, path: Path) -> None:
    """Draws one of optuna's plots as a PNG file."""
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as optuna_plots

    with warnings.catch_warnings():
        # Too few trials to estimate importances: all bars would be equal.
        warnings.filterwarnings("error", "Target and region quantiles select the same")
        axes = getattr(optuna_plots, name)(study, target_name="top-1 on validation")
    axes.figure.set_size_inches(9, 5)
    axes.figure.savefig(path, format="png", dpi=130, bbox_inches="tight")
    pyplot.close(axes.figure)
