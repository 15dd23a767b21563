"""Ablation study: adds components to the baseline one at a time, each row with the same epochs.

python -m benchmarks.ablation --dataset path/to/cifar100            # resumes an interrupted study
python -m benchmarks.ablation --dataset path/to/cifar100 --rows baseline teacher --seeds 0

Each row is a preset with changed settings; its `train.py` command is recorded in `ablation.json`.
Runs are kept in `--runs`: complete runs are not repeated, interrupted runs are resumed. After each
run, the table (`ablation.md`) and the figure (`ablation.png`) are written to `benchmarks/results`,
and all values (`ablation.json`), from which the app draws its figure, to `pretrained`; with
`--output`, everything is written to that folder:

    {"command", "date", "machines", "epochs",
     "rows": [{"name", "label", "category", "command",
               "top1": [of each seed], "validation_top1": [of each seed], "parameters", "seconds"}]}

Top-1 is measured on the test split, as a fraction, and is not used to choose settings.
"""

import argparse
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import output
from benchmarks.compare import ALONE, CONVOLUTIONAL, TAUGHT, training_seconds
from classifier import command_line
from classifier.data.source import DataSource, add_data_arguments
from classifier.errors import ClassifierError
from classifier.model_folder.folder import ModelFolder

NUMBERS = output.PROJECT / "pretrained"
EPOCHS = 30
MAX_SEEDS = 100  # runs of seeds below it are collected


@dataclass(frozen=True)
class Row:
    """One row of the table: a preset with some settings changed.

    Attributes:
        name: name of the run folders.
        label: the component added to the previous row.
        category: rows of one category are comparable.
        preset: the name of a preset.
        changes: settings, as `--set` takes them.
        seeds: number of seeds.
        start: the preset, and its changes, of the first half of the epochs; the second half is
            initialised from its weights.
    """

    name: str
    label: str
    category: str
    preset: str
    changes: tuple[str, ...] = ()
    seeds: int = 3
    start: tuple[str, ...] = ()


AUGMENTATION = ("flip=0.5", "crop_area=0.35", "crop_aspect=1.25", "mixup=0.8")
NO_VIEWS = ("tta_flip=false", "tta_zoom=1")
# The preset `mlp` trains on from other weights, at a low rate.
LOCAL = ("local_maps=[]", "local_patches=[7, 12]", "learning_rate=0.001", *NO_VIEWS)
NO_TEACHER = "teacher="
UNPRUNED = (*LOCAL, NO_TEACHER, "prune_threshold=0")
RESIDUAL = ("local_units=0", "architecture=residual_mlp")
VIEWS = "distillation_views=6"  # the teacher's answers are most of the time of so short a training
TIED = ("mlp-tied", VIEWS)
ROWS = (
    Row("baseline", "baseline (dense ReLU, dropout, L2)", ALONE, "mlp-baseline"),
    Row("augmentation", "+ flips, crops, mixup", ALONE, "mlp-baseline", AUGMENTATION),
    Row("residual", "+ residual blocks, AdamW", ALONE, "mlp", (*UNPRUNED, *RESIDUAL)),
    Row("local", "+ local receptive-field initialisation", ALONE, "mlp", UNPRUNED),
    Row("pruning", "+ pruning during training", ALONE, "mlp", (*LOCAL, NO_TEACHER)),
    Row("teacher", "+ knowledge distillation from the CNN", TAUGHT, "mlp", (*LOCAL, VIEWS), 1),
    Row(
        "tied",
        "+ first half of the epochs as convolutions",
        TAUGHT,
        "mlp",
        (*NO_VIEWS, VIEWS),
        1,
        TIED,
    ),
    Row("views", "+ test-time augmentation, four views", TAUGHT, "mlp", (VIEWS,), 1, TIED),
    Row("cnn", "CNN (ResNet-9)", CONVOLUTIONAL, "cnn", (), 1),
)


def main(arguments: list[str]) -> None:
    """Trains the missing runs, row by row, and writes the results after each."""
    options = parse(arguments)
    chosen = [row for row in ROWS if row.name in options.rows]
    for row in chosen:
        for seed in options.seeds or range(row.seeds):
            train(row, seed, options)
            write(collect(options, arguments), options.output)
    print(table(collect(options, arguments)))


