"""The test images of the served models, downloaded in the background when they are needed.

A separate process downloads and decodes them into files, which the app maps into memory. The data
set is that of the model's evaluation, or of the variable `DATASET`, read as in the model's
training; requests cannot choose it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from classifier.data.source import DataSource
from classifier.errors import ClassifierError, InputError
from interface.serving import Served

VARIABLE = "DATASET"  # a Hub id, a folder, the Toronto archive or its folder, for all models
FETCH_SECONDS = 600
RETRY_SECONDS = 60  # after a failure, before the next attempt
# A training from a local copy only records the name of the folder.
HUB_IDS = {"cifar100": "uoft-cs/cifar100", "cifar-100-python": "uoft-cs/cifar100"}
PROJECT = Path(__file__).resolve().parent.parent

logger = logging.getLogger(__name__)


class ImagesMissingError(ClassifierError):
    """The images are not available.

    Attributes:
        reason: "unevaluated", "local", "unreachable" or "other": the key of a text.
        dataset: their data set.
    """

    def __init__(self, reason: str, dataset: str = "") -> None:
        super().__init__(f"the images of {dataset or 'the model'} are not available ({reason})")
        self.reason, self.dataset = reason, dataset


class EvaluatedImages:
    """Downloads each data set once, at the first request."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="images")
        self._lock = threading.Lock()
        self._fetches: dict[tuple[str, ...], tuple[float, Future[Path]]] = {}
        self._folder: TemporaryDirectory[str] | None = None

    def is_cached(self, served: Served) -> bool:
        """Whether the images of a model have been fetched."""
        try:
            _, fetch = self._fetches[_request(served)]
        except (KeyError, ImagesMissingError):
            return False
        return fetch.done() and fetch.exception() is None

    async def load(self, served: Served) -> np.ndarray:
        """Returns the images of a model's stored predictions, uint8, (N, S, S, 3), in their order.

        Raises:
            ImagesMissingError: they are not available, or are different from those.
        """
        request = _request(served)
        dataset = str((served.evaluation or {}).get("dataset"))
        fetch = asyncio.wrap_future(self._fetch(request))
        try:
            # A visitor who leaves does not cancel it for others.
            folder = await asyncio.shield(fetch)
        except ClassifierError as error:
            logger.warning("the images of %s are not available: %s", dataset, error)
            raise ImagesMissingError("unreachable", dataset) from error
        return _matching(served, dataset, folder)

    def _fetch(self, request: tuple[str, ...]) -> Future[Path]:
        with self._lock:
            known = self._fetches.get(request)
            if known is not None:
                began, fetch = known
                failed = fetch.done() and fetch.exception() is not None
                if not failed or time.monotonic() - began < RETRY_SECONDS:
                    return fetch
            if self._folder is None:
                self._folder = TemporaryDirectory(prefix="image-classifier-evaluated-")
            folder = Path(self._folder.name) / str(len(self._fetches))
            fetch = self._threads.submit(_fetch_in_a_process, request, folder)
            self._fetches[request] = (time.monotonic(), fetch)
            return fetch


def _request(served: Served) -> tuple[str, ...]:
    """Returns the arguments of `main`, but the folder: what a model was evaluated on."""
    evaluation = served.evaluation
    if evaluation is None or served.predictions is None:
        raise ImagesMissingError("unevaluated")
    dataset = _dataset(evaluation)
    try:
        source = DataSource.from_options(
            argparse.Namespace(dataset=dataset), served.training.get("dataset")
        )
    except (InputError, TypeError):  # of a damaged `training.json`
        raise ImagesMissingError("other", dataset) from None
    split = str(evaluation.get("split") or "test")
    return (*source.arguments(), split, str(served.image_size))


def _dataset(evaluation: dict[str, Any]) -> str:
    """Returns the operator's copy, else the Hub id in an evaluation, with its revision."""
    if named := os.environ.get(VARIABLE):
        return str(Path(named).resolve()) if os.path.lexists(named) else named
    dataset = str(evaluation.get("dataset") or "")
    dataset = HUB_IDS.get(dataset, dataset)
    if "/" not in dataset:
        raise ImagesMissingError("local", dataset)
    from classifier.data.hub_dataset import parse_hub_id

    try:
        parse_hub_id(dataset)
    except InputError:
        raise ImagesMissingError("local", dataset) from None
    revision = evaluation.get("dataset_revision")
    return f"{dataset}@{revision}" if revision and "@" not in dataset else dataset


def _matching(served: Served, dataset: str, folder: Path) -> np.ndarray:
    """Returns the images if they are those of the model's predictions."""
    from evaluation.samples import stratified_subset

    evaluation, predictions = served.evaluation or {}, served.predictions
    labels = np.load(folder / "labels.npy")
    identity = json.loads((folder / "identity.json").read_text(encoding="utf-8"))
    chosen = stratified_subset(labels, evaluation.get("limit"))
    fingerprint = evaluation.get("dataset_fingerprint")
    if (
        predictions is None
        or fingerprint not in (None, identity["fingerprint"])
        or not np.array_equal(labels[chosen], predictions[1])
    ):
        raise ImagesMissingError("other", dataset)
    images = np.load(folder / "images.npy", mmap_mode="r")
    return images if len(chosen) == len(images) else images[chosen]


def _fetch_in_a_process(request: tuple[str, ...], folder: Path) -> Path:
    try:
        result = subprocess.run(
            [sys.executable, "-m", "interface.evaluated_images", *request, str(folder)],
            cwd=folder.parent,  # where no folder has the name of a Hub id
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ClassifierError(f"not fetched within {FETCH_SECONDS} s") from None
    if result.returncode:
        raise ClassifierError((result.stderr.strip().splitlines() or ["no error message"])[-1])
    return folder


def main(arguments: list[str]) -> None:
    """Fetches a split and writes its arrays into a new folder, complete, by rename."""
    from classifier.command_line import argument_parser
    from classifier.data.loading import load_split
    from classifier.data.source import add_data_arguments
    from classifier.files import write_atomically

    parser = argument_parser("Fetches the images that a model was evaluated on.")
    add_data_arguments(parser)
    parser.add_argument("split")
    parser.add_argument("size", type=int)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    split = load_split(DataSource.from_options(options), options.split, size=options.size)

    def write(path: Path) -> None:
        path.mkdir()
        np.save(path / "images.npy", split.images)
        np.save(path / "labels.npy", split.labels)
        identity = {"fingerprint": split.fingerprint}
        (path / "identity.json").write_text(json.dumps(identity), encoding="utf-8")

    write_atomically(options.folder, write)


if __name__ == "__main__":
    from classifier import command_line

    sys.exit(command_line.run(main))
