"""Measures how fast Keras trains the deep MLP, beside PyTorch and the machine's matrix product.

python -m pip install -r benchmarks/requirements.txt
python -m benchmarks.training                 # with nothing else running on the machine

Every measurement is a process of its own. The rounds are interleaved (Keras, PyTorch, matrix
product, Keras, PyTorch, …), so that a machine that slows down slows all of them down; the table
has the median of the rounds, and the range. All of them train the same network on the same images
with the same batch, optimiser and augmentation (`SETTINGS`). The matrix product is what TensorFlow
or PyTorch, whichever is faster, sustains on the best of several shapes, those of the network among
them.

It writes `training.json` and `training.md` into `benchmarks/results` or `--output`:

    {"command", "date", "machine", "versions", "load_before", "settings", "images", "rounds",
     "flops_per_image": of one training step,
     "precisions": {"float32": {
         "matrix_product": GFLOP/s, of the faster library,
         "matrix_products": {"tensorflow": [one per round], …},
         "variants": {"keras": {"images_per_second": [one per round], "median",
                                "share_of_matrix_product"}}}}}
"""

import argparse
import datetime
import json
import os
import shlex
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `python benchmarks/training.py`

from benchmarks import readme
from classifier import command_line
from classifier.errors import ClassifierError
from classifier.files import write_atomically
from classifier.settings import Settings

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
WARM_UP = 10  # steps before the clock starts: the first ones compile, and fill the caches
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
    batch_size=2048,  # so that products take the time, more than the optimiser's pass over weights
    flip=0.5,
    crop_area=0.35,
    crop_aspect=1.2,
    mixup=0.8,
)

VARIANTS = {  # name: (title, arguments of the process that measures it)
    "keras": ("Keras, this project's training step", ["benchmarks.training_keras"]),
    "keras-unfused": (
        "Keras, this project's step without fusing",
        ["benchmarks.training_keras", "--no-fuse"],
    ),
    "pytorch": ("PyTorch, eager", ["benchmarks.training_pytorch"]),
    "pytorch-fused": (
        "PyTorch, eager, fused AdamW",
        ["benchmarks.training_pytorch", "--fused"],
    ),
    "pytorch-compiled": (
        "PyTorch, `torch.compile`, fused AdamW",
        ["benchmarks.training_pytorch", "--fused", "--compile"],
    ),
}
USUAL = ("keras", "pytorch", "pytorch-fused")
MATRIX_PRODUCTS = ("tensorflow", "pytorch")


