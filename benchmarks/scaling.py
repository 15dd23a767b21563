"""Measures the time of a training step on one worker and on two, with the same global batch.

python -m benchmarks.scaling                  # with nothing else running on the machine

Each worker is a process on a separate core; two workers train over loopback, as in
`train.py --distributed`. It writes `scaling.json` and `scaling.md`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any

from benchmarks import output
from benchmarks.output import PROJECT
from benchmarks.training import SETTINGS
from classifier import command_line
from classifier.errors import ClassifierError


def main(arguments: list[str]) -> None:
    """Measures one worker and two, alternately, and writes the medians."""
    options = parse(arguments)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise ClassifierError("two workers need two cores, and this process has one")
    state = output.circumstances("scaling", arguments)
    rounds = [
        {
            str(workers): step_seconds(cores[:workers], options.batch_size, options.steps)
            for workers in (1, 2)
        }
        for _ in range(options.rounds)
    ]
    result = {
        **state,
        **output.machine(),
        "batch_size": options.batch_size,
        "steps": options.steps,
        "rounds": rounds,
        "measured": {key: statistics.median(each[key] for each in rounds) for key in rounds[0]},
    }
    output.write("scaling", result, {"scaling.md": table(result)}, options.output)


def step_seconds(cores: list[int], batch_size: int, steps: int) -> float:
    """Trains with a worker on each core; returns the median seconds of a step."""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = f"127.0.0.1:{output.free_port()}"
    environment["KERAS_DISTRIBUTION_NUM_PROCESSES"] = str(len(cores))
    command = [sys.executable, "-m", "benchmarks.scaling_worker"]
    workers = [
        subprocess.Popen(
            [*command, str(core), str(batch_size), str(steps)],
            cwd=PROJECT,
            env={**environment, "KERAS_DISTRIBUTION_PROCESS_ID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, core in enumerate(cores)
    ]
    outputs = [worker.communicate() for worker in workers]
    for worker, (_, errors) in zip(workers, outputs, strict=True):
        if worker.returncode:
            raise ClassifierError(f"one of {len(cores)} workers failed: {errors}")
    seconds = json.loads(outputs[0][0].splitlines()[-1])
    print(f"{len(cores)} workers: {seconds:.3f} s a step", flush=True)
    return seconds


def table(result: dict[str, Any]) -> str:
    """Returns the measured times as Markdown."""
    rows = [[workers, f"{1000 * value:.0f} ms"] for workers, value in result["measured"].items()]
    note = (
        f"Batch {result['batch_size']}, float32. One core of {result['machine']['processor']} a "
        f"worker; medians of {len(result['rounds'])} rounds of {result['steps']} steps. "
        f"{result['date']}, `{result['command']}`."
    )
    return f"{output.markdown(['workers', 'a step'], rows, 'rr')}\n\n{note}\n"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    description = "Measures the time of a training step on one worker and on two."
    parser = output.parser("scaling", description)
    parser.add_argument("--batch-size", type=int, default=SETTINGS.batch_size, metavar="N")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="timed, a round")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
