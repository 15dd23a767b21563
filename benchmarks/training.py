"""Measures the training throughput of Keras, compared with PyTorch.

python -m pip install -r benchmarks/requirements.txt
python -m benchmarks.training                 # with nothing else running on the machine
python -m benchmarks.training --rows cnn-64:float32 cnn-64:bfloat16     # only these

A row is a network in a number format. Keras and PyTorch run in separate processes, in interleaved
rounds, so that changes in the speed of the machine affect both; the table shows the medians of the
rounds and their range. Both train the same network on the same images with the same batch size,
optimiser and augmentation (`NETWORKS`).

It writes `training.json` and `training.md`; rows that were measured before, on the same machine
with the same libraries, stay:

    {"machine", "versions",
     "rows": {"cnn-64:float32": {
         "command", "date", "load_before", "images", "batch_size", "rounds",
         "images_per_second": {"keras": [one per round], "pytorch": […]}}}}
"""

import argparse
import contextlib
import importlib
import json
import multiprocessing
import re
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import output
from benchmarks.output import circumstances
from classifier import command_line
from classifier.presets import load_preset
from classifier.settings import Settings

WARM_UP = 2  # warm-up steps of a round: the first ones compile, and fill the caches
CLASSES = 100

SETTINGS = Settings(
    architecture="residual_mlp",
    width=512,
    depth=6,
    expansion=4,
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=0.05,
    label_smoothing=0.1,
    schedule="constant",
    batch_size=512,  # that of the `mlp` preset
    flip=0.5,
    crop_area=0.35,
    crop_aspect=1.2,
    mixup=0.8,
)
# The images are noise: with the preset's learning rate the loss would diverge.
CNN = load_preset("cnn").replace(schedule="constant", learning_rate=1e-3)

NETWORKS = {  # name: (title, recipe, images that are timed in a round)
    "mlp": ("residual MLP, 14.2 M parameters, batch 512", SETTINGS, 10_240),
    "mlp-2048": (
        "residual MLP, 14.2 M parameters, batch 2048",
        SETTINGS.replace(batch_size=2048),
        20_480,
    ),
    "cnn-32": (
        "ResNet-9, 32 wide, 1.67 M, batch 256",
        CNN.replace(channels=(32, 64, 128, 256)),
        2048,
    ),
    "cnn-64": (
        "ResNet-9, 64 wide, 6.62 M, batch 256",
        CNN.replace(channels=(64, 128, 256, 512)),
        1024,
    ),
}
PRECISIONS = ("float32", "bfloat16")
ROWS = tuple(f"{network}:{precision}" for network in NETWORKS for precision in PRECISIONS)

LIBRARIES = ("keras", "pytorch")


def main(arguments: list[str]) -> None:
    """Runs the measurements and writes the results."""
    options = parse(arguments)
    state = circumstances("training", arguments)
    rows = {row: {**state, **measure(row, options)} for row in options.rows}
    result = merged((options.output or output.RESULTS) / "training.json", rows)
    output.write("training", result, {"training.md": table(result)}, options.output)


def measure(row: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measures both libraries in interleaved rounds, each in a process of its own."""
    network, precision = row.split(":")
    _, settings, images = NETWORKS[network]
    images = options.images or images
    settings = settings.replace(batch_size=options.batch_size or settings.batch_size)
    speeds: dict[str, list[float]] = {library: [] for library in LIBRARIES}
    spawn = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        pools = {
            library: stack.enter_context(
                ProcessPoolExecutor(1, spawn, start, (library, settings, precision, images))
            )
            for library in LIBRARIES
        }
        for number in range(options.rounds):
            for library, pool in pools.items():
                speeds[library].append(pool.submit(train).result())
                print(f"{row} round {number + 1}: {library} {speeds[library][-1]}", flush=True)
    return {
        "images": images,
        "batch_size": settings.batch_size,
        "rounds": options.rounds,
        "images_per_second": speeds,
    }


_train: Callable[[], float]  # of a process


def start(library: str, settings: Settings, precision: str, images: int) -> None:
    """Builds the network in the process of a library."""
    global _train
    module = importlib.import_module(f"benchmarks.training_{library}")
    _train = module.trainer(settings, precision, images)


def train() -> float:
    """Trains in the process of a library; returns images per second."""
    return _train()


def merged(file: Path, rows: dict[str, Any]) -> dict[str, Any]:
    """Returns these rows, and those of a file that was measured on this machine."""
    same = output.machine()
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if all(before.get(name) == value for name, value in same.items()):
        rows = {**before.get("rows", {}), **rows}
    return {**same, "rows": {name: rows[name] for name in ROWS if name in rows}}


def table(result: dict[str, Any]) -> str:
    """Returns the figures as Markdown: a line for each row."""
    rows, machine, versions = result["rows"], result["machine"], result["versions"]
    header = ["network", "format", "Keras, images/s", "PyTorch, images/s", "Keras / PyTorch"]
    lines = [_cells(name, row) for name, row in rows.items()]
    rounds = sorted({row["rounds"] for row in rows.values()})
    dates = sorted({row["date"] for row in rows.values()})
    load = max(row["load_before"] for row in rows.values())
    tensorflow = next((v for name, v in versions.items() if name.startswith("tensorflow")), "–")
    note = (
        f"Medians of {' to '.join(map(str, rounds))} interleaved rounds, with their range, on "
        f"{machine['cores']} cores of {machine['processor']}, TensorFlow {tensorflow}, "
        f"PyTorch {versions['torch']}. {' and '.join(dates)}, load up to {load:.1f}, "
        "`python -m benchmarks.training`."
    )
    return f"{output.markdown(header, lines, 'llrrr')}\n\n{note}\n"


def _cells(name: str, row: dict[str, Any]) -> list[str]:
    network, precision = name.split(":")
    speeds = [row["images_per_second"][library] for library in LIBRARIES]
    keras, pytorch = map(statistics.median, speeds)
    ranges = [f"({min(rounds):,.0f} – {max(rounds):,.0f})" for rounds in speeds]
    return [
        re.sub(r"batch \d+", f"batch {row['batch_size']}", NETWORKS[network][0]),
        precision,
        f"{keras:,.0f} {ranges[0]}",
        f"{pytorch:,.0f} {ranges[1]}",
        f"**{keras / pytorch:.2f}×**",
    ]


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    description = "Measures how fast Keras trains, beside PyTorch."
    parser = output.parser("training", description)
    parser.add_argument(
        "--rows", nargs="+", choices=ROWS, default=ROWS, metavar="NETWORK:FORMAT", help="which"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--images", type=int, metavar="N", help="timed, a round")
    parser.add_argument("--batch-size", type=int, metavar="N")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
