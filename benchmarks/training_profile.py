"""Profiles a training: the operations of a step, its matrix products, and the start-up.

python -m benchmarks.training_profile --dataset cifar100     # with nothing else running
python -m benchmarks.training_profile --rows parts:cnn-64 shapes:cnn-64

- `parts`: milliseconds of a step by kind of operation, from TensorFlow's profiler. Two operations
  run in parallel and share the cores, so the parts add up to more than the step.
- `shapes`: GFLOP/s of the network's matrix products or convolutions, and of their gradients.
- `start`: `train.py` in a pseudo-terminal until the first step of the second epoch: seconds from
  the start of the process to the end of the first step, and between the two epochs, for
  validation, checkpoint and logging.

It writes `training_profile.json` and a table each, `training_parts.md`, `training_shapes.md` and
`training_start.md`; rows that were measured before, on the same machine with the same libraries,
stay.
"""

import argparse
import json
import math
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import output
from benchmarks.matrix_product import median_seconds
from benchmarks.output import PROJECT
from benchmarks.training import NETWORKS, PRECISIONS, WARM_UP, merged, stated
from classifier import command_line
from classifier.data.source import DEFAULT_DATASET
from classifier.errors import ClassifierError

ROWS = (
    *(f"{what}:{network}" for what in ("parts", "shapes") for network in ("mlp", "cnn-64")),
    *(f"start:{preset}" for preset in ("mlp-baseline", "cnn")),
)
STEPS = 4  # profiled, after those of the warm-up

PARTS = {  # by TensorFlow's operations, the first that fits; oneDNN's have names of their own
    "augmentation": r"/augmentation\w*/",
    "gradients of convolutions' kernels, by oneDNN": r"BackpropFilter",
    "convolutions and the gradients of their inputs": r"Conv2D",
    "matrix products": r"MatMul",
    "batch normalisation": r"BatchNorm",
    "pooling": r"Pool|ArgMax|/pool/",
    "optimiser, as far as it is not fused": r"ResourceApply|/(sgd|adamw|lion)\w*/",
    "fused operations on elements": r"_Xla",
    "sums over the batch": r":(BiasAddGrad|Sum|Mean)$",
    "copies: patches, casts, transposes": r":(Concat|Pad|StridedSlice|Tile|.*Transpose|Cast)\w*$",
    "other operations": r"",
}
OPERATION = re.compile(r"[^:\s]+:_?[A-Z]\w*")
FORWARDS, OF_INPUT, OF_KERNEL = "forwards", "gradient of the input", "gradient of the kernel"
AS_PRODUCT = "the same as a matrix product"
PROGRESS = re.compile(r"Epoch (\d+)/|(\d+)/(\d+)\x1b\[0m")


def main(arguments: list[str]) -> None:
    """Runs the measurements and writes the results."""
    options = parse(arguments)
    rows: dict[str, Any] = {}
    state = output.circumstances("training_profile", arguments)
    for row in options.rows:
        what, name = row.split(":")
        if what == "start":
            figures: Any = start(["--preset", name, "--dataset", options.dataset])
        else:
            measure = {"parts": parts, "shapes": shapes}[what]
            figures = {
                precision: measure(name, precision, options.batch_size) for precision in PRECISIONS
            }
        rows[row] = {**state, **figures}
        print(row, json.dumps(figures), flush=True)
    folder = options.output or output.RESULTS
    result = merged(folder / "training_profile.json", rows, ROWS)
    tables = {f"training_{what}.md": table(what, result) for what in ("parts", "shapes", "start")}
    found = {name: text for name, text in tables.items() if text}
    output.write("training_profile", result, found, options.output)


def parts(network: str, precision: str, batch_size: int | None = None) -> dict[str, float]:
    """Returns the milliseconds of a step, `step`, and within the operations of each of `PARTS`."""
    import tensorflow as tf
    from jax.profiler import ProfileData  # which reads TensorFlow's profiles

    from benchmarks.training_keras import trainer

    settings = NETWORKS[network][1]
    settings = settings.replace(batch_size=batch_size or settings.batch_size)
    train = trainer(settings, precision, STEPS * settings.batch_size)
    train()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        speed = train()["images_per_second"]
        tf.profiler.experimental.stop()
        profile = ProfileData.from_file(str(next(Path(folder).rglob("*.xplane.pb"))))
        events = [
            (event.name, event.duration_ns / 1e6)
            for plane in profile.planes
            for line in plane.lines
            if line.name.startswith("tf_Compute")
            for event in line.events
        ]
    return {"step": round(1e3 * settings.batch_size / speed, 1), **sorted_by_part(events)}


