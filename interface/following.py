"""Replaces served models when their branch on the Hub has a new commit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from classifier.hub import Follower, Found
from interface.serving import Models, Served


def follow(models: Models, revision: str | None, seconds: float) -> list[Follower]:
    """Polls the Hub for new commits of the served models, which replace them after a test.

    The revision is a branch, by default main; the seconds lie between two polls. Returns the
    running followers.
    """
    followers = []
    for served in models:
        if served.source not in ("hub", "cache"):
            continue
        follower = Follower(
            served.name,
            accept=_replacement(models, served.name),
            revision=revision,
            commit=served.revision,
            interval=seconds,
        )
        follower.start()
        followers.append(follower)
    return followers


def _replacement(models: Models, name: str) -> Callable[[Found], None]:
    def accept(found: Found) -> None:
        served = Served(name, found.folder, found.source, found.revision)
        test_image = np.full((1, served.image_size, served.image_size, 3), 127, np.uint8)
        models.replace(served, test_image)

    return accept
