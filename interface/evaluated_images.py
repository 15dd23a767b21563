"""The test images of the served models, downloaded in the background when they are needed.

A separate process downloads and decodes them into files, which the app maps into memory. The data
set is that of the model's evaluation, or of the variable `DATASET`, read as in the model's
training; requests cannot choose it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import os
import time
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
from pebble import concurrent

from classifier.data.hub_dataset import parse_hub_id
from classifier.data.loading import load_split
from classifier.data.source import DataSource
from classifier.errors import ClassifierError, InputError
from evaluation.samples import stratified_subset
from interface.serving import Served

VARIABLE = "DATASET"  # a Hub id, a folder, the Toronto archive or its folder, for all models
FETCH_SECONDS = 600
RETRY_SECONDS = 60  # after a failure, before the next attempt
# A training from a local copy only records the name of the folder.
HUB_IDS = {"cifar100": "uoft-cs/cifar100", "cifar-100-python": "uoft-cs/cifar100"}
# The data set, a split, and the side of the images in pixels.
Request = tuple[DataSource, str, int]

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
        self._fetches: dict[Request, tuple[float, Future[tuple[Path, str]]]] = {}
        self._folder = TemporaryDirectory(prefix="image-classifier-evaluated-")

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
        fetch = self._fetch(_request(served))
        dataset = str((served.evaluation or {}).get("dataset"))
        try:
            # A visitor who leaves does not cancel it for others.
            folder, fingerprint = await asyncio.shield(asyncio.wrap_future(fetch))
        except Exception as error:
            logger.warning("the images of %s are not available: %s", dataset, error)
            raise ImagesMissingError("unreachable", dataset) from error
        return _matching(served, dataset, folder, fingerprint)

    def _fetch(self, request: Request) -> Future[tuple[Path, str]]:
        if request in self._fetches:
            began, fetch = self._fetches[request]
            failed = fetch.done() and fetch.exception() is not None
            if not failed or time.monotonic() - began < RETRY_SECONDS:
                return fetch
        fetch = _fetch_in_a_process(request, Path(mkdtemp(dir=self._folder.name)))
        self._fetches[request] = time.monotonic(), fetch
        return fetch


def _request(served: Served) -> Request:
    """Returns what a model was evaluated on."""
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
    return source, str(evaluation.get("split") or "test"), served.image_size


def _dataset(evaluation: dict[str, Any]) -> str:
    """Returns the operator's copy, else the Hub id in an evaluation, with its revision."""
    if named := os.environ.get(VARIABLE):
        return str(Path(named).resolve()) if os.path.lexists(named) else named
    dataset = str(evaluation.get("dataset") or "")
    dataset = HUB_IDS.get(dataset, dataset)
    if "/" not in dataset:
        raise ImagesMissingError("local", dataset)
    try:
        parse_hub_id(dataset)
    except InputError:
        raise ImagesMissingError("local", dataset) from None
    revision = evaluation.get("dataset_revision")
    return f"{dataset}@{revision}" if revision and "@" not in dataset else dataset


def _matching(served: Served, dataset: str, folder: Path, fingerprint: str) -> np.ndarray:
    """Returns the images if they are those of the model's predictions."""
    evaluation, predictions = served.evaluation or {}, served.predictions
    labels = np.load(folder / "labels.npy")
    chosen = stratified_subset(labels, evaluation.get("limit"))
    if (
        predictions is None
        or evaluation.get("dataset_fingerprint") not in (None, fingerprint)
        or not np.array_equal(labels[chosen], predictions[1])
    ):
        raise ImagesMissingError("other", dataset)
    images = np.load(folder / "images.npy", mmap_mode="r")
    return images if len(chosen) == len(images) else images[chosen]


@concurrent.process(timeout=FETCH_SECONDS, mp_context=multiprocessing.get_context("spawn"))
def _fetch_in_a_process(request: Request, folder: Path) -> tuple[Path, str]:
    """Writes the arrays of a split into a folder; returns the folder and their fingerprint."""
    os.chdir(folder)  # where no folder has the name of a Hub id
    source, split, size = request
    loaded = load_split(source, split, size=size)
    np.save(folder / "images.npy", loaded.images)
    np.save(folder / "labels.npy", loaded.labels)
    return folder, loaded.fingerprint
