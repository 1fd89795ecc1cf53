"""Networks that compute a truth table, and the measure that networks put on functions."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chi2

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.specialness import CountingMeasure, boolean, cases, estimate

BRUTE = {(3, "first"): (7.524, 0.010), (3, "and"): (8.134, 0.012), (3, "majority"): (9.827, 0.022),
         (4, "first"): (9.482, 0.019), (4, "majority"): (13.377, 0.074)}  # fmt: skip
"""Bits and standard errors of 4 million draws each, counted elsewhere."""


@pytest.mark.parametrize(("n", "table"), BRUTE)
def test_by_way_of_ever_fewer_errors(n: int, table: str) -> None:
    bits, error = BRUTE[n, table]
    found = estimate(boolean.problem(n, table), "subset", generator=stream(0, "subset"))
    own = found.diagnostics["error_bits"]
    assert abs(found.bits - bits) < 4 * (own**2 + error**2) ** 0.5 < 1.5
    assert found.status == "converged"


@pytest.mark.parametrize(("n", "table"), [(3, "first"), (3, "and"), (4, "first")])
def test_by_counting(n: int, table: str) -> None:
    bits, error = BRUTE[n, table]
    found = estimate(boolean.problem(n, table), "prior", generator=stream(0, "prior"))
    own = found.diagnostics["error_bits"]
    assert abs(found.bits - bits) < 4 * (own**2 + error**2) ** 0.5 < 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("n", "table"), BRUTE)
def test_by_counting_more(n: int, table: str) -> None:
    bits, error = BRUTE[n, table]
    found = estimate(boolean.problem(n, table), "prior", 10, generator=stream(1, "prior"))
    own = found.diagnostics["error_bits"]
    assert abs(found.bits - bits) < 4 * (own**2 + error**2) ** 0.5


@pytest.mark.slow
def test_parity_lies_beyond_counting() -> None:
    assert estimate(boolean.problem(3, "parity"), "prior", generator=stream(0, "prior")).bound == "lower"
    found = estimate(boolean.problem(3, "parity"), "subset", 4, generator=stream(0, "subset"))
    assert 24 < found.bits < 28 and found.high - found.low < 4


def test_a_table_and_its_name_are_one_and_anything_else_is_refused() -> None:
    table = torch.tensor([0, 0, 0, 1]).bool()
    theta = boolean.problem(2, "and").reference.sample(50, stream(0, "theta"))
    assert torch.equal(boolean.problem(2, "and").cost(theta), boolean.problem(2, table).cost(theta))
    for bad in ("nand", torch.ones(3)):
        with pytest.raises(InputError, match="table"):
            boolean.problem(2, bad)


def test_a_perceptron_says_yes_to_every_number_of_questions_alike() -> None:
    # Mingard et al. 2019: without a bias, P(T = t) = 2^−n for 0 ≤ t < 2^n; 0 is never answered by yes.
    net, n = Mlp((7, 1), bias=False), 100_000
    theta = torch.randn(n, net.p, generator=stream(0, "theta"), dtype=torch.float64)
    yes = torch.bincount(boolean.truth_table(net, theta).sum(-1), minlength=129).double()
    assert yes[128] == 0
    statistic = float((yes[:128] - n / 128).square().sum() / (n / 128))
    assert chi2.ppf(1e-4, 127) < statistic < chi2.ppf(1 - 1e-4, 127)


@pytest.mark.parametrize(("m", "tolerance", "bits"), [
    (20, 0.0, 20.0), (100, 0.05, 73.758), (100, 0.1, 55.858), (1000, 0.1, 535.408),
])  # fmt: skip
def test_answers_all_alike(m: int, tolerance: float, bits: float) -> None:
    assert cases.binary(m, tolerance).bits == pytest.approx(bits, abs=6e-4)


def test_the_counting_measure_is_left_alone_by_its_own_proposal() -> None:
    measure, g = CountingMeasure(5), stream(0, "turn")
    theta = measure.sample(40_000, g)
    turned = measure.propose(theta, 0.3, g)
    assert ((turned == 0) | (turned == 1)).all() and bool((turned != theta).any(-1).all())
    # As many pairs a → b as b → a for the numbers of ones: McNemar's counts within four standard errors.
    before, after = theta.sum(-1).long(), turned.sum(-1).long()
    pairs = torch.bincount(before * 6 + after, minlength=36).reshape(6, 6).double()
    assert ((pairs - pairs.T).abs() <= 4.5 * (pairs + pairs.T).sqrt()).all()
    assert measure.log_prob(theta).exp().mean() == pytest.approx(1 / 32)
    assert measure.log_prob(torch.full((1, 5), 0.5)).isneginf().all()