def sorted_by_part(events: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Sums the milliseconds of a step in each of `PARTS`, from the events of a profile."""
    total: dict[str, float] = defaultdict(float)
    for name, milliseconds in events:
        if OPERATION.fullmatch(name):
            part = next(part for part, pattern in PARTS.items() if re.search(pattern, name))
            total[part] += milliseconds / (WARM_UP + STEPS)
    return {part: round(total[part], 1) for part in PARTS if part in total}


def shapes(
    network: str, precision: str, batch_size: int | None = None
) -> dict[str, dict[str, float]]:
    """Returns the GFLOP/s of each layer's product, and of its gradients, by the layer's shape."""
    import keras
    import tensorflow as tf

    from benchmarks.training_keras import build
    from classifier.training.fast_convolution import convolution

    settings = NETWORKS[network][1]
    rows = batch_size or settings.batch_size
    figures: dict[str, dict[str, float]] = {}
    for layer in build(settings).layers:
        if not isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D)):
            continue
        *places, inner = layer.input.shape[1:]
        *_, outer = layer.output.shape
        title = f"{inner:,} → {outer:,}" + (f" at {places[0]} × {places[1]}" if places else "")
        if title in figures:
            continue
        flops = 2 * rows * math.prod(places) * math.prod(layer.kernel.shape)
        values, kernel, upstream = (
            tf.cast(tf.random.normal(shape), precision)
            for shape in ((rows, *places, inner), layer.kernel.shape, (rows, *places, outer))
        )
        multiply = _convolve if places else tf.matmul
        timed = {
            FORWARDS: tf.function(multiply),
            OF_INPUT: _gradient(multiply, 0, upstream),
            OF_KERNEL: _gradient(multiply, 1, upstream),
        }
        if places:
            timed[AS_PRODUCT] = _gradient(convolution, 1, upstream)
        figures[title] = {
            name: round(flops / median_seconds(partial(function, values, kernel)) / 1e9)
            for name, function in timed.items()
        }
    return figures


def start(arguments: list[str]) -> dict[str, float]:
    """Runs `train.py` with these arguments until the first step of its second epoch.

    Returns:
        Seconds: `loaded`, from the start of the process until the network is built; `first_step`,
        from the same until its end; `epoch`, from the first step to that of the next epoch;
        `overhead`, the part of it between the last step and the next first one.
    """
    with tempfile.TemporaryDirectory() as folder:
        terminal, end = pty.openpty()
        command = [sys.executable, "train.py", *arguments, "--output", f"{folder}/run"]
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=PROJECT, stdin=end, stdout=end, stderr=end, start_new_session=True
        )
        os.close(end)
        try:
            times, text = _watch(terminal, began)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(terminal)
    if (2, 1) not in times:
        reason = (text.strip().splitlines() or ["it said nothing"])[-1]
        raise ClassifierError(f"train.py {' '.join(arguments)} did not train: {reason}")
    return {name: round(value, 2) for name, value in intervals(times).items()}


def intervals(times: dict[tuple[int, int], float]) -> dict[str, float]:
    """Returns the result of `start`, from the seconds at which each epoch and step was done.

    The progress bar skips steps that follow each other within 50 ms, also the last one, which it
    shows when the epoch is over: the end of the last step is calculated from the one before.
    """
    steps = max(step for epoch, step in times if epoch == 1)
    shown = max((step for epoch, step in times if epoch == 1 and step < steps), default=1)
    step = (times[1, shown] - times[1, 1]) / max(1, shown - 1)
    last = times[1, shown] + (steps - shown) * step
    return {
        "loaded": times[0, 0],
        "first_step": times[1, 1],
        "epoch": times[2, 1] - times[1, 1],
        "overhead": max(0.0, times[2, 1] - last - step),
    }


def table(what: str, result: dict[str, Any]) -> str:
    """Returns the rows of a kind as Markdown."""
    found = {
        name.split(":")[1]: row
        for name, row in result["rows"].items()
        if name.startswith(f"{what}:")
    }
    if not found:
        return ""
    tables = {"parts": _parts, "shapes": _shapes, "start": _start}[what](found)
    machine = result["machine"]
    note = (
        f"On {machine['cores']} cores of {machine['processor']}, {stated(found.values())}, "
        "`python -m benchmarks.training_profile`."
    )
    return "\n\n".join([*tables, note]) + "\n"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = output.parser("training_profile", "Measures where the time of a training goes.")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, metavar="WHAT:NAME")
    parser.add_argument("--dataset", default=DEFAULT_DATASET, help="of `start`")
    parser.add_argument("--batch-size", type=int, metavar="N", help="of `parts` and `shapes`")
    options = parser.parse_args(arguments)
    if options.batch_size is not None and options.batch_size < 1:
        parser.error("a batch has at least one image")
    return options


def _convolve(values: Any, kernel: Any) -> Any:
    import tensorflow as tf

    return tf.nn.conv2d(values, kernel, 1, "SAME")


def _gradient(multiply: Callable[..., Any], of: int, upstream: Any) -> Callable[..., Any]:
    """Returns what computes the gradient of a product by one of its two factors, and no more."""
    import tensorflow as tf

    @tf.function
    def gradient(*factors: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(factors[of])
            product = multiply(*factors)
        return tape.gradient(product, factors[of], output_gradients=upstream)

    return gradient


def _watch(terminal: int, began: float) -> tuple[dict[tuple[int, int], float], str]:
    """Reads a terminal until the first step of the second epoch, or its end; returns its last text.

    The times are the seconds at which each epoch and step, counted from 1, was first shown as done;
    (0, 0) is that at which the network was built.
    """
    times: dict[tuple[int, int], float] = {}
    text, epoch = "", 0
    while (2, 1) not in times:
        try:
            read = os.read(terminal, 4096)
        except OSError:  # Linux: the process closed the other end
            break
        now = time.perf_counter() - began
        text = text[-200:] + read.decode(errors="replace")
        if "\nTraining " in text:
            times.setdefault((0, 0), now)
        last = 0
        for found in PROGRESS.finditer(text):
            if found[1]:
                epoch = int(found[1])
            else:
                times.setdefault((epoch, int(found[2])), now)
            last = found.end()
        text = text[last:]
    return times, text


def _parts(found: dict[str, Any]) -> list[str]:
    tables = []
    for network, row in found.items():
        names = [part for part in PARTS if any(part in row[precision] for precision in PRECISIONS)]
        rows = [_cells(name, [row[x].get(name) for x in PRECISIONS]) for name in names]
        rows.append(_cells("the step, which overlaps them", [row[x]["step"] for x in PRECISIONS]))
        header = [f"{NETWORKS[network][0]}: ms a step", *PRECISIONS]
        tables.append(output.markdown(header, rows, "lrr"))
    return tables


def _shapes(found: dict[str, Any]) -> list[str]:
    tables = []
    for network, row in found.items():
        names = list(next(iter(row["float32"].values())))
        columns = [f"{name}, {precision}" for precision in PRECISIONS for name in names]
        rows = [
            _cells(shape, [row[x][shape].get(name) for x in PRECISIONS for name in names])
            for shape in row["float32"]
        ]
        header = [f"{NETWORKS[network][0]}: GFLOP/s", *columns]
        tables.append(output.markdown(header, rows, "l" + "r" * len(columns)))
    return tables


def _start(found: dict[str, Any]) -> list[str]:
    header = ["preset", "network built", "first step done", "epoch", "between two epochs", "share"]
    rows = [
        [
            f"`{preset}`",
            *(f"{row[name]:.1f} s" for name in ("loaded", "first_step", "epoch")),
            f"{row['overhead']:.2f} s",
            f"{row['overhead'] / row['epoch']:.1%}",
        ]
        for preset, row in found.items()
    ]
    return [output.markdown(header, rows, "lrrrrr")]


def _cells(title: str, values: list[float | None]) -> list[str]:
    return [title, *("" if value is None else f"{value:,.0f}" for value in values)]


if __name__ == "__main__":
    sys.exit(command_line.run(main))
