"""Common parts of the commands: standard streams, one-line errors, exit statuses and `--debug`."""

import argparse
import atexit
import gc
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from classifier.environment import prepare_environment
from classifier.errors import ClassifierError, DiskFullError, InputError
from classifier.files import DISK_FULL, temporary_path

OUT_OF_MEMORY = ("OOM when allocating", "RESOURCE_EXHAUSTED")  # of TensorFlow and of JAX
# New objects between garbage collections: `import keras` creates 780,000, which stay; by default
# 8% of its time (4.95 instead of 5.36 s) goes into collections that find nothing.
COLLECTED_AFTER = 50_000
INTERRUPTED = 130  # the shell's convention for a command ended by Ctrl-C: 128 + SIGINT


class OneLineArgumentParser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, without the usage."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parses as usual, and refuses empty values, which are often unset variables."""
        options, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            if action.option_strings and getattr(options, action.dest, None) == "":
                self.error(f"{action.option_strings[-1]} is empty: name a value or leave it out")
        return options, rest

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}. See `{self.prog} --help`.\n")


def argument_parser(description: str, **options: Any) -> argparse.ArgumentParser:
    """Returns a parser with `--debug`, which adds the traceback to an error message."""
    parser = OneLineArgumentParser(description=description, allow_abbrev=False, **options)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def positive(text: str) -> int:
    """Returns a positive integer, the value of an option."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"give a positive integer. Received: {text!r}")
    return int(text)


def check_output(path: Path) -> None:
    """Raises `InputError`, before a long computation, if the file of `--output` cannot be written.

    A file is created beside it for a moment, as when it will be written.
    """
    temporary = temporary_path(path)
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"--output {path} is not a regular file: choose another path")
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        reason = f"{error.strerror}, for a temporary file of {len(temporary.name)} characters"
        raise InputError(f"--output {path} cannot be written ({reason}): choose another") from error


def run(
    main: Callable[[list[str]], None],
    arguments: Sequence[str] | None = None,
    *,
    batches: bool = True,
) -> int:
    """Runs a command and prints its exceptions as one line on standard error.

    Args:
        main: the command; takes the arguments after the program's name.
        arguments: those arguments; `sys.argv[1:]` if not given.
        batches: as in `prepare_environment`.

    Returns:
        The exit status: 0 success, 2 invalid arguments or input, 1 failure at run time,
        130 interrupted from the keyboard.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_streams()
    gc.set_threshold(COLLECTED_AFTER)
    prepare_environment(batches=batches)
    try:
        main(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        _report(str(interrupt) or "interrupted", arguments)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has closed the pipe (`| head`): there is nothing to report.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        ours = isinstance(error, ClassifierError)
        _report(str(error) if ours else _unexpected(error), arguments)
        is_full = isinstance(error, DiskFullError) or getattr(error, "errno", None) in DISK_FULL
        if is_full and "h5py" in sys.modules and "pytest" not in sys.modules:
            atexit.register(os._exit, 1)  # HDF5 would write again, and crash
        return getattr(error, "exit_status", 1)
    return 0


def _prepare_streams() -> None:
    """Opens closed standard streams, and has characters escaped that a terminal cannot show."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed, as by `>&-`: files would get its number
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _unexpected(error: Exception) -> str:
    if isinstance(error, MemoryError) or any(word in str(error) for word in OUT_OF_MEMORY):
        text = "there is not enough memory: lower batch_size, or choose a smaller network"
    elif isinstance(error, OSError) and error.errno in DISK_FULL:
        place = f" of {error.filename}" if error.filename else ""
        text = f"the disk{place} is full: free some space"
    elif isinstance(error, OSError) and error.filename and error.strerror:
        text = f"cannot use {error.filename} ({error.strerror})"
    else:
        text = f"{type(error).__name__}: {error}"
    return f"{text}. Run again with --debug for details."


def _report(message: str, arguments: list[str]) -> None:
    if "--debug" in arguments:
        traceback.print_exc()
    print("error: " + " ".join(message.split()), file=sys.stderr)
