"""Detects stale trials, whose worker was killed, and queues them again.

Databases have optuna's own heartbeat. Journals and gRPC proxies have none: there, each worker
increments a counter in its running trial. A trial is stale if another worker sees no increment for
the grace period. Each worker uses its own clock: clocks need not be synchronised.
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
MAX_RETRIES = 3  # for settings that kill every worker


def requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queues a trial again with the same parameters and grid cell."""
    RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)(study, trial)


class StaleTrials:
    """Finds running trials without a live worker, in any storage.

    Args:
        study: the study that the workers share.
        storage: its storage, from `open_storage`.
        grace: seconds without a heartbeat after which a trial is stale.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage, grace: int) -> None:
        self.study = study
        self.storage = storage
        self.grace = grace
        self.has_heartbeat = isinstance(storage, RDBStorage)
        self._seen: dict[
            int, tuple[int, float]
        ] = {}  # by trial: counter, and time of its last change

    def collect(self) -> None:
        """Fails stale trials and queues them again."""
        if self.has_heartbeat:
            optuna.storages.fail_stale_trials(self.study)
        now = time.monotonic()
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            heartbeat = trial.user_attrs.get(HEARTBEAT, 0)
            if self.has_heartbeat and heartbeat:
                continue  # optuna's heartbeat covers it
            before, since = self._seen.get(trial.number, (None, now))
            if heartbeat != before:
                self._seen[trial.number] = (heartbeat, now)
            elif now - since > self.grace:
                self._fail(trial)

    @contextlib.contextmanager
    def alive(self, trial: optuna.Trial) -> Iterator[None]:
        """Sends heartbeats while the trial runs."""
        if self.has_heartbeat:  # optuna's own thread sends them
            trial.set_user_attr(HEARTBEAT, 1)
            yield
            return
        stop = threading.Event()
        thread = threading.Thread(target=self._send_heartbeats, args=(trial, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _send_heartbeats(self, trial: optuna.Trial, stop: threading.Event) -> None:
        count = 0
        while True:
            count += 1
            try:
                trial.set_user_attr(HEARTBEAT, count)
            except optuna.exceptions.UpdateFinishedTrialError:
                return  # another worker failed it; the trial stops at its next report
            if stop.wait(max(1, self.grace // 4)):
                return

    def _fail(self, trial: FrozenTrial) -> None:
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        # Another worker may have queued the trial already.
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            if self.storage.set_trial_state_values(trial_id, state=TrialState.FAIL):
                requeue(self.study, trial)
