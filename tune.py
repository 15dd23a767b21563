"""Hyperparameter search for a preset, with one worker or many, also on several machines.

python tune.py --preset mlp-baseline --sampler tpe --trials 20 --epochs 8
python tune.py --preset mlp-baseline --sampler grid --trials 12 --write-preset best.yaml
python tune.py --preset mlp-baseline --sampler tpe --trials 20 --storage postgresql://me@host/studies

The same command with the same storage resumes the study, or adds a worker to it.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from classifier import command_line
from classifier.data.source import DEFAULT_DATASET, DataSource
from classifier.environment import import_quietly
from classifier.errors import ClassifierError, InputError
from classifier.files import require_writable
from classifier.search import PRUNERS, SAMPLERS
from classifier.settings import load_preset, parse_overrides

if TYPE_CHECKING:
    from classifier.search.search_space import SearchSpace

DEFAULT_PRESET = "mlp-baseline"


def main(arguments: list[str]) -> None:
    """Runs trials until the study is complete; writes the results."""
    options = parse(arguments)
    import_optuna()
    space = choose_space(options)
    options.study_name = options.study_name or space.settings.preset
    folder = Path(options.output or Path("runs") / f"{options.study_name}-search")
    options.storage = options.storage or f"sqlite:///{folder / 'study.db'}"
    import_quietly("keras")
    check_targets(options, folder)
    search(options, space, folder, command=command_to_repeat(arguments))


def search(options: argparse.Namespace, space: SearchSpace, folder: Path, *, command: str) -> None:
    """Opens the study, runs trials, and writes the results, also when it is interrupted."""
    from classifier.search import results, storage, worker
    from classifier.search.trial import run_trial
    from classifier.training.training_data import load_training_data

    opened = storage.open_storage(options.storage)
    folder.mkdir(parents=True, exist_ok=True)
    settings = space.settings
    worker.say(f"Loading {options.dataset} …")
    data = load_training_data(DataSource(options.dataset, options.label_column), settings)
    for remark in data.remarks:
        worker.say(remark)
    study = worker.open_study(
        opened,
        options.study_name,
        pruner=worker.build_pruner(options.pruner, settings.epochs),
        config={
            "settings": settings.to_dict(),
            "search": dict(space.section),
            "sampler": options.sampler,
            "pruner": options.pruner,
            "data set": data.split.fingerprint,
        },
    )
    found = results.Results(study, space, data, options.sampler, command)
    shown = storage.without_password(options.storage)
    worker.say(f"Study {study.study_name} in {shown}; {found.sentence()}")
    try:
        worker.Worker(
            study,
            space,
            sampler=options.sampler,
            trials=options.trials,
            grace=options.grace,
            folder=folder,
            train=lambda trial, drawn, state: run_trial(trial, drawn, data, state),
            after_trial=lambda: found.write_tables(folder),
        ).run()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; the study is kept in {shown}. Resume it with the same command"
        ) from None
    finally:
        found.write_tables(folder)
    for line in found.write_plots(folder):
        worker.say(line)
    best = found.best
    if best is None:
        raise ClassifierError(
            f"no trial of the study {study.study_name!r} is complete, so there is no best one: "
            "search other settings, or more --trials"
        )
    if options.write_preset:
        found.write_preset(Path(options.write_preset), best)
        worker.say(f"Preset: {options.write_preset}")
    worker.say(f"Results: {folder}\n{found.sentence()}")


def choose_space(options: argparse.Namespace) -> SearchSpace:
    """Returns the search space, and the settings common to all trials."""
    from classifier.search.search_space import load_search_space

    changes = parse_overrides(options.set, epochs=options.epochs, seed=options.seed)
    settings = load_preset(options.preset).replace(**changes)
    space = load_search_space(options.preset, settings, fixed=changes)
    if options.sampler == "grid":
        space.grid()  # is it finite?
    return space


def import_optuna() -> None:
    """Imports Optuna and limits its log messages.

    Raises:
        InputError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise InputError("the search needs optuna: pip install -r requirements-dev.txt") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


def check_targets(options: argparse.Namespace, folder: Path) -> None:
    """Raises InputError if results or preset cannot be written."""
    from classifier.search import results

    results.check_folder(folder, options.study_name)
    if options.write_preset:
        results.check_preset_target(Path(options.write_preset))
    require_writable(folder)


def command_to_repeat(arguments: list[str]) -> str:
    """Returns the command line without the password of the storage."""
    from classifier.search.storage import without_password

    words = [without_password(word) if "://" in word else word for word in arguments]
    return shlex.join(["python", "tune.py", *(word for word in words if word != "--debug")])


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line; a wrong one ends with exit status 2 and one line."""
    parser = command_line.argument_parser(
        "Searches for better settings of a preset, alone or with other workers."
    )
    parser.add_argument(
        "--preset",
        metavar="NAME|FILE",
        default=DEFAULT_PRESET,
        help=f"preset, or YAML file, with a `search` section (default: {DEFAULT_PRESET})",
    )
    parser.add_argument(
        "--dataset",
        default=DEFAULT_DATASET,
        help="Hub id (@revision allowed), folder, ZIP, Toronto archive or its folder "
        f"(default: {DEFAULT_DATASET})",
    )
    parser.add_argument("--label-column", metavar="NAME", help="column of the labels, if ambiguous")
    parser.add_argument("--sampler", choices=SAMPLERS, required=True, help="search method")
    parser.add_argument(
        "--trials",
        type=int,
        metavar="N",
        required=True,
        help="total number of trials of the study, over all workers",
    )
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="maximum number of epochs of a trial"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="random seed of trainings and sampler"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override any setting; it is then not searched",
    )
    parser.add_argument(
        "--pruner",
        choices=PRUNERS,
        default="median",
        help="stops unpromising trials early (default: median)",
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="sqlite:///FILE, postgresql://USER@HOST/NAME, journal:FILE or grpc:HOST:PORT "
        "(default: a file in --output)",
    )
    parser.add_argument("--study-name", metavar="NAME", help="default: the name of the preset")
    parser.add_argument(
        "--grace",
        type=int,
        default=60,
        metavar="SECONDS",
        help="time without a heartbeat after which the trial of a worker is lost (default: 60)",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="folder of the results (default: runs/<study>-search)"
    )
    parser.add_argument(
        "--write-preset",
        metavar="FILE.yaml",
        help="write the settings of the best trial to this file",
    )
    options = parser.parse_args(arguments)
    for name in ("trials", "grace"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be 1 or more")
    return options


if __name__ == "__main__":
    sys.exit(command_line.run(main))