def main(arguments: list[str]) -> None:
    """Measures, and writes what it found."""
    options = parse(arguments)
    load = os.getloadavg()[0]
    if load > 0.3:
        print(f"Something else is running (load {load:.1f}): the figures will be too low.")
    figures = {precision: measure(precision, options) for precision in options.precision}
    from classifier import provenance

    result = {
        "command": shlex.join(["python", "-m", "benchmarks.training", *arguments]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": provenance.machine(),
        "versions": provenance.library_versions(),
        "load_before": round(load, 2),
        "settings": SETTINGS.replace(batch_size=options.batch_size).to_dict(),
        "images": options.images,
        "rounds": options.rounds,
        "flops_per_image": training_flops(),
        "precisions": figures,
    }
    output = options.output or RESULTS
    output.mkdir(parents=True, exist_ok=True)
    files = {"training.json": json.dumps(result, indent=1) + "\n", "training.md": table(result)}
    for name, text in files.items():
        write_atomically(output / name, partial(Path.write_bytes, data=text.encode()))
    if options.output is None:
        readme.refresh()
    print(table(result))
    print(f"Written to {output}.")


def measure(precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measures every variant and the matrix product, one after the other, round by round."""
    speeds: dict[str, list[float]] = {name: [] for name in options.variants}
    products: dict[str, list[float]] = {library: [] for library in MATRIX_PRODUCTS}
    shared = ["--precision", precision]
    sizes = ["--images", str(options.images), "--batch-size", str(options.batch_size)]
    for number in range(options.rounds):
        for name in options.variants:
            _, command = VARIANTS[name]
            speeds[name].append(run([*command, *shared, *sizes])["images_per_second"])
            print(
                f"{precision} round {number + 1}: {name} {speeds[name][-1]:,.0f} images/s",
                flush=True,
            )
        for library in MATRIX_PRODUCTS:
            call = ["benchmarks.matrix_product", "--library", library, *shared]
            products[library].append(run(call)["gflops"])
            print(
                f"{precision} round {number + 1}: matrix product of {library} "
                f"{products[library][-1]:.0f} GFLOP/s",
                flush=True,
            )
    product = max(statistics.median(rounds) for rounds in products.values())
    return {
        "matrix_product": product,
        "matrix_products": products,
        "variants": summarise(speeds, product),
    }


def summarise(speeds: dict[str, list[float]], product: float) -> dict[str, Any]:
    """Returns for each variant its rounds, their median, and its share of the matrix product.

    Args:
        speeds: images per second of each round, by variant.
        product: GFLOP/s of the matrix product.
    """
    return {
        name: {
            "images_per_second": rounds,
            "median": statistics.median(rounds),
            "share_of_matrix_product": round(
                statistics.median(rounds) * training_flops() / (product * 1e9), 4
            ),
        }
        for name, rounds in speeds.items()
    }


def training_flops() -> int:
    """Returns the operations per image in a step's matrix products: 2 per weight and product.

    Each layer has three: forwards, and backwards for its input and for its weights; the first one
    needs no gradient of its input, the pixels.
    """
    wide = SETTINGS.width * SETTINGS.expansion
    first = 32 * 32 * 3 * SETTINGS.width
    blocks = SETTINGS.depth * 2 * SETTINGS.width * wide
    return 2 * (2 * first + 3 * (blocks + SETTINGS.width * CLASSES))


def run(arguments: list[str]) -> dict[str, float]:
    """Runs a module that measures, in a process of its own, and returns what it prints as JSON."""
    result = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=PROJECT, capture_output=True, text=True
    )
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ClassifierError(f"{' '.join(arguments)} failed: {reason}")
    return json.loads(result.stdout.splitlines()[-1])


def table(result: dict[str, Any]) -> str:
    """Returns the figures as Markdown."""
    machine = result["machine"]
    lines = [
        "| | images/s | range | GFLOP/s | share of the matrix product | Keras is faster by |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for precision, figures in result["precisions"].items():
        for name, figure in figures["variants"].items():
            lines.append(_row(precision, name, figure, figures, result["flops_per_image"]))
        product = figures["matrix_product"]
        lines.append(f"| {precision}: matrix product alone | | | {product:.0f} | 100% | |")
    note = (
        f"Medians of {result['rounds']} interleaved rounds of {result['images']:,} images, batch "
        f"{result['settings']['batch_size']}, on {machine['cores']} cores of "
        f"{machine['processor']}, TensorFlow {_version(result, 'tensorflow')}, PyTorch "
        f"{_version(result, 'torch')}. {result['date']}, `{result['command']}`."
    )
    return "\n".join([*lines, "", note, ""])


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = command_line.argument_parser(
        "Measures how fast Keras trains, beside PyTorch and the machine's matrix product.",
        prog="python -m benchmarks.training",
    )
    parser.add_argument("--images", type=int, default=40_960, metavar="N", help="timed, a round")
    parser.add_argument("--batch-size", type=int, default=SETTINGS.batch_size, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument(
        "--precision", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"]
    )
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=USUAL)
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where to write (default: benchmarks/results)"
    )
    options = parser.parse_args(arguments)
    if min(options.rounds, options.batch_size) < 1 or options.images < options.batch_size:
        parser.error("at least one round and one batch of images are needed")
    return options


def _row(
    precision: str, name: str, figure: dict[str, Any], figures: dict[str, Any], flops: int
) -> str:
    rounds = figure["images_per_second"]
    keras = figures["variants"].get("keras")
    cells = [
        f"{precision}: {VARIANTS[name][0]}",
        f"{figure['median']:,.0f}",
        f"{min(rounds):,.0f} – {max(rounds):,.0f}",
        f"{figure['median'] * flops / 1e9:.0f}",
        f"{figure['share_of_matrix_product']:.0%}",
        f"{keras['median'] / figure['median']:.2f}×" if keras and name != "keras" else "",
    ]
    return f"| {' | '.join(cells)} |"


def _version(result: dict[str, Any], library: str) -> str:
    found = [v for name, v in result["versions"].items() if name.startswith(library)]
    return found[0] if found else "–"


if __name__ == "__main__":
    sys.exit(command_line.run(main))
