"""Writes the results of a study: tables, plots, JSON, and a preset of the best trial.

Trials are ranked by validation accuracy; the test split is not used.
"""

from __future__ import annotations

import datetime
import json
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
import pandas as pd
import yaml
from optuna.trial import FrozenTrial, TrialState

from classifier import provenance
from classifier.errors import InputError
from classifier.files import is_writable, write_atomically, write_text
from classifier.search.search_space import SearchSpace, format_value
from classifier.settings import Settings
from classifier.training.training_data import TrainingData

HEADER_PREFIX = "# Found by a search of "  # marks presets that a search may overwrite
SUMMARY = "study.json"
MIN_TRIALS_TO_PLOT = 2  # complete trials
TARGET = "top-1 on validation"
RESOLUTION = 130  # pixels per inch
PLOTS = {
    "history": "plot_optimization_history",
    "importance": "plot_param_importances",
    "parallel_coordinates": "plot_parallel_coordinate",
}


@dataclass(frozen=True)
class Results:
    """The results of a study so far.

    Attributes:
        study: the study; read again on each access.
        space: the search space.
        data: the training and validation data of all trials.
        sampler: the name of the sampler.
        command: the command that repeats the search.
    """

    study: optuna.Study
    space: SearchSpace
    data: TrainingData
    sampler: str
    command: str

    @property
    def complete(self) -> list[FrozenTrial]:
        """The complete trials, the highest validation accuracy first."""
        return self._sorted(TrialState.COMPLETE)

    @property
    def pruned(self) -> list[FrozenTrial]:
        """The pruned trials, the highest validation accuracy first."""
        return self._sorted(TrialState.PRUNED)

    @property
    def best(self) -> FrozenTrial | None:
        """The complete trial with the highest validation accuracy."""
        return next(iter(self.complete), None)

    @property
    def reference(self) -> FrozenTrial | None:
        """The trial with the preset's own settings, if it is complete."""
        own = self.space.reference()
        return next((trial for trial in self.complete if trial.params == own), None)

    def summary(self) -> dict[str, Any]:
        """Returns the content of `study.json`."""
        complete, pruned = self.complete, self.pruned
        failed = self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        return {
            "command": self.command,
            "date": _today(),
            "machine": provenance.machine(),
            "versions": {**provenance.library_versions(), "optuna": optuna.__version__},
            "git_commit": provenance.git_commit(),
            "study": self.study.study_name,
            "preset": self.space.settings.preset,
            "sampler": self.sampler,
            "pruner": type(self.study.pruner).__name__,
            "epochs": self.space.settings.epochs,
            "seed": self.space.settings.seed,
            "search": dict(self.space.section),
            "dataset": {
                "id": self.data.split.dataset,
                "fingerprint": self.data.split.fingerprint,
                "training_images": len(self.data.training.images),
                "validation_images": len(self.data.validation.images),
            },
            "complete": len(complete),
            "pruned": len(pruned),
            "lost_or_failed": sum(bool(trial.params) for trial in failed),
            "best": _figures(self.best),
            "preset_as_it_is": _figures(self.reference),
            "trials": [
                _figures(trial) for trial in sorted(complete + pruned, key=lambda t: t.number)
            ],
        }

    def sentence(self) -> str:
        """Returns one line: the best trial, and its gain over the unchanged preset."""
        best, reference = self.best, self.reference
        counts = f"{len(self.complete)} complete and {len(self.pruned)} pruned trials"
        if best is None:
            return f"{counts}: none is complete, there is no best trial."
        line = f"{counts}; the best is trial {best.number}: {_top1(best):.2%} on validation"
        if reference is None:
            return line + "."
        gain = 100 * (_top1(best) - _top1(reference))
        return (
            line + f", {gain:+.2f} points over the {_top1(reference):.2%} of the unchanged preset."
        )

    def write_tables(self, folder: Path) -> None:
        """Writes `trials.csv`, `trials.md` and `study.json` atomically."""
        rows = [{**_row(trial), **trial.params} for trial in self.complete + self.pruned]
        write_text(folder / "trials.csv", pd.DataFrame(rows).to_csv(index=False))
        write_text(folder / "trials.md", self._markdown())
        summary = json.dumps(self.summary(), indent=2, ensure_ascii=False)
        write_text(folder / SUMMARY, summary + "\n")

    def write_plots(self, folder: Path) -> list[str]:
        """Writes the plots; returns a message for each that needs more trials."""
        complete = len(self.complete)
        if complete < MIN_TRIALS_TO_PLOT:
            return [
                f"No plots: they need {MIN_TRIALS_TO_PLOT} complete trials, and there are "
                f"{complete}. Raise --trials"
            ]
        mpl.use("Agg")
        lines = []
        for name, draw in PLOTS.items():
            try:
                write_atomically(folder / f"{name}.png", partial(_draw, draw, self.study))
            except (ValueError, RuntimeError, UserWarning) as error:
                lines.append(f"No {name}.png: there are too few trials that differ ({error})")
        return lines

    def write_preset(self, path: Path, best: FrozenTrial) -> None:
        """Writes the settings of the best trial as a preset."""
        standard = Settings().to_dict()
        settings = {
            name: value
            for name, value in self.space.settings_of(best.params).to_dict().items()
            if name != "preset" and (value != standard[name] or name in self.space.dimensions)
        }
        text = yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=100)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, self._preset_header(path, best) + text)

    def _preset_header(self, path: Path, best: FrozenTrial) -> str:
        searched = ", ".join(self.space.dimensions)
        trials = len(self.complete) + len(self.pruned)
        return (
            f"{HEADER_PREFIX}{trials} trials ({self.sampler}) over {searched} of the preset\n"
            f"# {self.space.settings.preset}. {self.sentence()}\n"
            f"# Reaches {_top1(best):.2%} top-1 on {len(self.data.validation.images):,} training "
            f"images held out for validation, after {best.user_attrs['epochs']} epochs;\n"
            f"# the test split was not used. On {_machine_and_date()}, with\n"
            f"#     {self.command}\n"
            "# Train it, longer with --epochs, by\n"
            f"#     python train.py --preset {path}\n\n"
        )

    def _sorted(self, state: TrialState) -> list[FrozenTrial]:
        """Returns the trials of a state, the highest validation accuracy first."""
        trials = self.study.get_trials(deepcopy=False, states=(state,))
        return sorted(trials, key=lambda trial: (-_top1(trial), trial.number))

    def _markdown(self) -> str:
        names = list(self.space.dimensions)
        rows = [["trial", "", "validation top-1", "epochs", "seconds", *names]]
        rows.append(["---:", "---", "---:", "---:", "---:", *["---:"] * len(names)])
        best, reference = self.best, self.reference
        for trial in self.complete + self.pruned:
            note = "pruned" if trial.state == TrialState.PRUNED else ""
            if trial == best:
                note = "**best**"
            elif trial == reference:
                note = "the unchanged preset"
            epochs, seconds = trial.user_attrs["epochs"], round(trial.user_attrs["seconds"])
            own = [format_value(trial.params[name]) for name in names]
            rows.append(
                [str(trial.number), note, f"{_top1(trial):.2%}", str(epochs), str(seconds), *own]
            )
        table = "".join("| " + " | ".join(row) + " |\n" for row in rows)
        return (
            f"{table}\n{self.sentence()} Chosen on validation; the test split was not used.\n\n"
            f"{_machine_and_date()}, `{self.command}`.\n"
        )


