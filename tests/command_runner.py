"""Runs Python commands and snippets one after the other, in a process that imports Keras once.

Reads a JSON object a line: {"argv": […]} holds what follows `python` on a command line, {"code": …,
"page": …} a snippet, which sees what earlier ones of its page have defined. Answers each with
{"status": …, "output": …}.
"""

import json
import os
import runpy
import sys
import tempfile
import traceback
from typing import Any

import numpy as np


def main() -> None:
    """Answers requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    names: dict[str, dict[str, Any]] = {}
    environment = dict(os.environ)
    sys.path[0] = str(os.getcwd())  # noqa: PTH109
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile("w+") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            status = run(request, names)
            output.seek(0)
            print(json.dumps({"status": status, "output": output.read()}), file=answers, flush=True)
        os.environ.clear()
        os.environ.update(environment)


def run(request: dict[str, Any], names: dict[str, dict[str, Any]]) -> int:
    """Returns the exit status of a command or a snippet."""
    try:
        if "argv" in request:
            run_command(request["argv"])
        else:
            # Pages speak of images without saying again where they come from.
            known = names.setdefault(request["page"], {"images": np.zeros((2, 32, 32, 3), "uint8")})
            exec(compile(request["code"], request["page"], "exec"), known)
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def run_command(arguments: list[str]) -> None:
    """Runs `python FILE …` or `python -m MODULE …`; the next finds Keras as a new process does."""
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    finally:
        if "keras" in sys.modules:
            import keras

            keras.config.set_dtype_policy("float32")


if __name__ == "__main__":
    main()
