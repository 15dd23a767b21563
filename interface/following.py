"""Keeps the served models at the head of their branches on the Hub."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from classifier.hub import Follower, Pulled
from interface.serving import Models, Served


def follow(models: Models, revision: str | None, seconds: float) -> list[Follower]:
    """Looks for new commits of every served model of the Hub, and swaps when one answers.

    Args:
        models: the served models.
        revision: the branch; main if not given.
        seconds: between two looks.

    Returns:
        The followers, started.
    """
    followers = []
    for served in models:
        if served.source not in ("hub", "cache"):
            continue
        follower = Follower(
            served.name,
            accept=_taking_over(models, served.name),
            revision=revision,
            commit=served.revision,
            interval=seconds,
        )
        follower.start()
        followers.append(follower)
    return followers


def _taking_over(models: Models, name: str) -> Callable[[Pulled], None]:
    def accept(pulled: Pulled) -> None:
        served = Served(name, pulled.folder, pulled.source, pulled.commit)
        test_image = np.full((1, served.image_size, served.image_size, 3), 127, np.uint8)
        models.replace(served, test_image)

    return accept
