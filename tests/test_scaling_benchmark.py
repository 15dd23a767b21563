"""`benchmarks.scaling`: its calculation, and its measurements of real workers."""

import pytest

from benchmarks import scaling

TERMS = {
    "fixed": 0.03,
    "input_per_image": 1e-6,
    "compute_per_image": 5e-4,
    "bytes": 60e6,
    "bandwidth": 0.5e9,
}


def figures(batch_size: int = 512) -> dict[str, float]:
    """What a machine with `TERMS` would measure."""
    return {
        "alone": scaling.step_seconds(TERMS, batch_size, 1),
        "whole_batch": scaling.step_seconds(TERMS, batch_size, 1),
        "half_batch": scaling.step_seconds(TERMS, batch_size // 2, 1),
        "input": TERMS["input_per_image"] * batch_size,
        "all_reduce": TERMS["bytes"] / TERMS["bandwidth"],
        "bytes": TERMS["bytes"],
        "two_workers": 0.4,
    }


def test_the_calculation_finds_the_terms_of_what_was_measured():
    found = scaling.calculate(figures(), 512)
    assert found["terms"] == pytest.approx(TERMS)
    assert found["measured"] == {"1": figures()["alone"], "2": 0.4}
    assert found["predicted"]["loopback"]["1"] == pytest.approx(figures()["whole_batch"])


def test_workers_share_the_computing_and_pay_for_the_gradients():
    one, two = (scaling.step_seconds(TERMS, 512, workers) for workers in (1, 2))
    assert two == pytest.approx(one - 5e-4 * 256 + 60e6 / 0.5e9)
    no_network = scaling.step_seconds(TERMS, 512, 1_000_000, bandwidth=1e18)
    assert no_network == pytest.approx(0.03 + 512e-6, rel=1e-3)


@pytest.mark.slow
def test_workers_measure_a_real_sum_of_gradients():
    arguments = ("--batch-size", "8", "--steps", "2")
    answer = scaling.run("all-reduce", [0, 0], *arguments, together=True)
    assert answer["bytes"] == 4 * 14_230_116
    assert answer["all_reduce"] > 0


def test_a_worker_that_fails_is_named():
    with pytest.raises(scaling.ClassifierError, match="nonsense on 1 workers failed"):
        scaling.run("nonsense", [0], "--batch-size", "8", "--steps", "2")
