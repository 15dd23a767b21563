"""Replaces served models when their branch on the Hub has a new commit."""

from __future__ import annotations

from functools import partial

from classifier.hub.following import Follower
from classifier.hub.pulling import ResolvedModel
from interface.figures import drawings_of, looks
from interface.serving import Models, Served


def follow(models: Models, revision: str | None, seconds: float) -> list[Follower]:
    """Polls a branch of the Hub, by default main, for new commits of the served models.

    Args:
        models: the served models; a new revision replaces one after a test.
        revision: the branch.
        seconds: between two polls.

    Returns:
        The running followers.
    """

    def replace(name: str, model: ResolvedModel) -> None:
        served = Served(name, model.folder, model.source, model.revision)
        models.replace(served)
        models.figures.prepare(drawings_of(served, looks()))

    followers = []
    for served in models:
        if served.source in ("hub", "cache"):
            follower = Follower(
                served.name,
                accept=partial(replace, served.name),
                revision=revision or "main",
                commit=served.revision,
                interval=seconds,
            )
            follower.start()
            followers.append(follower)
    return followers
