"""Writes the results of a study: table, plots, JSON, and a preset of the best trial.

Trials are ranked by validation accuracy; the test split is not used.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from classifier.errors import InputError
from classifier.files import is_writable, write_text
from classifier.provenance import command_without_local_paths
from classifier.search.search_space import SearchSpace

HEADER_PREFIX = "# Found by a search of "  # marks presets that a search may overwrite
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
    summary = {
        **about,
        "result": sentence(study, space),
        "best": best and {"trial": best.number, "validation_top1": best.value, **best.params},
        "validation_accuracy_by_epoch": {t.number: t.intermediate_values for t in study.trials},
    }
    write_text(folder / "study.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")


def write_plots(study: optuna.Study, folder: Path) -> None:
    """Writes optuna's plots; prints a line for each that needs more trials."""
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as optuna_plots

    pyplot.switch_backend("Agg")
    for name, function in PLOTS.items():
        try:
            with warnings.catch_warnings():
                # Too few trials to estimate importances: all bars would be equal.
                warnings.filterwarnings("error", "Target and region quantiles select the same")
                axes = getattr(optuna_plots, function)(study, target_name="top-1 on validation")
            axes.figure.set_size_inches(9, 5)
            axes.figure.savefig(folder / f"{name}.png", dpi=130, bbox_inches="tight")
        except (ValueError, RuntimeError, UserWarning) as error:
            print(f"No {name}.png: there are too few trials that differ ({error})")
        pyplot.close()


def write_preset(
    path: Path, study: optuna.Study, space: SearchSpace, about: dict[str, Any]
) -> None:
    """Writes the settings of the best trial as a preset; its header tells the search."""
    best = study.best_trial
    settings = space.settings_of(best.params).model_dump(
        mode="json", exclude_defaults=True, exclude={"preset"}
    )
    header = (
        f"{HEADER_PREFIX}{', '.join(space.dimensions)} of the preset {space.settings.preset}.\n"
        f"# {sentence(study, space)}\n"
        f"# Reaches {best.value:.2%} top-1 on {about['validation_images']:,} training "
        f"images held out for validation, after {best.last_step} epochs.\n"
        f"# {about['date']}, with\n"
        f"#     {about['command']}\n"
        "# Train it, longer with --epochs, by\n"
        f"#     {command_without_local_paths(['python', 'train.py', '--preset', str(path)])}\n\n"
    )
    text = yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=100)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, header + text)


def check_preset(path: Path) -> None:
    """Raises InputError, before the search, if its preset cannot be written to a path."""
    if path.suffix not in (".yaml", ".yml") or not is_writable(path.parent):
        raise InputError(f"--write-preset {path}: give a file ….yaml in a folder to write to")
    header = HEADER_PREFIX.encode()
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(header)):
        raise InputError(f"{path} was not written by a search: choose another --write-preset")
