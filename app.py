"""Serves trained image classifiers as a web page and an API; the entry point of the Space.

python app.py
python app.py --model user/name
python app.py --model runs/mine --model pretrained/cnn --port 8000
"""

# The processes that decode pictures import this file too: slow imports are inside of functions.
from __future__ import annotations

import gc
import os
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

UPLOADS = "image-classifier-uploads-"  # prefix of folders; the number of the process follows
SECONDS_TO_FINISH = 3  # for running requests, of the five seconds after SIGTERM


def main(arguments: list[str]) -> None:
    """Chooses the models, builds the page and serves it until SIGTERM or Ctrl-C."""
    options = parse(arguments)
    check_host(options.host)
    os.environ.pop("GRADIO_SERVER_NAME", None)  # Gradio would only take it for IPv4
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
    from interface import page, uploads
    from interface.following import followers
    from interface.gradio_adapter import end

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    models.decoder.start()
    blocks = page.build(models, changing=options.follow is not None)
    mark_for_zero_gpu(blocks)
    try:
        blocks.launch(
            server_name=f"[{options.host}]" if ":" in options.host else options.host,
            server_port=options.port,
            share=options.share or None,
            prevent_thread_lock=True,
            **page.launch_options(models),
        )
    except OSError as error:
        raise ClassifierError(f"cannot listen ({error}): choose another --port") from error
    threading.Thread(target=uploads.delete_old, args=[ended], daemon=True).start()
    models.runtime.start()
    page.prepare_figures(models)
    if options.follow is not None:
        for follower in followers(models, options.follow):
            follower.start()
    ended.wait()
    end(blocks, SECONDS_TO_FINISH, models.stop)
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
    parser.add_argument(
        "--host",
        type=lambda host: host.strip("[]"),
        default=os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1",
        help="address to listen on. Default: GRADIO_SERVER_NAME, else 127.0.0.1",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=os.environ.get("GRADIO_SERVER_PORT") or None,
        help="default: GRADIO_SERVER_PORT, else the first free one from 7860 on",
    )
    parser.add_argument("--share", action="store_true", help="print a public link")
    options = parser.parse_args(arguments)
    if options.follow is not None and not options.follow > 0:
        raise InputError(f"--follow takes a number of seconds above 0. Received: {options.follow}")
    if options.port is not None and not 0 < options.port < 65536:
        raise InputError(f"--port takes a number from 1 to 65535. Received: {options.port}")
    return options


def check_host(host: str) -> None:
    """Raises `InputError` unless the app can listen on a host: Gradio would try 100 ports."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, 0), family=family).close()
    except (OSError, UnicodeError):  # the second for an invalid name
        raise InputError(
            f"--host takes an address or a name of this machine. Received: {host}"
        ) from None


def normalise_root_path() -> None:
    """Normalises `GRADIO_ROOT_PATH` to the only form in which Gradio's routes work: "/demo"."""
    root = os.environ.get("GRADIO_ROOT_PATH", "").strip().strip("/")
    if root and not root.startswith(("http://", "https://")):
        root = f"/{root}"
    os.environ["GRADIO_ROOT_PATH"] = root


@contextmanager
def upload_folder() -> Iterator[None]:
    """Creates a temporary folder for uploads; deletes it, and those of apps that were killed."""
    place = os.environ.get("GRADIO_TEMP_DIR") or gettempdir()
    for left in Path(place).glob(f"{UPLOADS}*"):
        process = left.name.removeprefix(UPLOADS).partition("-")[0]
        if process.isdigit() and not _is_running(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    prefix = f"{UPLOADS}{os.getpid()}-"
    with TemporaryDirectory(prefix=prefix, dir=place, ignore_cleanup_errors=True) as path:
        os.environ["GRADIO_TEMP_DIR"] = path
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
