"""Ablation study: adds components to the baseline one at a time, each row with the same epochs.

python -m benchmarks.ablation --dataset path/to/cifar100            # resumes an interrupted study
python -m benchmarks.ablation --dataset path/to/cifar100 --rows baseline teacher --seeds 0

Each row is a preset with changed settings; its `train.py` command is recorded in `ablation.json`.
Runs are kept in `--runs`: complete runs are not repeated, interrupted runs are resumed. After each
run, the table (`ablation.md`) and the figure (`ablation.png`) are written to `benchmarks/results`,
and all values (`ablation.json`), from which the app draws its figure, to `pretrained`; with
`--output`, everything is written to that folder:

    {"command", "date", "machines", "epochs",
     "rows": [{"name", "base", "label", "category", "command", "seeds": [0, …],
               "top1": [of each seed], "validation_top1": [of each seed], "parameters", "seconds"}]}

The values of seeds whose runs are not in `--runs`, such as those of another machine, are kept from
the file that is replaced, by the row's name; `seconds` is the median of the runs at hand.
Top-1 is measured on the test split, as a fraction, and is not used to choose settings.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import output
from benchmarks.compare import category
from classifier import command_line, provenance
from classifier.data.source import DataSource, add_data_arguments
from classifier.errors import ClassifierError
from classifier.model_folder.folder import ModelFolder
from classifier.presets import load_preset, parse_overrides

NUMBERS = output.PROJECT / "pretrained"
EPOCHS = 30
MAX_SEEDS = 100  # runs of seeds below it are collected
OF_SEEDS = ("seeds", "top1", "validation_top1")  # the lists of a row with a value for each seed


@dataclass(frozen=True)
class Row:
    """One row of the table: a preset with some settings changed.

    Attributes:
        name: of the run folders; another one where the recipe changes.
        base: the row to which a component is added, if any.
        label: the component.
        preset: the name of a preset.
        changes: settings, as `--set` takes them.
        seeds: number of seeds.
        start: the preset, and its changes, of the first half of the epochs; the second half is
            initialised from its weights.
    """

    name: str
    base: str
    label: str
    preset: str
    changes: tuple[str, ...] = ()
    seeds: int = 3
    start: tuple[str, ...] = ()


AUGMENTATION = ("flip=0.5", "crop_area=0.35", "crop_aspect=1.25", "mixup=0.8")
NO_VIEWS = ("tta_flip=false", "tta_zoom=1")
# The preset `mlp` trains on from other weights, at a low rate.
LOCAL = ("local_maps=[]", "local_patches=[7, 12]", "learning_rate=0.001", *NO_VIEWS)
NO_TEACHER = "teacher="
PRUNED = (*LOCAL, NO_TEACHER)
UNPRUNED = (*PRUNED, "prune_threshold=0")
AVERAGED = (*PRUNED, "ema_momentum=0.998", "final_rate=0.05")
PHOTOMETRIC = (*PRUNED, "brightness=0.2", "contrast=0.2", "erasing=0.25")
ROTATION = (*PRUNED, "rotation=15")
RESIDUAL = ("local_units=0", "architecture=residual_mlp")
VIEWS = "distillation_views=6"  # the teacher's answers are most of the time of so short a training
TAUGHT = (*LOCAL, VIEWS)
HALF = (*NO_VIEWS, VIEWS)
TIED = ("mlp-tied", VIEWS)
ROWS = (
    Row("baseline", "", "baseline (dense ReLU, dropout, L2)", "mlp-baseline"),
    Row("augmentation", "baseline", "+ flips, crops, mixup", "mlp-baseline", AUGMENTATION),
    Row("residual", "augmentation", "+ residual blocks, AdamW", "mlp", (*UNPRUNED, *RESIDUAL)),
    Row("local", "residual", "+ local receptive-field initialisation", "mlp", UNPRUNED),
    Row("pruning", "local", "+ pruning during training", "mlp", PRUNED),
    Row("averaged", "pruning", "pruning + averaged weights", "mlp", AVERAGED, 1),
    Row("photometric", "pruning", "pruning + brightness, contrast, erasing", "mlp", PHOTOMETRIC, 1),
    Row("rotation", "pruning", "pruning + rotation by 15°", "mlp", ROTATION, 1),
    Row("teacher", "pruning", "pruning + knowledge distillation from the CNN", "mlp", TAUGHT, 1),
    Row("tied", "teacher", "+ first half of the epochs as convolutions", "mlp", HALF, 1, TIED),
    Row("views", "tied", "+ test-time augmentation, four views", "mlp", (VIEWS,), 1, TIED),
    Row("cnn", "", "CNN (ResNet-9)", "cnn", (), 1),
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
    earlier = _earlier(options)
    rows: list[dict[str, Any]] = []
    machines = set(earlier["machines"])
    for row in ROWS:
        settings = load_preset(row.preset).replace(**parse_overrides(list(row.changes)))
        commands = (
            shlex.join(["python", "train.py", *words, "--output", str(folder)])
            for folder, words in trainings(row, options, seed=0)
        )
        described = {
            "name": row.name,
            "base": row.base,
            "label": row.label,
            "category": category({"settings": settings.to_dict()}),
            "command": " && ".join(commands),
        }
        values = dict(earlier["rows"].get(row.name) or {column: [] for column in OF_SEEDS})
        measured = {found[0]: found for found in zip(*map(values.get, OF_SEEDS), strict=True)}
        folders = (trainings(row, options, seed)[-1][0] / "model" for seed in range(MAX_SEEDS))
        models = [ModelFolder(folder) for folder in folders if folder.is_dir()]
        for model in models:
            training, evaluation = model.training, model.evaluation or {}
            machines.add(_machine(training["machine"]))
            found = training["seed"], evaluation["top1"], training["validation_top1"]
            measured[training["seed"]] = found
            values["parameters"] = training["parameters"]
        if models:
            times = (provenance.training_seconds(model.training) or 0.0 for model in models)
            values["seconds"] = statistics.median(times)
        if measured:
            columns = map(list, zip(*(measured[seed] for seed in sorted(measured)), strict=True))
            rows.append({**values, **described, **dict(zip(OF_SEEDS, columns, strict=True))})
    return {
        **output.command_and_date("ablation", arguments),
        "machines": sorted(machines),
        "epochs": options.epochs,
        "rows": rows,
    }


def _earlier(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the content of the replaced file, its rows by name, if its trainings were as long."""
    file = (options.output or NUMBERS) / "ablation.json"
    earlier = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if earlier.get("epochs") != options.epochs:
        return {"machines": [], "rows": {}}
    return {**earlier, "rows": {row["name"]: row for row in earlier["rows"]}}


def _machine(machine: Mapping[str, Any]) -> str:
    """Returns the accelerator of a training, or else its processor."""
    return str(machine.get("accelerator") or machine["processor"])


def table(ablation: dict[str, Any]) -> str:
    """Returns the rows as Markdown: mean and standard deviation over seeds, and the gain."""
    header = ["", "category", "top-1", "seeds", "gain", "parameters", "training time"]
    rows = []
    means: dict[str, float] = {}
    for row in ablation["rows"]:
        mean = means[row["name"]] = statistics.mean(row["top1"])
        before = means.get(row["base"])
        gain = "" if before is None else f"{100 * (mean - before):+.1f} points"
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
