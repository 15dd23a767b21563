"""Classifies image files on the command line: a row of predictions for each file.

python classify.py photo.jpg holidays/
python classify.py holidays/ --model user/name --top 3 --format csv --output answers.csv
find . -name '*.jpg' -print0 | python classify.py - --format jsonl
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from classifier import command_line
from classifier.data.data_files import identity
from classifier.errors import ClassifierError, InputError
from classifier.files import write_atomically
from classifier.prediction.paths import find_files
from classifier.prediction.rows import FORMATS

if TYPE_CHECKING:  # slow imports follow once the arguments are parsed
    from classifier.prediction.classifier import Classifier
    from classifier.prediction.stream import Answer

DEFAULT_MODEL = "pretrained/mlp"  # the app's default, too


def main(arguments: list[str]) -> None:
    """Loads the model and writes the predictions for all files."""
    options = parse(arguments)
    output = None if options.output is None else output_file(options.output, options.paths)
    from classifier.hub import sources
    from classifier.prediction import runtime

    classifier = runtime.load(sources.locate(options.model).folder)
    counts: list[int] = []
    if output is None:
        counts += classify(classifier, options, sys.stdout.buffer)
    else:

        def write(path: Path) -> None:
            with path.open("wb") as stream:
                counts.extend(classify(classifier, options, stream, output))

        write_atomically(output, write)
    files, failed = counts
    if failed == files:
        raise InputError(f"none of the {files:,} files could be read: their rows say why")
    if failed:
        raise ClassifierError(f"{failed:,} of {files:,} files could not be read: see their rows")


def classify(
    classifier: Classifier,
    options: argparse.Namespace,
    stream: BinaryIO,
    output: Path | None = None,
) -> tuple[int, int]:
    """Writes the rows of all files, those of a batch at a time.

    The file that will be replaced (`output`) and that of the stream are not classified.

    Returns:
        The number of files, and of those that could not be read.

    Raises:
        InputError: there are no files.
    """
    from tqdm import tqdm

    from classifier.prediction.stream import classify_files

    top = min(options.top, len(classifier.labels.classes))
    states = [os.fstat(stream.fileno())]
    if output is not None and output.exists():
        states.append(output.stat())
    ours = [identity(state) for state in states if stat.S_ISREG(state.st_mode)]
    files = failed = 0

    def answered() -> Iterator[Answer]:
        nonlocal files, failed
        found = find_files(options.paths, exclude=ours)
        for answers in classify_files(classifier, found, top=top):
            yield from answers
            stream.flush()
            files += len(answers)
            failed += sum(answer.error is not None for answer in answers)
            bar.update(len(answers))

    # One bar needs two rows, also in a terminal that does not say its size.
    with tqdm(unit=" images", nrows=2, disable=not sys.stderr.isatty()) as bar:
        for content in FORMATS[options.format].write(answered(), top):
            with bar.external_write_mode(file=sys.stdout):
                stream.write(content)
    if not files:
        raise InputError(f"no files in {', '.join(options.paths)}: name files, or folders of them")
    return files, failed


def output_file(name: str, inputs: list[str]) -> Path:
    """Returns the file that is to be written or replaced.

    Raises:
        InputError: it is a folder, a device or one of the inputs, or its folder does not exist.
    """
    command_line.check_output(Path(name))
    path = Path(os.path.realpath(name))
    if any(os.path.realpath(item) == str(path) for item in inputs):
        raise InputError(f"--output {name} is to be classified itself: name another file")
    return path


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line; a wrong one ends with exit status 2 and one line."""
    parser = command_line.argument_parser(
        "Classifies image files: one row for each, also for those that cannot be read."
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="FILE|FOLDER|-",
        help="images, folders of them to any depth, or - for a list of paths on standard input, "
        "separated by line ends or NUL characters",
    )
    parser.add_argument(
        "--model",
        metavar="SOURCE",
        default=DEFAULT_MODEL,
        help="a model folder, a run folder, a Hub id or hf://user/name (default: %(default)s)",
    )
    parser.add_argument(
        "--top",
        type=command_line.positive,
        default=5,
        metavar="N",
        help="how many classes to name (default: 5)",
    )
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        default="text",
        help="; ".join(f"{name}: {form.description}" for name, form in FORMATS.items())
        + " (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write to this file, whole or not at all, instead of standard output",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main, batches=False))  # Keras only answers what ONNX cannot