def train(row: Row, seed: int, options: argparse.Namespace) -> None:
    """Trains the runs of a row with `train.py`, unless their model folders are there."""
    for folder, words in trainings(row, options, seed):
        if (folder / "model").is_dir():
            continue
        arguments = ["train.py", "--output", str(folder)]
        if (folder / "run.json").exists():
            arguments += ["--resume"]
        else:
            data = DataSource.from_options(options).arguments()
            arguments += [*words, "--seed", str(seed), *data]
        print(shlex.join(["python", *arguments]), flush=True)
        result = subprocess.run([sys.executable, output.PROJECT / arguments[0], *arguments[1:]])
        if result.returncode:
            raise ClassifierError(
                f"the run in {folder} failed: see above; the same command continues"
            )


def trainings(row: Row, options: argparse.Namespace, seed: int) -> list[tuple[Path, list[str]]]:
    """Returns the trainings of a row: run folder and options of `train.py`, in their order."""
    runs, epochs = Path(options.runs), options.epochs
    folder = runs / f"{row.name}-{epochs}-{seed}"
    if not row.start:
        return [(folder, _words(row.preset, row.changes, epochs))]
    half = epochs // 2
    preset, *changes = row.start
    before = runs / f"{preset}-{half}-{seed}"
    origin = ["--init-from", str(before / "model")]
    return [
        (before, _words(preset, changes, half)),
        (folder, [*_words(row.preset, row.changes, epochs - half), *origin]),
    ]


def _words(preset: str, changes: Iterable[str], epochs: int) -> list[str]:
    """Returns options of `train.py`."""
    words = ["--preset", preset, "--epochs", str(epochs)]
    return words + [word for change in changes for word in ("--set", change)]


def collect(options: argparse.Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """Returns the content of `ablation.json`, of the runs that are complete."""
    rows: list[dict[str, Any]] = []
    machines = set()
    for row in ROWS:
        runs = [trainings(row, options, seed) for seed in range(MAX_SEEDS)]
        runs = [run for run in runs if (run[-1][0] / "model").is_dir()]
        if runs:
            models = [ModelFolder(run[-1][0] / "model") for run in runs]
            machines |= {_machine(model.training["machine"]) for model in models}
            commands = [
                shlex.join(["python", "train.py", *words, "--output", str(folder)])
                for folder, words in runs[0]
            ]
            rows.append(
                {
                    "name": row.name,
                    "label": row.label,
                    "category": row.category,
                    "command": " && ".join(commands),
                    "top1": [(model.evaluation or {})["top1"] for model in models],
                    "validation_top1": [model.training["validation_top1"] for model in models],
                    "parameters": models[0].training["parameters"],
                    "seconds": statistics.median(
                        training_seconds(model.training) or 0.0 for model in models
                    ),
                }
            )
    return {
        **output.command_and_date("ablation", arguments),
        "machines": sorted(machines),
        "epochs": options.epochs,
        "rows": rows,
    }


def _machine(machine: Mapping[str, Any]) -> str:
    """Returns the accelerator of a training, or else its processor."""
    return str(machine.get("accelerator") or machine["processor"])


def table(ablation: dict[str, Any]) -> str:
    """Returns the rows as Markdown: mean and standard deviation over seeds, and the gain."""
    header = ["", "category", "top-1", "seeds", "gain", "parameters", "training time"]
    rows = []
    before = None
    for row in ablation["rows"]:
        mean = statistics.mean(row["top1"])
        adds = before is not None and row["label"].startswith("+")
        gain = f"{100 * (mean - before):+.1f} points" if adds else ""
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
        rows.append(cells)
    note = (
        f"Test images; {ablation['epochs']} epochs each, on {' and '.join(ablation['machines'])}. "
        f"{ablation['date']}, `{ablation['command']}`."
    )
    return "\n".join([output.markdown(header, rows, "llrrrrr"), "", note, ""])


def write(ablation: dict[str, Any], folder: Path | None) -> None:
    """Writes the table, the figure and all values."""
    from evaluation import plots
    from evaluation.plots.comparison import ablation_bars
    from evaluation.themes import LIGHT

    results, numbers = folder or output.RESULTS, folder or NUMBERS
    files: dict[Path, str | bytes] = {
        numbers / "ablation.json": output.as_json(ablation),
        results / "ablation.md": table(ablation),
    }
    figure = ablation_bars(ablation["rows"], theme=LIGHT)
    files[results / "ablation.png"] = plots.png(figure)
    output.write_files(files, folder)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = output.parser(
        "ablation",
        "Ablation study: adds components to the baseline one at a time, with the same epochs.",
    )
    add_data_arguments(parser)
    parser.add_argument("--epochs", type=int, default=EPOCHS, metavar="N")
    names = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="default: each row's")
    parser.add_argument("--runs", default="runs/ablation", metavar="DIR", help="of the trainings")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
