"""Serves trained image classifiers as a web page and an API; the entry point of the Space.

python app.py
python app.py --model user/name
python app.py --model runs/mine --model pretrained/cnn --port 8000
"""

# The processes that decode pictures import this file too: slow imports are inside of functions.
from __future__ import annotations

import errno
import gc
import os
import re
import shutil
import signal
import socket
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING

from classifier import command_line
from classifier.errors import ClassifierError, InputError

if TYPE_CHECKING:
    from gradio import Blocks

    from interface.serving import Models

PORTS = range(7860, 7960)  # Gradio's
GRADIO_PROBES = "127.0.0.1"  # the port must be free here too, whatever the host
UPLOADS = "image-classifier-uploads-"  # prefix of folders; the number of the process follows
SECONDS_TO_FINISH = 3.5  # for running requests, of the five seconds after SIGTERM


def main(arguments: list[str]) -> None:
    """Chooses the models, builds the page and serves it until SIGTERM or Ctrl-C."""
    options = parse(arguments)
    # Before Gradio is imported: it reads its variables then, and would choose another port.
    options.host, options.port = address_to_listen_on(options.host, options.port)
    normalise_root_path()
    from interface.choose_models import choose
    from interface.serving import Models

    with upload_folder(), ThreadPoolExecutor(1) as thread:
        choice = thread.submit(choose, options.model, options.revision)
        # Gradio takes seconds to import: a slow Hub can answer meanwhile.
        from interface import page  # noqa: F401

        models = Models(*choice.result())
        try:
            serve(models, options)
        finally:
            models.stop()


def serve(models: Models, options: Namespace) -> None:
    """Serves the page until Ctrl-C or SIGTERM, and completes running requests."""
    from interface import page
    from interface.following import follow
    from interface.gradio_adapter import end
    from interface.hosts import trusts_proxy
    from interface.middleware import RequestGate

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    gate = RequestGate()
    shared = options.share or os.environ.get("GRADIO_SHARE", "").lower() == "true"
    trusting = shared or trusts_proxy()
    models.decoder.start()
    blocks = page.build(models, changing=options.follow is not None)
    mark_for_zero_gpu(blocks)
    try:
        blocks.launch(
            server_name=f"[{options.host}]" if ":" in options.host else options.host,
            server_port=options.port,
            share=options.share or None,
            prevent_thread_lock=True,
            **page.launch_options(blocks, models, gate, trusting=trusting),
        )
    except OSError as error:
        raise ClassifierError(f"cannot listen ({error}): choose another --port") from error
    models.runtime.start()
    page.prepare_figures(models)
    if options.follow is not None:
        follow(models, options.revision or os.environ.get("MODEL_REVISION"), options.follow)
    ended.wait()
    gate.close(SECONDS_TO_FINISH)
    models.stop()  # otherwise the server would wait for requests that hang
    end(blocks)
    gc.freeze()  # skips the last garbage collection, half a second


def mark_for_zero_gpu(blocks: Blocks) -> None:
    """Binds a function marked by `spaces.GPU`: without one, ZeroGPU ends the start of an app.

    It is never called: a picture is classified in milliseconds without a GPU, and no visitor's
    quota is used (Hub documentation, Spaces ZeroGPU, August 2026).
    """
    try:
        import spaces
    except ImportError:  # on any other machine
        return
    from gradio import State

    with blocks:
        State().change(spaces.GPU(lambda: None), api_visibility="private")


def parse(arguments: list[str]) -> Namespace:
    """Parses the command line; defaults come from the environment."""
    parser = command_line.argument_parser("Serves trained image classifiers as a web page.")
    parser.add_argument(
        "--model",
        action="append",
        metavar="SOURCE",
        help="a Hub id, hf://user/name or a model folder; may be repeated. Default: MODEL_ID, else "
        "the models in pretrained/",
    )
    parser.add_argument("--revision", help="of models on the Hub. Default: MODEL_REVISION")
    parser.add_argument(
        "--follow",
        type=float,
        metavar="SECONDS",
        default=os.environ.get("MODEL_FOLLOW") or None,
        help="poll the Hub for new commits of the models at this interval, and serve them. "
        "Default: MODEL_FOLLOW, else never",
    )
    parser.add_argument("--host", help="address to listen on. Default: GRADIO_SERVER_NAME")
    parser.add_argument("--port", type=int, help="default: GRADIO_SERVER_PORT, else 7860")
    parser.add_argument("--share", action="store_true", help="print a public link")
    options = parser.parse_args(arguments)
    if options.follow is not None and not options.follow > 0:
        raise InputError(f"--follow takes a number of seconds above 0. Received: {options.follow}")
    if options.port is not None and not 0 < options.port < 65536:
        raise InputError(f"--port takes a number from 1 to 65535. Received: {options.port}")
    return options


