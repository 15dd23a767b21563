"""Serves trained image classifiers as a web page and an API: the entry of the Space.

python app.py
python app.py --model user/name
python app.py --model runs/mine --model pretrained/cnn --port 8000
"""

# The worker's process imports this file too: what is slow to import is imported where it is used.
import os
import signal
import sys
import threading
from argparse import Namespace
from pathlib import Path
from tempfile import gettempdir

from classifier import command_line

UPLOADS = Path(gettempdir()) / "image-classifier-uploads"


def main(arguments: list[str]) -> None:
    """Chooses the models, builds the page and serves it until it is told to end."""
    options = parse(arguments)
    prepare_environment()

    # Keras takes seconds to import, and so does Gradio: they are imported at the same time.
    from interface.worker import Worker

    worker = Worker()
    try:
        from interface.choice import choose
        from interface.serving import Models

        chosen, notice = choose(options.model, options.revision)
        models = Models(worker, notice)
        for served in chosen:
            models.add(served)

        from interface import page

        serve(page.build(models), page.launch_options(models), options)
    finally:
        worker.stop()


def parse(arguments: list[str]) -> Namespace:
    """Reads the command line; what is not given is left to the environment."""
    parser = command_line.argument_parser("Serves trained image classifiers as a web page.")
    parser.add_argument(
        "--model",
        action="append",
        metavar="SOURCE",
        help="a Hub id, hf://user/name or a model folder; may be repeated. Default: MODEL_ID, else "
        "the models in pretrained/",
    )
    parser.add_argument("--revision", help="of models on the Hub. Default: MODEL_REVISION")
    parser.add_argument("--host", help="address to listen on. Default: GRADIO_SERVER_NAME")
    parser.add_argument("--port", type=int, help="default: GRADIO_SERVER_PORT, else 7860")
    parser.add_argument("--share", action="store_true", help="print a public link")
    return parser.parse_args(arguments)


def prepare_environment() -> None:
    """Keeps uploads in a folder of our own, and reports nothing to anyone."""
    os.environ.setdefault("GRADIO_TEMP_DIR", str(UPLOADS))
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def serve(page, launch_options: dict, options: Namespace) -> None:  # type: ignore[no-untyped-def]
    """Serves the page until Ctrl-C or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    page.launch(
        server_name=options.host,
        server_port=options.port,
        share=options.share or None,
        prevent_thread_lock=True,
        **launch_options,
    )
    ended.wait()
    page.close(verbose=False)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
