"""Measures the time of a distributed training step, and calculates it for more workers.

python -m benchmarks.scaling                  # with nothing else running on the machine

Each worker is a process on a separate core; two workers train over loopback, as in
`train.py --distributed`. The calculation uses four measurements of single workers and of the
connection, but not the measured step of two workers, which it predicts:

    step(P) = fixed + input · B + compute · B / P + all-reduce(P)

- compute: seconds per image, the slope between steps of a whole and of half a batch, while another
  worker does the same on the other core, because cores share the memory bandwidth;
- fixed: the time of a step without images, mainly the optimiser's update of the weights;
- input: seconds per image to gather a batch from memory; every worker gathers the global batch;
- all-reduce(P): a ring sends 2 (P - 1) / P of the gradients' bytes through every worker. Its
  bandwidth is that of a sum of arrays of the gradients' shapes over two workers.

It writes `scaling.json` and `scaling.md`.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from typing import Any

from benchmarks import output
from benchmarks.output import PROJECT
from benchmarks.training import SETTINGS
from classifier import command_line
from classifier.errors import ClassifierError

PREDICTED = (1, 2, 4, 8, 16)  # workers
NETWORKS = {"loopback": None, "10 Gbit/s": 1.25e9, "100 Gbit/s": 12.5e9}  # bytes/s each way


def main(arguments: list[str]) -> None:
    """Measures, calculates, and writes both."""
    options = parse(arguments)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise ClassifierError("two workers need two cores, and this process has one")
    state = output.circumstances("scaling", arguments)
    rounds = [measure(options, cores) for _ in range(options.rounds)]
    figures = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    result = {
        **state,
        **output.machine(),
        "batch_size": options.batch_size,
        "steps": options.steps,
        "rounds": rounds,
        **calculate(figures, options.batch_size),
    }
    output.write("scaling", result, {"scaling.md": table(result)}, options.output)


def measure(options: argparse.Namespace, cores: list[int]) -> dict[str, float]:
    """Returns the seconds of each measurement, and the bytes of the gradients."""
    whole = ["--batch-size", str(options.batch_size), "--steps", str(options.steps)]
    half = ["--batch-size", str(options.batch_size // 2), "--steps", str(options.steps)]
    return {
        "alone": run("step", cores[:1], *whole)["seconds"],
        "whole_batch": run("step", cores[:2], *whole)["seconds"],
        "half_batch": run("step", cores[:2], *half)["seconds"],
        "input": run("input", cores[:1], *whole)["seconds"],
        "two_workers": run("step", cores[:2], *whole, together=True)["seconds"],
        **run("all-reduce", cores[:2], *whole, together=True),
    }


def calculate(figures: dict[str, float], batch_size: int) -> dict[str, Any]:
    """Returns the terms of the calculation, the calculated and the measured times.

    Args:
        figures: seconds of a step with a `whole_batch` and a `half_batch` on workers that do not
            train together, and of a single worker (`alone`); of the `input` of a batch; of the
            `all_reduce` of `bytes` over two workers; and of a step of `two_workers`.
        batch_size: images in a whole batch, B.
    """
    per_image = (figures["whole_batch"] - figures["half_batch"]) / (batch_size / 2)
    reading = figures["input"] / batch_size
    terms = {
        "compute_per_image": per_image - reading,
        "input_per_image": reading,
        "fixed": figures["whole_batch"] - per_image * batch_size,
        "bytes": figures["bytes"],
        "bandwidth": figures["bytes"] / figures["all_reduce"],  # 2 (P - 1) / P is 1 for two
    }
    predicted = {
        network: {
            str(workers): step_seconds(terms, batch_size, workers, bandwidth)
            for workers in PREDICTED
        }
        for network, bandwidth in NETWORKS.items()
    }
    measured = {"1": figures["alone"], "2": figures["two_workers"]}
    return {"terms": terms, "predicted": predicted, "measured": measured}


def step_seconds(
    terms: dict[str, float], batch_size: int, workers: int, bandwidth: float | None = None
) -> float:
    """Returns the calculated seconds of a step.

    Args:
        terms: as `calculate` returns them; seconds and bytes.
        batch_size: images per step, of all workers together.
        workers: their number, P.
        bandwidth: of the network, bytes/s each way; by default the measured one.
    """
    return (
        terms["fixed"]
        + terms["input_per_image"] * batch_size
        + terms["compute_per_image"] * batch_size / workers
        + 2 * (workers - 1) / workers * terms["bytes"] / (bandwidth or terms["bandwidth"])
    )


def run(what: str, cores: list[int], *arguments: str, together: bool = False) -> dict[str, float]:
    """Measures with a worker on each core; returns what the first one prints as JSON.

    Args:
        what: the measurement, as named in `benchmarks.scaling_worker`.
        cores: one for each worker.
        arguments: for all of them.
        together: whether the workers train together or independently.
    """
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if together:
        environment["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = f"127.0.0.1:{output.free_port()}"
        environment["KERAS_DISTRIBUTION_NUM_PROCESSES"] = str(len(cores))
    command = [sys.executable, "-m", "benchmarks.scaling_worker", what, *arguments]
    workers = []
    for number, core in enumerate(cores):
        process = {"KERAS_DISTRIBUTION_PROCESS_ID": str(number)} if together else {}
        workers.append(
            subprocess.Popen(
                [*command, "--core", str(core)],
                cwd=PROJECT,
                env={**environment, **process},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    outputs = [worker.communicate() for worker in workers]
    for worker, (_, errors) in zip(workers, outputs, strict=True):
        if worker.returncode:
            raise ClassifierError(f"{what} on {len(cores)} workers failed: {errors}")
    answer = json.loads(outputs[0][0].splitlines()[-1])
    how = "together" if together else "each for itself"
    print(f"{what}, {len(cores)} workers {how}, {shlex.join(arguments)}: {answer}", flush=True)
    return answer


def table(result: dict[str, Any]) -> str:
    """Returns measured and calculated times as Markdown."""
    names = list(result["predicted"])
    rows = []
    for workers in PREDICTED:
        measured = result["measured"].get(str(workers))
        cells = [str(workers), f"{1000 * measured:.0f} ms" if measured else ""]
        for name in names:
            seconds = result["predicted"][name][str(workers)]
            speed_up = result["predicted"][name]["1"] / seconds
            cells.append(f"{1000 * seconds:.0f} ms ({speed_up:.1f}×)")
        rows.append(cells)
    header = ["workers", "measured", f"calculated: {names[0]}", *names[1:]]
    terms = result["terms"]
    note = (
        f"Batch {result['batch_size']}, float32. Compute {1e3 * terms['compute_per_image']:.2f} ms "
        f"an image, fixed {1e3 * terms['fixed']:.0f} ms, input "
        f"{1e3 * terms['input_per_image'] * result['batch_size']:.1f} ms a batch, gradients "
        f"{terms['bytes'] / 1e6:.0f} MB, all-reduce over loopback "
        f"{terms['bandwidth'] / 1e9:.2f} GB/s. One core of {result['machine']['processor']} a "
        f"worker; medians of {len(result['rounds'])} rounds of {result['steps']} steps. "
        f"{result['date']}, `{result['command']}`."
    )
    return f"{output.markdown(header, rows, 'r' * len(header))}\n\n{note}\n"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    description = "Measures how the time of a training step grows with the workers."
    parser = output.parser("scaling", description)
    parser.add_argument("--batch-size", type=int, default=SETTINGS.batch_size, metavar="N")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="timed, a round")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
