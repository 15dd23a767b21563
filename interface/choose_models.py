"""Chooses the models to serve: the configured ones, otherwise the embedded ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from classifier.errors import ClassifierError, InputError
from classifier.hub.sources import PRETRAINED, embedded_models, locate
from interface.serving import Served

# The first one that exists is the default.
EMBEDDED_ORDER = ("mlp", "mlp-alone", "mlp-baseline", "cnn")


def choose(
    named: Sequence[str] | None = None, revision: str | None = None
) -> tuple[list[Served], str | None]:
    """Finds the models of the command line, of `MODEL_ID` or, without either, of `pretrained/`.

    Models of the Hub are downloaded or, if it is not reachable, taken from the cache. If no model
    is available, the embedded ones are served.

    Returns:
        The models, the default first, and a notice for visitors if they are not the requested ones.

    Raises:
        InputError: a source on the command line is invalid; in `MODEL_ID` it causes a notice.
        ClassifierError: there is no model at all.
    """
    sources = named or [item.strip() for item in os.environ.get("MODEL_ID", "").split(",")]
    sources = list(dict.fromkeys(filter(None, sources)))
    revision = revision or os.environ.get("MODEL_REVISION") or None
    if not sources:
        return embedded(PRETRAINED), None
    found: list[Served] = []
    problems: list[str] = []
    for outcome in _found(sources, revision):
        if isinstance(outcome, Served):
            found.append(_with_unique_name(outcome, found))
        elif named and isinstance(outcome, InputError):
            raise outcome
        else:
            problems.append(str(outcome))
    problems += [served.reason for served in found if served.reason]
    return found or embedded(PRETRAINED), "; ".join(problems) or None


def embedded(folder: Path) -> list[Served]:
    """Returns the embedded models, the default first; raises `ClassifierError` without any."""
    models = {model.path.name: model for model in embedded_models(folder)}
    if not models:
        raise ClassifierError(f"{folder} holds no model: name one with --model")
    names = sorted(models, key=lambda name: (*(name != first for first in EMBEDDED_ORDER), name))
    return [Served(name, models[name], "embedded") for name in names]


def _found(sources: Sequence[str], revision: str | None) -> list[Served | ClassifierError]:
    """Locates all models concurrently: the timeout of the Hub is waited for only once."""

    def attempt(source: str) -> Served | ClassifierError:
        try:
            branch = revision or source.partition("@")[2] or "main"
            return Served(**vars(locate(source, revision=revision)), branch=branch)
        except ClassifierError as error:
            return error

    with ThreadPoolExecutor(len(sources)) as threads:
        return list(threads.map(attempt, sources))


def _with_unique_name(served: Served, others: Sequence[Served]) -> Served:
    """Appends a number to a name that is taken."""
    taken = {other.name for other in others}
    if served.name not in taken:
        return served
    number = next(n for n in range(2, len(taken) + 3) if f"{served.name} ({n})" not in taken)
    return replace(served, name=f"{served.name} ({number})")
