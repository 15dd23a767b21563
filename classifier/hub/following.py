"""Polls a branch on the Hub; a new commit is loaded and tested before it replaces the old one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from classifier.hub.pulling import ResolvedModel, commit_at, pull
from classifier.hub_client import HubError, connect, describe

logger = logging.getLogger(__name__)


@dataclass
class Follower:
    """Polls a branch in a background thread and passes new commits to a callback.

    Attributes:
        repo_id: user/name.
        accept: loads the new model, classifies a test image with it, and then replaces the old
            model. If it raises, the commit is refused and not tried again.
        revision: the branch.
        commit: the commit that is served, None if another model is served.
        interval: seconds between two polls.
        refused: a newer commit that was refused, None if there is none.
    """

    repo_id: str
    accept: Callable[[ResolvedModel], object]
    revision: str = "main"
    commit: str | None = None
    interval: float = 300.0
    refused: str | None = None

    def start(self) -> None:
        """Starts polling every `interval` seconds, until the process ends."""
        threading.Thread(target=self._run, name="hub-follower", daemon=True).start()

    def look(self) -> bool:
        """Polls once; returns whether a new commit is now served."""
        commit, name = None, f"{self.repo_id}@{self.revision}"
        try:
            commit = commit_at(connect(), self.repo_id, self.revision)
            if commit in (self.commit, self.refused):
                return False
            model = pull(self.repo_id, revision=self.revision)
            if model.source != "hub":
                return False  # the Hub became unreachable: the next poll tries again
            self.accept(model)
        except Exception as error:  # the old model stays
            if commit is None or isinstance(error, HubError):  # the Hub may be down
                logger.warning("cannot get a new %s: %s", name, describe(error))
                return False
            self.refused = commit
            reason = " ".join(str(error).split()) or type(error).__name__
            logger.warning("refused commit %s of %s: %s", commit[:7], name, reason)
            return False
        self.commit, self.refused = model.revision, None
        logger.info("now serving commit %s of %s", str(model.revision)[:7], name)
        return True

    def _run(self) -> None:
        while True:
            time.sleep(self.interval)
            self.look()
