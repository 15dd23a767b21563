"""Replaces served models when their branch on the Hub has a new commit."""

from __future__ import annotations

import dataclasses
from functools import partial

from classifier.hub.following import Follower
from classifier.hub.pulling import ResolvedModel
from interface.figures import LOOKS, drawings_of
from interface.serving import Models, Served


def followers(models: Models, seconds: float) -> list[Follower]:
    """Returns what polls the Hub, at this interval, for new commits of the served models.

    A new revision replaces a model after a test.
    """
    return [
        Follower(
            served.name.partition(" ")[0],  # without a number, which tells models apart
            accept=partial(_replace, models, served),
            revision=served.branch or "main",
            commit=served.revision,
            interval=seconds,
        )
        for served in models
        if served.source in ("hub", "cache")
    ]


def _replace(models: Models, old: Served, model: ResolvedModel) -> None:
    served = dataclasses.replace(old, **{**vars(model), "name": old.name})
    models.replace(served)
    models.figures.prepare(drawings_of(served, LOOKS))
