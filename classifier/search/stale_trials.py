"""Trials whose worker was killed: how they are noticed, and how they are tried again.

Databases have optuna's own heartbeat. Journals and gRPC proxies have none: there a worker counts
up a number in its running trial, and every other worker that sees the number stand still for the
grace period, by its own clock, takes the trial for lost. So no two clocks need to agree.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import optuna
from optuna.storages import BaseStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

HEARTBEAT = "heartbeat"
MAX_RETRIES = 3  # settings that kill every worker that tries them are given up after these


def requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queues a lost trial once more, with what it had drawn (its cell of the grid, too)."""
    RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)(study, trial)


class StaleTrials:
    """Finds the running trials whose workers are gone, whichever the storage.

    Args:
        study: shared by the workers.
        storage: that of the study, from `open_storage`.
        grace: seconds of silence after which a worker counts as lost.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage, grace: int) -> None:
        self.study = study
        self.storage = storage
        self.grace = grace
        self.has_heartbeat = isinstance(storage, RDBStorage)
        self._seen: dict[int, tuple[int, float]] = {}  # trial: its number, and since when

    def collect(self) -> None:
        """Fails every lost trial and queues it again."""
        if self.has_heartbeat:
            optuna.storages.fail_stale_trials(self.study)
        now = time.monotonic()
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            beat = trial.user_attrs.get(HEARTBEAT, 0)
            if self.has_heartbeat and beat:
                continue  # optuna looks after it, as after every one that has begun
            before, since = self._seen.get(trial.number, (None, now))
            if beat != before:
                self._seen[trial.number] = (beat, now)
            elif now - since > self.grace:
                self._fail(trial)

    @contextlib.contextmanager
    def alive(self, trial: optuna.Trial) -> Iterator[None]:
        """Shows the other workers that this trial is being worked on."""
        if self.has_heartbeat:  # optuna's own thread is at it
            trial.set_user_attr(HEARTBEAT, 1)
            yield
            return
        stop = threading.Event()
        thread = threading.Thread(target=self._beat, args=(trial, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _beat(self, trial: optuna.Trial, stop: threading.Event) -> None:
        count = 0
        while True:
            count += 1
            try:
                trial.set_user_attr(HEARTBEAT, count)
            except optuna.exceptions.UpdateFinishedTrialError:
                return  # taken for lost; the trial notices itself at its next epoch
            if stop.wait(max(1, self.grace // 4)):
                return

    def _fail(self, trial: FrozenTrial) -> None:
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        # Another worker may have been quicker: then the trial is queued already.
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            if self.storage.set_trial_state_values(trial_id, state=TrialState.FAIL):
                requeue(self.study, trial)
