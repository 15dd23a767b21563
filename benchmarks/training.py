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
         "flops_per_image": of one training step,
         "variants": {"keras": {"images_per_second": [one per round], "median"}, …}}}}
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from benchmarks import output
from benchmarks.output import IDLE, PROJECT, circumstances
from classifier import command_line
from classifier.errors import ClassifierError
from classifier.settings import Settings, load_preset

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

VARIANTS = {  # name: (title, arguments of the process that measures it)
    "keras": ("Keras", ["benchmarks.training_keras"]),
    "pytorch": ("PyTorch", ["benchmarks.training_pytorch"]),
    "pytorch-compiled": (
        "PyTorch, `torch.compile`",
        ["benchmarks.training_pytorch", "--compile"],
    ),
}
DEFAULT_VARIANTS = ("keras", "pytorch")


def main(arguments: list[str]) -> None:
    """Runs the measurements and writes the results."""
    options = parse(arguments)
    state = circumstances("training", arguments)
    rows = {row: {**state, **measure(row, options)} for row in options.rows}
    result = merged((options.output or output.RESULTS) / "training.json", rows)
    output.write("training", result, {"training.md": table(result)}, options.output)


def stated(rows: Collection[dict[str, Any]]) -> str:
    """Returns the dates of rows, and the load of the machine if it was not idle, for a note."""
    dates = sorted({row["date"] for row in rows})
    load = max(row["load_before"] for row in rows)
    busy = f", while other programs ran (load up to {load:.1f})" if load > IDLE else ""
    return " to ".join(dict.fromkeys([dates[0], dates[-1]])) + busy


def measure(row: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measures every variant in interleaved rounds."""
    network, precision = row.split(":")
    _, settings, images = NETWORKS[network]
    sizes = {
        "images": options.images or images,
        "batch_size": options.batch_size or settings.batch_size,
    }
    sized = [network, "--precision", precision, "--images", str(sizes["images"])]
    sized += ["--batch-size", str(sizes["batch_size"])]
    calls = {name: [*VARIANTS[name][1], *sized] for name in options.variants}
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    with contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(Process(arguments)) for name, arguments in calls.items()
        }
        for number in range(options.rounds):
            for name, process in processes.items():
                answers[name].append(process.measure())
                print(f"{row} round {number + 1}: {name} {answers[name][-1]}", flush=True)
    from benchmarks.training_keras import training_flops

    speeds = {name: [x["images_per_second"] for x in answers[name]] for name in options.variants}
    return {
        **sizes,
        "rounds": options.rounds,
        "flops_per_image": training_flops(settings),
        "variants": {
            name: {"images_per_second": rounds, "median": statistics.median(rounds)}
            for name, rounds in speeds.items()
        },
    }


class Process:
    """A module in a separate process that runs one measurement for each line it receives."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments

    def __enter__(self) -> "Process":
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self._arguments],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def measure(self) -> dict[str, float]:
        """Runs a measurement and returns the result.

        Raises:
            ClassifierError: the process ended instead.
        """
        assert self._process.stdin
        assert self._process.stdout
        answer = ""
        with contextlib.suppress(BrokenPipeError):
            print(file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            reason = (self._errors.read().strip().splitlines() or ["it said nothing"])[-1]
            raise ClassifierError(f"{' '.join(self._arguments)} failed: {reason}")
        return json.loads(answer)


def answer_each_line(measure: Callable[[], dict[str, float]]) -> None:
    """Runs a measurement for each line of standard input, in a `Process`."""
    for _ in sys.stdin:
        print(json.dumps(measure()), flush=True)


def worker_parser() -> argparse.ArgumentParser:
    """Returns the parser of the arguments that `measure` passes to a training process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    return parser


def merged(file: Path, rows: dict[str, Any]) -> dict[str, Any]:
    """Returns these rows, and those of a file that was measured on this machine."""
    same = output.machine()
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if all(before.get(name) == value for name, value in same.items()):
        rows = {**before.get("rows", {}), **rows}
    return {**same, "rows": {name: rows[name] for name in ROWS if name in rows}}


def table(result: dict[str, Any]) -> str:
    """Returns the figures as Markdown: a line for each row, a column for each variant."""
    rows, machine = result["rows"], result["machine"]
    variants = [name for name in VARIANTS if any(name in row["variants"] for row in rows.values())]
    titles = [f"{VARIANTS[name][0]}, images/s" for name in variants]
    header = ["network", "format", *titles, "Keras / PyTorch", "GFLOP/s"]
    lines = [_cells(name, row, variants) for name, row in rows.items()]
    rounds = sorted({row["rounds"] for row in rows.values()})
    note = (
        f"Medians of {' to '.join(map(str, rounds))} interleaved rounds, with their range, on "
        f"{machine['cores']} cores of {machine['processor']}, TensorFlow "
        f"{_version(result, 'tensorflow')}, PyTorch {_version(result, 'torch')}. "
        f"{stated(rows.values())}, `python -m benchmarks.training`."
    )
    align = "ll" + "r" * (len(header) - 2)
    return f"{output.markdown(header, lines, align)}\n\n{note}\n"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    description = "Measures how fast Keras trains, beside PyTorch."
    parser = output.parser("training", description)
    parser.add_argument(
        "--rows", nargs="+", choices=ROWS, default=ROWS, metavar="NETWORK:FORMAT", help="which"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=DEFAULT_VARIANTS)
    parser.add_argument("--images", type=int, metavar="N", help="timed, a round")
    parser.add_argument("--batch-size", type=int, metavar="N")
    options = parser.parse_args(arguments)
    for row in options.rows:
        _, settings, images = NETWORKS[row.split(":")[0]]
        batch_size = settings.batch_size if options.batch_size is None else options.batch_size
        images = images if options.images is None else options.images
        if min(options.rounds, batch_size) < 1 or images < batch_size:
            parser.error("at least one round and one batch of images are needed")
    return options


def _cells(name: str, row: dict[str, Any], variants: list[str]) -> list[str]:
    network, precision = name.split(":")
    found = row["variants"]
    medians = {variant: found[variant]["median"] for variant in found}
    cells = [NETWORKS[network][0], precision]
    for variant in variants:
        speeds = found[variant]["images_per_second"] if variant in found else []
        cells.append(
            f"{medians[variant]:,.0f} ({min(speeds):,.0f} – {max(speeds):,.0f})" if speeds else ""
        )
    both = "keras" in found and "pytorch" in found
    cells.append(f"**{medians['keras'] / medians['pytorch']:.2f}×**" if both else "")
    operations = medians.get("keras", 0) * row["flops_per_image"] / 1e9
    return [*cells, f"{operations:.0f}" if "keras" in found else ""]


def _version(result: dict[str, Any], library: str) -> str:
    found = [v for name, v in result["versions"].items() if name.startswith(library)]
    return found[0] if found else "–"


if __name__ == "__main__":
    sys.exit(command_line.run(main))