def check_folder(folder: Path, study: str) -> None:
    """Raises InputError if a folder has the results of another study."""
    path = folder / SUMMARY
    try:
        other = json.loads(path.read_text(encoding="utf-8"))["study"] if path.exists() else study
    except (OSError, ValueError, KeyError, TypeError):
        other = None
    if other != study:
        raise InputError(f"{folder} holds the results of another study: choose another --output")


def check_preset_target(path: Path) -> None:
    """Raises InputError, before the search, if its preset cannot be written to a path."""
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"--write-preset takes a file ….yaml. Received: {str(path)!r}")
    if not is_writable(path.parent):
        raise InputError(f"--write-preset: cannot write to {path.parent}: choose another path")
    if path.exists() and not (
        path.is_file() and path.read_bytes().startswith(HEADER_PREFIX.encode())
    ):
        raise InputError(
            f"{path} exists and was not written by a search: choose another --write-preset"
        )


def _top1(trial: FrozenTrial) -> float:
    return trial.user_attrs["validation_top1"]


def _row(trial: FrozenTrial) -> dict[str, Any]:
    """Returns the figures of a trial, without its settings."""
    names = ("validation_top1", "epochs", "seconds", "parameters")
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        **{name: trial.user_attrs[name] for name in names},
    }


def _figures(trial: FrozenTrial | None) -> dict[str, Any] | None:
    """Returns a trial as `study.json` describes it."""
    if trial is None:
        return None
    accuracies = [value for _, value in sorted(trial.intermediate_values.items())]
    return {
        **_row(trial),
        "settings": trial.params,
        "validation_accuracy_by_epoch": accuracies,
    }


def _draw(name: str, study: optuna.Study, path: Path) -> None:
    """Draws one of optuna's plots as a PNG file."""
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as optuna_plots

    with warnings.catch_warnings():
        # Too few trials to estimate importances: all bars would be equal.
        warnings.filterwarnings("error", "Target and region quantiles select the same")
        figure = getattr(optuna_plots, name)(study, target_name=TARGET).figure
    figure.set_size_inches(9, 5)
    figure.savefig(path, format="png", dpi=RESOLUTION, bbox_inches="tight")
    pyplot.close(figure)


def _machine_and_date() -> str:
    machine = provenance.machine()
    return f"{machine['cores']} cores of {machine['processor']}, {_today()}"


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()
