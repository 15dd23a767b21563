"""Runs a command of the project whose first training stops for good at the start of an epoch.

python tests/held_training.py EPOCH train.py …

It says so in a line, and lives on as a training that takes long: a test kills it.
"""

import sys
import time

from command_runner import run_command

HELD = "held"


def main(epoch: int, arguments: list[str]) -> None:
    """Runs the command in the folder of the project.

    Args:
        epoch: counted from 1.
        arguments: what follows `python` on the command line.
    """
    sys.path.insert(0, "")
    from classifier.training.checkpoints import RunState

    begin = RunState.on_epoch_begin

    def hold(state: RunState, index: int, logs: dict[str, float] | None = None) -> None:
        begin(state, index, logs)
        if index + 1 == epoch:
            print(HELD, flush=True)
            time.sleep(600)

    RunState.on_epoch_begin = hold  # type: ignore[method-assign]
    run_command(arguments)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
