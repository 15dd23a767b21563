"""The command line of `train.py`, and the settings that it asks for."""

import argparse
import typing
from typing import Any

from classifier import command_line
from classifier.data.source import add_data_arguments, given_options
from classifier.errors import InputError
from classifier.presets import DEFAULT_PRESET, load_preset, parse_overrides, preset_names
from classifier.settings import Settings
from classifier.training import fine_tuning

PRECISIONS = typing.get_args(Settings.model_fields["precision"].annotation)


def choose_settings(
    options: argparse.Namespace,
) -> tuple[Settings, dict[str, Any], dict[str, Any] | None]:
    """Returns the settings of a new run, the arguments given explicitly, and the initial model."""
    named = {name: getattr(options, name) for name in ("epochs", "batch_size", "seed", "precision")}
    changes = parse_overrides(options.set, **named)
    default = fine_tuning.PRESET if options.init_from else DEFAULT_PRESET
    settings = load_preset(options.preset or default).replace(**changes)
    init_from = None
    if options.init_from:
        settings, init_from = fine_tuning.adopt(options.init_from, settings, changes)
    elif settings.freeze_epochs:
        raise InputError("freeze_epochs goes with --init-from: name the model to start from")
    values = settings.to_dict()
    given = values if options.preset else {name: values[name] for name in changes}
    given |= given_options(options)
    for name in ("dataset_id", "init_from"):
        if getattr(options, name):
            given[name] = getattr(options, name)
    return settings, given, init_from


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parses the command line; errors end the process with one line and exit status 2."""
    parser = command_line.argument_parser(
        "Trains an image classifier, evaluates it, writes its model folder and publishes it."
    )
    parser.add_argument(
        "--preset",
        metavar="NAME|FILE",
        help=f"recipe: {', '.join(preset_names())} or a YAML file (default: {DEFAULT_PRESET})",
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--dataset-id",
        metavar="USER/NAME",
        help="the data set of the Hub that a local --dataset is a copy of, for the model's card",
    )
    parser.add_argument(
        "--init-from",
        metavar="SOURCE",
        help="fine-tune: start from the weights of this model folder or Hub id "
        f"(default preset: {fine_tuning.PRESET})",
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the images")
    parser.add_argument("--batch-size", type=int, metavar="N", help="images per step")
    parser.add_argument("--seed", type=int, metavar="N", help="random seed")
    parser.add_argument(
        "--output", metavar="DIR", help="folder of the run (default: runs/<preset>)"
    )
    parser.add_argument("--resume", action="store_true", help="resume the run in --output")
    parser.add_argument("--precision", choices=PRECISIONS, help="number format of the computation")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override any setting of classifier/settings.py; may be repeated",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="data-parallel on all devices, and on the processes in KERAS_DISTRIBUTION_*, with JAX",
    )
    publishing = parser.add_argument_group("publishing")
    publishing.add_argument("--push", action="store_true", help="publish the model on the Hub")
    publishing.add_argument(
        "--from", dest="source", metavar="DIR", help="publish this model folder, without training"
    )
    publishing.add_argument("--repo-id", metavar="USER/NAME", help="the repository")
    publishing.add_argument("--private", action="store_true", help="create a private repository")
    target = publishing.add_mutually_exclusive_group()
    target.add_argument("--branch", metavar="B", help="commit to this branch")
    target.add_argument("--create-pr", action="store_true", help="open a pull request")
    publishing.add_argument("--tag", metavar="T", help="tag the commit")
    publishing.add_argument(
        "--force",
        action="store_true",
        help="publish even if the published model has a higher accuracy",
    )
    publishing.add_argument(
        "--with-onnx", action="store_true", help="also publish the model as ONNX"
    )
    options = parser.parse_args(arguments)
    check(options, parser)
    return options


def check(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Ends with an error if options contradict each other."""
    publishing = ("repo_id", "private", "branch", "create_pr", "tag", "force", "with_onnx")
    if options.push and not options.repo_id:
        parser.error("--push needs --repo-id USER/NAME")
    if not options.push and any(getattr(options, name) for name in ("source", *publishing)):
        parser.error("--from and the options of publishing go with --push")
    training = "preset init_from epochs batch_size seed output resume precision set distributed"
    given = [getattr(options, name) for name in training.split()]
    if options.source and any(value not in (None, [], False) for value in given):
        parser.error("--from publishes without training: leave out the options of training")
