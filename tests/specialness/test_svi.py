"""Full-rank variational inference where the answer is known, and its warnings where it is not to be believed."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from scipy.integrate import quad

from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.specialness import estimate, svi

from .known import linear, ridge, two_basins

PLAN = svi.Plan(steps=600)


def found(problem, plan: svi.Plan = PLAN, seed: int = 0):
    return svi.weigh(problem, svi.fit(problem, plan, stream(seed, "fit")), plan, stream(seed, "weigh"))


def test_ten_parameters_within_half_a_bit() -> None:
    problem, truth = linear()
    e = found(problem)
    assert e.status == "converged" and e.bound == "two-sided" and e.kind == "global"
    assert abs(e.bits - truth.bits) < 0.5
    assert e.diagnostics["pareto_k"] < 0.7
    # The ELBO bounds the bits from above, but for the Monte Carlo error of its 4000 draws.
    assert -0.05 < e.diagnostics["elbo_bits"] - truth.bits < 0.5
    assert abs(e.bits - truth.bits) < 4 * e.diagnostics["error_bits"] + 1e-3


def test_a_prior_of_the_wrong_scale_is_noticed() -> None:
    problem, right = linear(scale=1.3)
    e = found(problem)
    assert e.status == "converged"
    assert abs(e.bits - right.bits) > 4 * e.diagnostics["error_bits"] + 0.1


def test_too_few_steps_are_flagged() -> None:
    problem, truth = linear()
    e = found(problem, svi.Plan(steps=100, draws=1000))
    assert "k-hat" in e.status
    assert e.bound == "upper" and e.low == 0 and e.high > truth.bits


def test_a_second_basin_is_flagged_and_the_bound_holds() -> None:
    # One normal finds one of two equal humps: one bit too high, with weights that look fine.
    problem = two_basins()

    def density(t: float) -> float:
        return math.exp(-(t**2) / 8 - problem.strength * (abs(t) - 3) ** 2) / (2 * math.pi * 4) ** 0.5

    truth = -math.log2(quad(density, -20, 20, points=[-3, 3], epsabs=1e-14)[0])
    e = found(problem)
    assert e.diagnostics["pareto_k"] < 0.7
    assert e.bits - truth == pytest.approx(1, abs=0.05)
    assert "descents ended outside" in e.status and e.bound == "upper"
    assert e.low < truth < e.high


@pytest.mark.parametrize(("hidden", "strength"), [(6, 1e-9), (6, 20.0), (2, 1e-9), (2, 20.0)])
def test_copies_are_counted_once_whether_the_guide_covers_one_cell_or_many(hidden: int, strength: float) -> None:
    # The posterior is one normal around 0, which the guide can be, over all 2^h h! cells.
    problem, truth, _ = ridge(Mlp((1, hidden, 1), "tanh"), strength)
    e = found(problem)
    assert e.high > truth - 0.01
    assert abs(e.bits - truth) < 4 * e.diagnostics["error_bits"] + 0.05


def test_nothing_of_pyro_s_or_torch_s_global_state_moves() -> None:
    pyro.param("mine", torch.ones(1))
    before = torch.get_rng_state()
    problem, _ = linear(d=3, active=2, n=8)
    svi.fit(problem, svi.Plan(steps=100), stream(0, "fit"))
    assert torch.equal(before, torch.get_rng_state())
    assert list(pyro.get_param_store().keys()) == ["mine"]


@pytest.mark.parametrize("k", [0.3, 0.6, 1.0])
def test_pareto_k_of_weights_with_a_known_tail(k: float) -> None:
    # P(w > t) = t^(−1/k): the tail index is k. Its fit from 600 of 40,000 draws has an error near (1 + k)/√600.
    u = torch.rand(40_000, generator=stream(0, "u"), dtype=torch.float64)
    assert svi.pareto_k(-k * u.log(), 40_000) == pytest.approx(k, abs=4 * (1 + k) / 600**0.5)


def test_pareto_k_of_equal_and_of_hopeless_weights() -> None:
    assert svi.pareto_k(torch.zeros(1000), 1000) == 0
    assert svi.pareto_k(-1e6 * torch.rand(1000, generator=stream(0, "u")), 1000) == float("inf")


def test_a_start_is_taken_where_it_is_lower() -> None:
    problem, truth = linear(d=3, active=2, n=8)
    e = estimate(problem, "svi", 0.2, generator=stream(0, "g"), start=truth.mean)
    assert abs(e.bits - truth.bits) < 0.5
