"""Measures what each ingredient of the recipe is worth, at a short and equal budget.

python -m benchmarks.ablation --dataset path/to/cifar100            # goes on where it stopped
python -m benchmarks.ablation --dataset path/to/cifar100 --rows baseline teacher --seeds 0

Each row is a preset plus `--set`, so that `train.py` repeats it: the command stands in
`ablation.json`. Runs are kept in `--runs`; one that is complete is not trained again, one that was
stopped is resumed. The table (`ablation.md`), the figure (`ablation.png`, also on dark ground) and
all numbers (`ablation.json`) are written after each run, into `benchmarks/results` or `--output`:

    {"command", "date", "machine", "epochs",
     "rows": [{"name", "label", "category", "command",
               "top1": [of each seed], "validation_top1": [of each seed], "parameters", "seconds"}]}

Nothing is chosen by these figures; top-1 is that on the test split, a share between 0 and 1.
"""

import argparse
import datetime
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `python benchmarks/ablation.py`

from benchmarks import readme
from classifier import command_line
from classifier.data.loading import DEFAULT_DATASET
from classifier.errors import ClassifierError
from classifier.files import write_atomically
from classifier.model_folder.folder import ModelFolder

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
EPOCHS = 30

ALONE = "dense only, alone"
TAUGHT = "dense only, taught by our CNN"
CONVOLUTIONAL = "convolutional"


@dataclass(frozen=True)
class Row:
    """One row of the table: a preset with some settings changed.

    Attributes:
        name: of its runs' folders.
        label: what it adds to the row before it.
        category: who may be compared with whom.
        preset: the name of a preset.
        changes: settings, as `--set` takes them.
        seeds: how many seeds it is worth.
    """

    name: str
    label: str
    category: str
    preset: str
    changes: tuple[str, ...] = ()
    seeds: int = 3


AUGMENTATION = ("flip=0.5", "crop_area=0.35", "crop_aspect=1.25", "mixup=0.8")
NO_VIEWS = ("tta_flip=false", "tta_zoom=1")
NO_TEACHER = ("teacher=", *NO_VIEWS)
ROWS = (
    Row("baseline", "the classic recipe", ALONE, "mlp-baseline"),
    Row("augmentation", "+ flips, crops, mixup", ALONE, "mlp-baseline", AUGMENTATION),
    Row(
        "residual",
        "+ residual blocks, AdamW",
        ALONE,
        "mlp",
        (*NO_TEACHER, "local_units=0", "prune_threshold=0"),
    ),
    Row(
        "local",
        "+ local receptive-field initialisation",
        ALONE,
        "mlp",
        (*NO_TEACHER, "prune_threshold=0"),
    ),
    Row("pruning", "+ pruning during training", ALONE, "mlp", NO_TEACHER),
    Row("teacher", "+ the CNN's answers as targets", TAUGHT, "mlp", NO_VIEWS, 1),
    Row("views", "+ four views averaged", TAUGHT, "mlp", (), 1),
    Row("cnn", "the convolutional network", CONVOLUTIONAL, "cnn", (), 1),
)


def main(arguments: list[str]) -> None:
    """Trains what is missing, row by row, and writes what is there."""
    options = parse(arguments)
    chosen = [row for row in ROWS if row.name in options.rows]
    command = shlex.join(["python", "-m", "benchmarks.ablation", *arguments])
    for row in chosen:
        for seed in options.seeds or range(row.seeds):
            train(row, seed, options)
            write(collect(options, command), options.output or RESULTS)
    if options.output is None:
        readme.refresh()
    print(table(collect(options, command)))


def train(row: Row, seed: int, options: argparse.Namespace) -> None:
    """Trains one run with `train.py`, unless its model folder is there."""
    folder = run_folder(row, seed, options)
    if (folder / "model").is_dir():
        return
    arguments = ["train.py", "--output", str(folder)]
    if (folder / "run.json").exists():
        arguments += ["--resume"]
    else:
        arguments += [*options_of(row, options.epochs), "--seed", str(seed)]
        arguments += ["--dataset", options.dataset]
    print(shlex.join(["python", *arguments]), flush=True)
    result = subprocess.run([sys.executable, *arguments], cwd=PROJECT)
    if result.returncode:
        raise ClassifierError(f"the run in {folder} failed: see above; the same command goes on")


