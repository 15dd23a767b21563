"""What fine-tuning gains over training from nothing where there are few images.

python -m benchmarks.fine_tuning
python -m benchmarks.fine_tuning --init-from user/name --per-class 50 --output results.json

The images are handwritten digits of scikit-learn. Both trainings have the same architecture, recipe
and number of epochs; they differ in the weights that they start from.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from classifier import command_line, provenance
from classifier.errors import ClassifierError
from classifier.hub.sources import find
from classifier.settings import ARCHITECTURE, load_preset
from classifier.training.fine_tuning import PRESET

PROJECT = Path(__file__).resolve().parent.parent
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def main(arguments: list[str]) -> None:
    """Trains both ways for each seed, prints the accuracies and writes them if asked to."""
    options = parse(arguments)
    built = find(options.init_from).training["settings"]
    recipe = load_preset(PRESET)
    epochs = options.epochs or recipe.epochs
    architecture = [f"{name}={json.dumps(built[name])}" for name in ARCHITECTURE if name in built]
    scratch = ["freeze_epochs=0", f"epochs={epochs + recipe.freeze_epochs}", *architecture]
    ways = {
        "from nothing": [word for setting in scratch for word in ("--set", setting)],
        "fine-tuned": ["--init-from", options.init_from, "--epochs", str(epochs)],
    }
    results: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in options.seeds:
            dataset = write_digits(Path(temporary) / f"digits-{seed}", options.per_class, seed)
            for name, words in ways.items():
                run = Path(temporary) / f"{name}-{seed}"
                results[name].append(train(dataset, run, [*words, "--seed", str(seed)]))
                print(f"seed {seed}, {name}: {results[name][-1]:.2%}", flush=True)
    print(table(results))
    if options.output:
        record: dict[str, Any] = {
            "init_from": options.init_from,
            "images_per_class": options.per_class,
            "seeds": options.seeds,
            "top1": results,
            "machine": provenance.machine(),
        }
        options.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def write_digits(folder: Path, per_class: int, seed: int) -> Path:
    """Writes so many training images of each digit, chosen by the seed, and all others to test."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (255 * digits.images / 16).astype("uint8")
    for label, name in enumerate(NAMES):
        rows = np.random.default_rng((seed, label)).permutation(
            np.flatnonzero(digits.target == label)
        )
        for split, chosen in (("train", rows[:per_class]), ("test", rows[per_class:])):
            place = folder / split / name
            place.mkdir(parents=True)
            for row in chosen:
                Image.fromarray(pixels[row]).resize((32, 32)).save(place / f"{row:04}.png")
    return folder


def train(dataset: Path, run: Path, words: list[str]) -> float:
    """Runs `train.py` by the fine-tuning recipe and returns the accuracy on the test images."""
    command = [sys.executable, "train.py", "--preset", PRESET, "--dataset", str(dataset)]
    result = subprocess.run(
        [*command, "--output", str(run), *words],
        cwd=PROJECT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise ClassifierError(f"train.py failed: {result.stderr.strip().splitlines()[-1]}")
    evaluation = json.loads((run / "model" / "evaluation.json").read_text(encoding="utf-8"))
    return float(evaluation["top1"])


def table(results: dict[str, list[float]]) -> str:
    """Returns mean and standard deviation over the seeds, as Markdown."""
    rows = ["| start | top-1, mean | standard deviation | each |", "| --- | ---: | ---: | --- |"]
    for name, values in results.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        each = ", ".join(f"{value:.1%}" for value in values)
        mean = statistics.mean(values)
        rows.append(f"| {name} | {mean:.1%} | {100 * spread:.1f} points | {each} |")
    return "\n".join(rows)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = command_line.argument_parser("Compares fine-tuning with training from nothing.")
    parser.add_argument("--init-from", default="pretrained/cnn", metavar="SOURCE")
    parser.add_argument("--per-class", type=int, default=20, metavar="N", help="training images")
    parser.add_argument("--epochs", type=int, metavar="N", help="of the preset, if not given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
