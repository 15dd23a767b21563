"""`benchmarks.scaling`: real workers, alone and together."""

import os

import pytest

from benchmarks import scaling

CORE = min(os.sched_getaffinity(0))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_step_seconds_measures_real_workers(workers: int) -> None:
    assert scaling.step_seconds([CORE] * workers, batch_size=8, steps=2) > 0


def test_step_seconds_failed_worker_is_an_error() -> None:
    with pytest.raises(scaling.ClassifierError, match="one of 1 workers failed"):
        scaling.step_seconds([1_000_000], batch_size=8, steps=2)