def options_of(row: Row, epochs: int) -> list[str]:
    """Returns the options of `train.py` that make a row, but for seed and data set."""
    options = ["--preset", row.preset, "--epochs", str(epochs)]
    for change in row.changes:
        options += ["--set", change]
    return options


def run_folder(row: Row, seed: int, options: argparse.Namespace) -> Path:
    """Returns the run folder of a row and a seed."""
    return Path(options.runs).resolve() / f"{row.name}-{options.epochs}-{seed}"


def collect(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """Returns the content of `ablation.json`, of the runs that are complete."""
    from classifier import provenance

    rows = []
    for row in ROWS:
        folders = (run_folder(row, seed, options) / "model" for seed in range(100))
        models = [ModelFolder(folder) for folder in folders if folder.is_dir()]
        if models:
            rows.append(
                {
                    "name": row.name,
                    "label": row.label,
                    "category": row.category,
                    "command": shlex.join(["python", "train.py", *options_of(row, options.epochs)]),
                    "top1": [(model.evaluation or {})["top1"] for model in models],
                    "validation_top1": [model.training["validation_top1"] for model in models],
                    "parameters": models[0].training["parameters"],
                    "seconds": statistics.median(
                        model.training["wall_seconds"] for model in models
                    ),
                }
            )
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": provenance.machine(),
        "epochs": options.epochs,
        "rows": rows,
    }


def table(ablation: dict[str, Any]) -> str:
    """Returns the rows as Markdown: mean and standard deviation over seeds, and the gain."""
    lines = [
        "| | category | top-1 | seeds | gain | parameters | training time |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    before = None
    for row in ablation["rows"]:
        mean = statistics.mean(row["top1"])
        gain = "" if before is None else f"{100 * (mean - before):+.1f} points"
        before = mean
        spread = f" ± {100 * statistics.stdev(row['top1']):.1f}" if len(row["top1"]) > 1 else ""
        cells = [
            row["label"],
            row["category"],
            f"{100 * mean:.1f}{spread}%",
            str(len(row["top1"])),
            gain,
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['seconds'] / 60:.0f} min",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    machine = ablation["machine"]
    note = (
        f"Test images; {ablation['epochs']} epochs each, on {machine['cores']} cores of "
        f"{machine['processor']}. {ablation['date']}, `{ablation['command']}`."
    )
    return "\n".join([*lines, "", note, ""])


def write(ablation: dict[str, Any], output: Path) -> None:
    """Writes the numbers, the table and the figures into a folder, each by rename."""
    output.mkdir(parents=True, exist_ok=True)
    numbers = json.dumps(ablation, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    files = {"ablation.json": numbers.encode(), "ablation.md": table(ablation).encode()}
    files |= dict(draw(ablation))
    for name, content in files.items():
        write_atomically(output / name, partial(Path.write_bytes, data=content))


def draw(ablation: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Draws the figure on light and dark ground; yields names of files and their content."""
    from evaluation import plots
    from evaluation.themes import DARK, LIGHT

    for theme, suffix in ((LIGHT, ""), (DARK, "-dark")):
        yield f"ablation{suffix}.png", plots.png(plots.ablation_bars(ablation["rows"], theme=theme))


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = command_line.argument_parser(
        "Measures what each ingredient of the recipe is worth, at a short and equal budget.",
        prog="python -m benchmarks.ablation",
    )
    parser.add_argument("--dataset", default=DEFAULT_DATASET, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=EPOCHS, metavar="N")
    names = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="default: each row's")
    parser.add_argument("--runs", default="runs/ablation", metavar="DIR", help="of the trainings")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where to write (default: benchmarks/results)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
