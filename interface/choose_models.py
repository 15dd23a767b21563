"""Chooses the models to serve: those that are named, else those that lie in the repository."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from classifier.errors import ClassifierError, InputError
from classifier.hub.pulling import START_UP_SECONDS
from classifier.hub.sources import PRETRAINED, embedded_models, locate
from interface.serving import Served

# The first of these that is there is the default.
EMBEDDED_ORDER = ("mlp", "mlp-baseline", "cnn")


def choose(
    named: Sequence[str] | None = None, revision: str | None = None
) -> tuple[list[Served], str | None]:
    """Finds the models that the command line, else `MODEL_ID`, else `pretrained/` names.

    Each is fetched from the Hub, else taken from the cache; if none of them can be had, the
    embedded models take their place.

    Args:
        named: sources named on the command line; None if there are none.
        revision: of models on the Hub; `MODEL_REVISION` if not given.

    Returns:
        The models, the default first, and what to tell visitors if they are not those that were
        named.

    Raises:
        InputError: a source on the command line is none; the same in `MODEL_ID` is only told.
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
            found.append(_named_apart(outcome, found))
        elif named and isinstance(outcome, InputError):
            raise outcome
        else:
            problems.append(str(outcome))
    problems += [served.reason for served in found if served.reason]
    return found or embedded(PRETRAINED), "; ".join(problems) or None


def embedded(folder: Path) -> list[Served]:
    """Returns the models that lie in the repository, the default first.

    Raises:
        ClassifierError: there are none.
    """
    models = {model.path.name: model for model in embedded_models(folder)}
    if not models:
        raise ClassifierError(f"{folder} holds no model: name one with --model")
    names = sorted(models, key=lambda name: (*(name != first for first in EMBEDDED_ORDER), name))
    return [Served(name, models[name], "embedded") for name in names]


def _found(sources: Sequence[str], revision: str | None) -> list[Served | ClassifierError]:
    """Looks for all of them at once, so that a silent Hub costs its ten seconds only once."""

    def attempt(source: str) -> Served | ClassifierError:
        try:
            return Served(**vars(locate(source, revision=revision, timeout=START_UP_SECONDS)))
        except ClassifierError as error:
            return error

    with ThreadPoolExecutor(len(sources)) as threads:
        return list(threads.map(attempt, sources))


def _named_apart(served: Served, others: Sequence[Served]) -> Served:
    """Gives a second folder of the same name another one."""
    taken = {other.name for other in others}
    if served.name not in taken:
        return served
    number = next(n for n in range(2, len(taken) + 3) if f"{served.name} ({n})" not in taken)
    return replace(served, name=f"{served.name} ({number})")
