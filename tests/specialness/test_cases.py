"""Closed forms against values computed elsewhere, and against plain counting."""

from __future__ import annotations

import math

import pytest
import torch

from reuse_sim.errors import InputError
from reuse_sim.rng import stream
from reuse_sim.specialness import cases


@pytest.mark.parametrize(("case", "bits"), [
    (cases.ball(10, 0.5), 12.5043),
    (cases.ball(100, 5.0), 105.1767),
    (cases.ball(1000, 50.0), 1017.4085),
    (cases.half_space(3, 5.0), 21.7342),
    (cases.half_space(3, 20.0), 294.1903),
    (cases.cap(10, 0.05), 27.023),
    (cases.cap(50, 0.1), 87.089),
    (cases.cap(100, 0.3), 34.173),
    (cases.cap(7, 0.5), 1.0),
    (cases.product(1e-3), 6.98252),
    (cases.orthant(7), 3.0),
])  # fmt: skip
def test_values_known_from_elsewhere(case: cases.Case, bits: float) -> None:
    assert case.bits == pytest.approx(bits, abs=6e-4)


@pytest.mark.parametrize("case", [
    cases.ball(3, 0.7), cases.ball(4, 1.5, centre=1.0), cases.half_space(2, 1.5), cases.slab(4, 3, 0.6),
    cases.cap(5, 0.25), cases.dirichlet((2.0, 4.0, 1.0), 0.3), cases.product(0.05), cases.orthant(4),
    cases.two_basins(2, 1.5, 0.8, 0.5),
])  # fmt: skip
def test_a_count_of_draws_agrees(case: cases.Case) -> None:
    n, p = 400_000, 2**-case.bits
    theta = case.problem.reference.sample(n, stream(0, "draws"))
    share = float((case.problem.cost(theta) <= case.problem.tolerance).double().mean())
    assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_the_soft_case_agrees_with_its_mean() -> None:
    case = cases.evidence((0.5, 1.0, 3.0), shift=0.7, strength=1.3)
    theta = case.problem.reference.sample(400_000, stream(0, "draws"))
    weights = case.problem.log_likelihood(theta).exp()
    error = float(weights.std()) / 400_000**0.5
    assert abs(float(weights.mean()) - 2**-case.bits) < 4 * error


def test_the_series_goes_on_where_doubles_end() -> None:
    known = cases.ball(1000, 150.0).bits  # still a double
    assert -cases._log_chi2(1000, 300.0) / math.log(2) == pytest.approx(known, rel=1e-12)
    assert cases.ball(10_000, 700.0).bits > cases.ball(10_000, 800.0).bits > 5000


def test_what_is_no_case_is_refused() -> None:
    for case, given in ((cases.cap, (3, 0.7)), (cases.dirichlet, ((2.0,), 0.6)), (cases.two_basins, (2, 1, 1, 1))):
        with pytest.raises(InputError):
            case(*given)
    assert torch.isfinite(torch.tensor(cases.cap(200, 0.1).bits))