def address_to_listen_on(host: str | None, port: int | None) -> tuple[str, int]:
    """Chooses host and port from the arguments, Gradio's variables, or 127.0.0.1 and a free port.

    Raises:
        InputError: the host or the port is invalid.
        ClassifierError: the port is not available.
    """
    named_host = os.environ.pop("GRADIO_SERVER_NAME", "").strip()
    named_port = os.environ.pop("GRADIO_SERVER_PORT", "").strip()
    for unused in ("GRADIO_NUM_PORTS", "GRADIO_NODE_NUM_PORTS"):  # Gradio fails if it is no number
        os.environ.pop(unused, None)
    host = (host or named_host or "127.0.0.1").strip("[]")
    if port is None and named_port:
        port = int(named_port) if re.fullmatch("[0-9]{1,5}", named_port) else 0
        if not 0 < port < 65536:
            raise InputError(
                f"GRADIO_SERVER_PORT takes a number from 1 to 65535. Received: {named_port[:80]}"
            )
    for candidate in [port] if port else PORTS:
        tried = host
        try:
            for tried in (host, GRADIO_PROBES):
                for family, *_, address in socket.getaddrinfo(
                    tried, candidate, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                ):
                    socket.create_server(address, family=family).close()
        except (OSError, UnicodeError) as error:  # the second for an invalid host name
            number = getattr(error, "errno", None)
            if number == errno.EADDRINUSE and port is None:
                continue
            raise _cannot_listen(tried, candidate, number) from error
        return host, candidate
    raise ClassifierError(f"the ports {PORTS[0]} to {PORTS[-1]} are taken: choose one with --port")


def normalise_root_path() -> None:
    """Normalises `GRADIO_ROOT_PATH` to the only form in which Gradio's routes work: "/demo".

    Raises:
        InputError: it is neither a path nor a URL.
    """
    named = os.environ.get("GRADIO_ROOT_PATH", "").strip().rstrip("/")
    if not named:  # at the top
        return
    if not named.startswith(("http://", "https://")):
        named = f"/{named.lstrip('/')}"
    if not re.fullmatch(r"(https?://[\w.:\[\]-]+)?(/[\w.~%@+-]+)*", named):
        raise InputError(f"GRADIO_ROOT_PATH takes a path such as /demo. Received: {named[:80]}")
    os.environ["GRADIO_ROOT_PATH"] = named


def _cannot_listen(host: str, port: int, number: int | None) -> ClassifierError:
    if number == errno.EADDRINUSE:
        return ClassifierError(
            f"port {port} of {host} is taken by another program: choose another with --port or "
            "GRADIO_SERVER_PORT"
        )
    if number in (errno.EACCES, errno.EPERM):
        return ClassifierError(f"port {port} needs more rights: choose one from 1024 on")
    return InputError(f"--host takes an address or a name of this machine. Received: {host}")


@contextmanager
def upload_folder() -> Iterator[None]:
    """Creates a temporary folder for uploads; deletes it, and those of apps that were killed."""
    for left in Path(gettempdir()).glob(f"{UPLOADS}*"):
        process = left.name.removeprefix(UPLOADS).partition("-")[0]
        if process.isdigit() and not _is_running(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=f"{UPLOADS}{os.getpid()}-", ignore_cleanup_errors=True) as path:
        os.environ.setdefault("GRADIO_TEMP_DIR", path)
        yield


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True


if __name__ == "__main__":
    sys.exit(command_line.run(main, batches=False))
