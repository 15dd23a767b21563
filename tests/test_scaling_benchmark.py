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


@pytest.mark.slow
def test_workers_measure_a_real_sum_of_gradients():
    arguments = ("--batch-size", "8", "--steps", "2")
    answer = scaling.run("all-reduce", [0, 0], *arguments, together=True)
    assert answer["bytes"] == 4 * 14_230_116
    assert answer["all_reduce"] > 0
