"""Detects stale trials, whose worker was killed.

Optuna has heartbeats in databases only, not in journals or behind a gRPC server. So each worker
counts up an attribute of its running trial. A trial is stale if another worker sees the same count
for the whole grace period, by its own clock: clocks need not be synchronised.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

HEARTBEAT = "heartbeat"


@contextlib.contextmanager
def heartbeats(trial: optuna.Trial, *, grace: float) -> Iterator[None]:
    """Sends heartbeats while the trial runs, several in each grace period of so many seconds."""
    stop = threading.Event()

    def send() -> None:
        count = 0
        # Another worker may have failed the trial; this one then stops at its next report.
        with contextlib.suppress(UpdateFinishedTrialError):
            while not stop.is_set():
                count += 1
                trial.set_user_attr(HEARTBEAT, count)
                stop.wait(max(1, grace / 4))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@dataclass
class StaleTrials:
    """The running trials of a study whose heartbeats have stopped.

    Attributes:
        study: the study that the workers share.
        grace: seconds without a heartbeat after which a trial is stale.
    """

    study: optuna.Study
    grace: float
    # Of each trial: its count, and the time when that last changed.
    _seen: dict[int, tuple[int, float]] = field(default_factory=dict, init=False)

    def fail(self) -> None:
        """Ends stale trials as failed."""
        now = time.monotonic()
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            count = trial.user_attrs.get(HEARTBEAT, 0)
            before, since = self._seen.get(trial.number, (None, now))
            if count != before:
                self._seen[trial.number] = (count, now)
            elif now - since > self.grace:
                with contextlib.suppress(UpdateFinishedTrialError):  # its worker was just in time
                    self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
