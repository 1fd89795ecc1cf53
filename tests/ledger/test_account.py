"""The ledger's identities, and the bounds that say what its entries can be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc
from scipy.stats import chi2

from reuse_sim.errors import InputError
from reuse_sim.ledger import account
from reuse_sim.ledger.account import Ledger
from reuse_sim.rng import stream

LENGTH = st.floats(0, 1e4)


def cap_bits(d: int, tolerance: float) -> float:
    """S of a linear human of d inputs that may answer a share `tolerance` of questions otherwise (Li 2011)."""
    return -math.log2(betainc((d - 1) / 2, 0.5, math.sin(math.pi * tolerance) ** 2) / 2)


@given(LENGTH, LENGTH, LENGTH, LENGTH, LENGTH)
def test_the_intended_pair_wins_where_the_rule_says_so(t: float, h: float, f: float, r: float, s: float) -> None:
    ledger = Ledger(t, h, f, r, s)
    assert ledger.profit == pytest.approx(ledger.reuse - ledger.intended, abs=1e-9)
    assert (ledger.profit > 0) == (s - t - f + r > 0)
    assert ledger.plain - ledger.intended == pytest.approx(s, abs=1e-9)


def test_at_equality_nobody_wins() -> None:
    assert Ledger(40, 70, 3, 1, 42).profit == 0
    assert Ledger(40, 70, 3, 1, 42.5).profit > 0 > Ledger(40, 70, 3, 1, 41.5).profit


@pytest.mark.parametrize("entry", ["teacher", "human", "head_teacher", "head_human"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_no_length_is_below_zero_or_infinite(entry: str, value: float) -> None:
    given = {"teacher": 1.0, "human": 1.0, "head_teacher": 1.0, "head_human": 1.0, "specialness": 1.0, entry: value}
    with pytest.raises(InputError, match=entry):
        Ledger(**given)


@pytest.mark.parametrize("most", [3.0, 17.0, 60.0])
def test_a_tolerance_of_ones_own_overpays_by_what_is_charged(most: float) -> None:
    """For p uniform the mean of min(1/p, 2^s), less the charge in bits, is 1."""
    u = np.linspace(0, 1, 200_001)[1:] - 2.5e-6
    log_p = -most * math.log(2) * u  # p from 2^-s to 1, evenly in its log
    inner = np.mean(np.exp(-log_p) * np.exp(log_p)) * most * math.log(2)  # ∫ (1/p) dp over it
    mean = inner + 2.0**most * 2.0**-most  # and below it the cap
    assert mean * 2.0 ** -account.overpaid_bits(most) == pytest.approx(1, abs=1e-9)


def test_draws_of_the_reference_are_overpaid_by_no_more() -> None:
    p = torch.rand(400_000, generator=stream(0, "p"), dtype=torch.float64)
    paid = p.reciprocal().clamp(max=2.0**12)
    error = float(paid.std()) / len(p) ** 0.5
    assert abs(float(paid.mean()) - 2 ** account.overpaid_bits(12)) < 4 * error


def test_the_covering_bound_is_not_the_mean_specialness() -> None:
    """16 centres, one with a mass of .9: a code of one length takes 4 bits, and the mean S is more than that."""
    mass = torch.tensor([0.9] + [0.1 / 15] * 15, dtype=torch.float64)
    s = -mass.log2()
    assert account.covering_bits(s) == pytest.approx(4, abs=1e-12) and float(s.mean()) > 6.5
    # As many bits as there are balls of one size; by shares, the mean over teachers as they occur.
    assert account.covering_bits(torch.full((7,), 9.0)) == pytest.approx(9)
    by_share = -math.log2(float((mass * mass).sum()))
    assert account.covering_bits(s, mass) == pytest.approx(by_share)


@given(st.lists(st.floats(0, 200), min_size=1, max_size=20))
def test_the_covering_bound_lies_between_the_least_and_the_mean(s: list[float]) -> None:
    bits = torch.tensor(s, dtype=torch.float64)
    assert min(s) - 1e-9 <= account.covering_bits(bits) <= float(bits.mean()) + 1e-9


@pytest.mark.parametrize("d, off, tolerance", [(30, 7, 0.1), (50, 20, 0.1), (40, 40, 0.05), (60, 5, 0.2)])
def test_what_is_inactive_on_distribution_is_never_paid_back(d: int, off: int, tolerance: float) -> None:
    """Linear humans: the deficit per further input goes to −log2 sin(πτ), the cap's shrinking by a dimension."""
    deficit = account.off_only_deficit(cap_bits(d, tolerance), cap_bits(d + off, tolerance))
    limit = -math.log2(math.sin(math.pi * tolerance))
    assert limit < deficit / off < limit + 0.75 / d  # the boundary's own term, ½ log2 (1 + 1/d), goes as 1/d


def test_the_deficits_on_record() -> None:
    found = [account.off_only_deficit(cap_bits(50, 0.1), cap_bits(50 + off, 0.1)) for off in (5, 20, 50)]
    assert found == pytest.approx([8.5, 34.1, 85.2], abs=0.06)


def test_the_soft_reward_gives_nothing_for_nothing() -> None:
    """C = θ² under N(0, 1): the evidence is (1 + 2β)^−½, and 2^return is 1 on average over the reference."""
    strength = 3.0
    bits = 0.5 * math.log2(1 + 2 * strength)
    theta = torch.randn(200_000, generator=stream(0, "θ"), dtype=torch.float64)
    paid = 2 ** torch.tensor([account.soft_return_bits(bits, strength, float(c)) for c in theta.square()[:20_000]])
    error = float(paid.std()) / len(paid) ** 0.5
    assert abs(float(paid.mean()) - 1) < 4 * error and error < 0.02
    assert account.soft_return_bits(bits, strength, 0.0) == bits


@pytest.mark.parametrize("d", [20, 100, 600])
def test_the_hard_event_takes_more_bits_than_the_expected_one(d: int) -> None:
    """C = |θ|² under N(0, I): the Gibbs law has sd s with d s² = τ, and the event is a χ² tail."""
    tolerance = 0.2 * d
    s2 = tolerance / d
    beta, sd = (1 / s2 - 1) / 2, s2 * math.sqrt(2 * d)
    expected = d / 2 * (s2 - 1 - math.log(s2)) / math.log(2)
    hard = -float(chi2.logcdf(tolerance, d)) / math.log(2)
    assert hard - expected == pytest.approx(account.expected_to_hard_bits(beta, sd), abs=3 / math.sqrt(d))
