"""Hyperparameter search for a preset, with one worker or many, also on several machines.

python tune.py --preset mlp-baseline --sampler tpe --trials 20 --epochs 8
python tune.py --preset mlp-baseline --sampler random --trials 20 --write-preset best.yaml
python tune.py --preset mlp-baseline --sampler tpe --trials 20 --storage postgresql://me@host/studies

The same command with the same storage resumes the study, or adds a worker to it.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from classifier import provenance
from classifier.command_line import argument_parser, positive, run
from classifier.data.source import DataSource, add_data_arguments
from classifier.environment import import_quietly
from classifier.errors import InputError
from classifier.files import require_writable
from classifier.presets import DEFAULT_PRESET, load_preset, parse_overrides

if TYPE_CHECKING:
    from classifier.search.search_space import SearchSpace


def main(arguments: list[str]) -> None:
    """Runs trials until the study is complete; writes the results."""
    options = parse(arguments)
    try:
        import optuna
    except ImportError:
        raise InputError("the search needs optuna: pip install -r requirements-dev.txt") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    from sqlalchemy.engine import URL

    from classifier.search import results, search_space, storage

    changes = parse_overrides(options.set, epochs=options.epochs, seed=options.seed)
    settings = load_preset(options.preset).replace(**changes)
    space = search_space.load_search_space(options.preset, settings, changes)
    if options.sampler == "grid":
        space.grid()  # is it finite?
    options.study_name = options.study_name or settings.preset
    # A name is no path: a slash in it would put the folder elsewhere.
    folder = Path(options.output or f"runs/{options.study_name.replace('/', '-')}-search")
    require_writable(folder)
    database = URL.create("sqlite", database=str(folder / "study.db"))  # quotes ?, # and %
    options.storage = options.storage or database.render_as_string()
    if options.write_preset:
        results.check_preset(options.write_preset)
    words = ["python", "tune.py", *map(storage.without_password, arguments)]
    search(options, space, folder, provenance.command_without_local_paths(words))


def search(options: argparse.Namespace, space: SearchSpace, folder: Path, command: str) -> None:
    """Opens the study, runs trials, and writes the results."""
    from classifier.search import results, storage
    from classifier.training.training_data import load_training_data

    folder.mkdir(parents=True, exist_ok=True)
    database = storage.open_storage(options.storage, grace=options.grace)
    source = DataSource.from_options(options)
    print(f"Loading {source.dataset} …", flush=True)
    data = load_training_data(source, space.settings)
    for remark in data.remarks:
        print(remark)
    import_quietly("keras")
    from classifier.search import trials

    shared = {
        **space.settings.to_dict(),
        "search": {name: str(kind) for name, kind in space.dimensions.items()},
        "sampler": options.sampler,
        "pruner": options.pruner,
        "dataset": data.split.fingerprint,
        "validation_images": len(data.validation.images),
    }
    about = {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": provenance.machine(),
        "versions": provenance.library_versions(),
        "git_commit": provenance.git_commit(),
        **provenance.without_local_paths(shared),
    }
    pruner = trials.build_pruner(options.pruner, space.settings.epochs)
    study = storage.open_study(database, options.study_name, pruner=pruner, config=shared)
    print(f"Study {study.study_name} in {storage.without_password(options.storage)}", flush=True)
    print("Ctrl-C keeps the study; the same command resumes it", flush=True)
    write_tables = functools.partial(results.write_tables, study, space, about, folder)
    train = functools.partial(trials.train_trial, data=data)
    trials.run(study, space, options.sampler, options.trials, train=train, after_trial=write_tables)
    write_tables()
    results.write_plots(study, folder)
    if options.write_preset:
        results.write_preset(options.write_preset, study, space, about)
        print(f"Preset: {options.write_preset}")
    print(f"Results: {folder}\n{results.sentence(study, space)}")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line; a wrong one ends with exit status 2 and one line."""
    parser = argument_parser("Searches for better settings of a preset, alone or with others.")
    add = parser.add_argument
    add(
        "--preset",
        metavar="NAME|FILE",
        default=DEFAULT_PRESET,
        help="preset, or YAML file, with a `search` section (default: %(default)s)",
    )
    add_data_arguments(parser)
    add("--sampler", choices=("grid", "random", "tpe"), required=True, help="search method")
    add("--trials", type=positive, metavar="N", required=True, help="of all workers together")
    add("--epochs", type=int, metavar="N", help="maximum number of epochs of a trial")
    add("--seed", type=int, metavar="N", help="random seed of trainings and sampler")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="fixes a setting")
    pruners = ("median", "hyperband", "none")
    add("--pruner", choices=pruners, default="median", help="stops poor trials (default: median)")
    add(
        "--storage",
        metavar="URL",
        help="sqlite:///FILE or postgresql://USER@HOST/NAME (default: a file in --output)",
    )
    add("--study-name", metavar="NAME", help="default: the name of the preset")
    add(
        "--grace",
        type=positive,
        default=60,
        metavar="SECONDS",
        help="without a heartbeat of its worker, until a trial is lost (default: %(default)s)",
    )
    add("--output", metavar="DIR", help="of the results (default: runs/<study>-search)")
    add("--write-preset", metavar="FILE.yaml", type=Path, help="of the best trial's settings")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run(main))
