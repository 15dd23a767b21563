"""The command `python -m evaluation`: evaluates a model on a data set and writes the results."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from classifier.command_line import argument_parser, positive, run
from classifier.errors import InputError
from classifier.files import require_writable
from evaluation.locales import ENGLISH

RESULTS = Path("evaluation-results")
MAX_NAMES = 5  # of classes and of pairs of classes
OTHER_DATA = (
    "the model folder holds the figures of the test split of the model's own data set: name that "
    "data set with --dataset, or a folder for these figures with --output"
)


def main(arguments: list[str]) -> None:
    """Runs the command."""
    options = _parser().parse_args(arguments)
    start = time.monotonic()
    # Imported after the arguments are parsed: --help and wrong options are answered at once.
    from classifier.data.loading import load_split, source_of
    from classifier.hub import sources
    from evaluation import report

    found = sources.locate(options.source)
    folder = found.folder
    trained_on = folder.training.get("dataset", {})
    source = source_of(options, trained_on, size=folder.image_size)
    # Figures of a subset never replace those of the full split.
    own = folder.path if found.revision is None and options.limit is None else None
    target = options.output or own or RESULTS / found.name.replace("/", "--")
    require_writable(target)
    in_model_folder = target.resolve() == folder.path.resolve()
    test = (options.split, source.test_split, source.test_fraction)
    own_test = ("test", trained_on.get("test_split"), trained_on.get("test_fraction"))
    if in_model_folder and (test != own_test or options.limit is not None):
        raise InputError(OTHER_DATA)
    training = None
    if options.split != "train":
        try:
            training = load_split(source, "train", size=folder.image_size)
        except InputError as error:
            print(f"duplicates are not counted: {error}", file=sys.stderr)
    fingerprint = training and training.fingerprint
    if in_model_folder and (not training or fingerprint != trained_on.get("fingerprint")):
        raise InputError(OTHER_DATA)
    split = load_split(source, options.split, size=folder.image_size)
    split = split.to_classes(folder.labels.classes)
    for remark in split.remarks:
        print(remark, file=sys.stderr)
    evaluation = report.evaluate(
        folder,
        split,
        split_name=options.split,
        training_split=training,
        limit=options.limit,
        output=target,
    )
    print(summary(evaluation, options.source))
    print(f"\nWritten to {target} in {time.monotonic() - start:.0f} s.")


def summary(evaluation: dict[str, Any], source: str) -> str:
    """Returns the main figures of an `evaluation.json`, and the model's name, for a terminal."""
    from evaluation.metrics import METRICS

    lines = [
        f"{source} on {evaluation['dataset']}, split {evaluation['split']}: "
        f"{evaluation['samples']:,} images",
        "",
    ]
    for key, metric in METRICS.items():
        if (value := evaluation.get(key)) is not None:
            shown = ENGLISH.percent(value) if metric.percent else ENGLISH.number(value, 3)
            lines.append(f"  {key.replace('_', ' '):<27}{shown:>7}")
    low, high = map(ENGLISH.percent, evaluation["top1_interval"])
    count, most_confused = evaluation["duplicates"], evaluation["most_confused"][:MAX_NAMES]
    pairs = [
        f"{ENGLISH.name(pair['true'])} → {ENGLISH.name(pair['predicted'])} ({pair['count']})"
        for pair in most_confused
    ]
    best, worst = (
        ", ".join(map(ENGLISH.name, evaluation[f"{kind}_classes"][:MAX_NAMES]))
        for kind in ("best", "worst")
    )
    return "\n".join(
        [
            *lines,
            "",
            f"  95% interval   {low} – {high}",
            f"  duplicates     {'not counted' if count is None else f'{count:,}'} "
            "(exact copies of training images)",
            f"  best classes   {best}",
            f"  worst classes  {worst}",
            f"  most confused  {', '.join(pairs) or 'none'}",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    from classifier.data.source import add_data_arguments

    parser = argument_parser(
        "Measure a model on a data set: writes evaluation.json, predictions.npz and plots/.",
        prog="python -m evaluation",
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="a model folder, a run folder, a Hub id or hf://user/name"
    )
    add_data_arguments(parser)
    parser.add_argument("--split", default="test", help="the split to evaluate on (default: test)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="output folder (default: the folder of a local model; "
        f"{RESULTS}/NAME for a model on the Hub or with --limit)",
    )
    parser.add_argument(
        "--limit",
        type=positive,
        metavar="N",
        help="evaluate on a fixed, stratified subset of N images",
    )
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
