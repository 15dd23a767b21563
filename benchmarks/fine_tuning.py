"""Compares fine-tuning with training from scratch on a small data set.

python -m benchmarks.fine_tuning
python -m benchmarks.fine_tuning --init-from user/name --per-class 5

The images are emoji of nine kinds (see `benchmarks.emoji`); each seed selects other training
images. Both trainings have the same architecture, settings and number of epochs; only the initial
weights differ.
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

from benchmarks import emoji, output
from benchmarks.output import PROJECT
from classifier import command_line
from classifier.errors import ClassifierError
from classifier.hub.sources import find
from classifier.presets import ARCHITECTURE, load_preset
from classifier.training.fine_tuning import PRESET


def main(arguments: list[str]) -> None:
    """Runs both trainings for each seed and writes the table."""
    options = parse(arguments)
    emoji.check(options.per_class)
    state = output.circumstances("fine_tuning", arguments)
    built = find(options.init_from).training["settings"]
    recipe = load_preset(PRESET)
    epochs = options.epochs or recipe.epochs
    architecture = [f"{name}={json.dumps(built[name])}" for name in ARCHITECTURE if name in built]
    scratch = ["freeze_epochs=0", f"epochs={epochs + recipe.freeze_epochs}", *architecture]
    ways = {
        "from nothing": [word for setting in scratch for word in ("--set", setting)],
        "fine-tuned": ["--init-from", options.init_from, "--epochs", str(epochs)],
    }
    top1: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in options.seeds:
            dataset = Path(temporary) / f"emoji-{seed}"
            emoji.write(dataset, options.per_class, seed)
            for name, words in ways.items():
                run = Path(temporary) / f"{name}-{seed}"
                top1[name].append(train(dataset, run, [*words, "--seed", str(seed)]))
                print(f"seed {seed}, {name}: {top1[name][-1]:.2%}", flush=True)
    result = {
        **state,
        "init_from": options.init_from,
        "images_per_class": options.per_class,
        "test_images": sum(map(len, emoji.KINDS.values())) - options.per_class * len(emoji.KINDS),
        "epochs": epochs + recipe.freeze_epochs,
        "seeds": options.seeds,
        "top1": top1,
        **output.machine(),
    }
    output.write("fine_tuning", result, {"fine_tuning.md": table(result)}, options.output)


def train(dataset: Path, run: Path, words: list[str]) -> float:
    """Runs `train.py` with the preset `fine-tune` and returns the test accuracy."""
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


def table(result: dict[str, Any]) -> str:
    """Returns mean and standard deviation over the seeds, as Markdown."""
    rows = []
    for name, values in result["top1"].items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        each = ", ".join(f"{value:.1%}" for value in values)
        rows.append([name, f"{statistics.mean(values):.1%}", f"{100 * spread:.1f} points", each])
    header = ["start", "top-1, mean", "standard deviation", "each"]
    remark = (
        f"{result['images_per_class']} training images of each kind, {result['test_images']} test "
        f"images, {result['epochs']} epochs, seeds {', '.join(map(str, result['seeds']))}; "
        f"{result['machine']['processor']}. {result['date']}, `{result['command']}`."
    )
    return f"{output.markdown(header, rows, 'lrrl')}\n\n{remark}\n"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = output.parser("fine_tuning", "Compares fine-tuning with training from scratch.")
    parser.add_argument("--init-from", default="pretrained/cnn", metavar="SOURCE")
    parser.add_argument("--per-class", type=int, default=10, metavar="N", help="training images")
    parser.add_argument("--epochs", type=int, metavar="N", help="of the preset, if not given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
