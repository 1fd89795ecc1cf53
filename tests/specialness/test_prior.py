"""Plain counting: its limits against their definition, and what it says when nothing was hit."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from reuse_sim.rng import stream
from reuse_sim.specialness import cases, estimate, prior


@given(st.integers(1, 400), st.floats(0.0, 1.0), st.floats(0.5, 0.99))
def test_limits_are_where_the_count_becomes_improbable(n: int, share: float, level: float) -> None:
    hits = round(share * n)
    low, high = prior.share_limits(hits, n, level)
    tail = (1 - level) / 2
    assert 0 <= low <= hits / n <= high <= 1
    if hits > 0:
        assert binom.sf(hits - 1, n, low) == pytest.approx(tail, rel=1e-6)
    if hits < n:
        assert binom.cdf(hits, n, high) == pytest.approx(tail, rel=1e-6)


@pytest.mark.parametrize("case", [
    cases.ball(5, 0.5), cases.cap(5, 0.2), cases.slab(4, 3, 0.6), cases.binary(12, 0.1),
    cases.two_basins(2, 1.5, 0.8, 0.5),
])  # fmt: skip
def test_exact_cases(case: cases.Case) -> None:
    found = estimate(case.problem, "prior", generator=stream(0, "prior"))
    assert abs(found.bits - case.bits) < 4 * found.diagnostics["error_bits"] < 0.3
    assert found.low < found.bits < found.high and found.status == "converged" and found.bound == "two-sided"
    assert found.diagnostics["draws"] == 200_000 <= found.evaluations


def test_nothing_hit_is_a_bound_from_below_and_all_hit_is_no_bits() -> None:
    none = estimate(cases.half_space(3, 20.0).problem, "prior", 0.1, generator=stream(0, "prior"))
    # (1 − p)^n = .05: p is the largest share that still misses all draws with probability .05.
    assert none.bound == "lower" and none.low == pytest.approx(-math.log2(1 - 0.05 ** (1 / 20_000)))
    assert none.low == none.bits == none.high < 294 and "none of 20000 draws" in none.status
    everything = replace(cases.half_space(3, 5.0).problem, tolerance=100.0)
    found = estimate(everything, "prior", 0.1, generator=stream(0, "prior"))
    assert found.bits == found.low == 0 < found.high < 1e-3


def test_a_cost_of_infinity_is_out_of_the_question() -> None:
    case = cases.half_space(2, 1.0)
    nowhere = replace(case.problem, cost=lambda theta: torch.full((len(theta),), math.inf))
    for problem in (nowhere, nowhere.soft(2.0)):
        found = estimate(problem, "prior", 0.1, generator=stream(0, "prior"))
        assert found.bound == "lower" and 10 < found.bits < 20 and found.status != "converged"


def test_the_soft_form_within_its_error_or_bounded_from_above() -> None:
    case = cases.evidence((0.5, 1.0, 3.0), shift=0.7, strength=1.3)
    found = estimate(case.problem, "prior", generator=stream(0, "prior"))
    assert abs(found.bits - case.bits) < 4 * found.diagnostics["error_bits"] < 0.1
    assert found.status == "converged" and found.diagnostics["effective_draws"] > 1000
    hard = cases.evidence((1000.0,) * 6)
    found = estimate(hard.problem, "prior", 0.1, generator=stream(0, "prior"))
    assert found.bound == "upper" and found.high > hard.bits and "effective" not in found.status


def test_intervals_hold_what_is_true() -> None:
    # 200 shares of which .9 should be held or more: Clopper and Pearson's limits err to the wide side.
    held = 0
    for k in range(200):
        case = cases.binary(14, (k % 5) / 14)
        found = estimate(case.problem, "prior", 0.05, generator=stream(k, "prior"))
        held += found.low <= case.bits and (case.bits <= found.high or found.bound == "lower")
    assert held >= 172  # fewer has a chance of 1 in 20 000 at .95
