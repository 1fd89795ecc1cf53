"""Planted humans are exact draws, by posteriors of a closed form; a human's gradient is the engine's."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream, streams
from reuse_sim.specialness import Problem, estimate
from reuse_sim.specialness.planted import planted_human
from reuse_sim.specialness.space import Space
from reuse_sim.worlds import radius, spurious

LINE = Mlp((1, 1), bias=False)
X = torch.tensor([[0.5], [-1.0], [2.0]], dtype=torch.float64)


def answers(problem: Problem) -> torch.Tensor:
    """X·y and |y|² from C at three θ: C v n = |y|² − 2 θ X·y + θ² |X|²."""
    at_0, at_1 = problem.cost(torch.tensor([[0.0], [1.0]], dtype=torch.float64)) * 3
    return torch.stack([(at_0 - at_1 + X.square().sum()) / 2, at_0])


@pytest.mark.parametrize("soft", [True, False])
def test_the_planted_human_is_a_draw_of_its_posterior(soft: bool) -> None:
    # One parameter: where θ* lies in its posterior, as a share below it, must be uniform.
    tau, shares = 0.3, []
    for g in streams(0, [f"planted/{k}" for k in range(400)]):
        problem, star = planted_human(LINE, X, tolerance=tau, generator=g, soft=soft, variance=1.0)
        xy, yy = answers(problem)
        xx = X.square().sum()
        if soft:
            precision = 1 + xx / tau
            shares.append(float(torch.special.ndtr((star - xy / tau / precision) * precision.sqrt())))
        else:  # C ≤ τ: an interval of θ
            half = (xy**2 - xx * (yy - 3 * tau)).sqrt() / xx
            low, high, at = (float(torch.special.ndtr(t)) for t in (xy / xx - half, xy / xx + half, star[0]))
            shares.append((at - low) / (high - low))
    assert stats.kstest(shares, "uniform").pvalue > 0.01
    assert min(shares) > 0 and max(shares) < 1


def test_answers_without_errors_would_not_do() -> None:
    # The same check fails where y are θ*'s own answers: θ* sits in the middle.
    draws = torch.randn(400, generator=stream(0, "draws"), dtype=torch.float64)
    half = math.sqrt(3 * 0.3 / float(X.square().sum()))
    low, high = torch.special.ndtr(draws - half), torch.special.ndtr(draws + half)
    shares = (torch.special.ndtr(draws) - low) / (high - low)
    assert stats.kstest(shares.numpy(), "uniform").pvalue < 1e-6


def test_the_unit_of_the_tolerance_does_not_depend_on_the_answers() -> None:
    net = Mlp((4, 5, 1))
    x = torch.randn(40, 4, generator=stream(0, "x"), dtype=torch.float64)
    problem, star = planted_human(net, x, tolerance=0.05, generator=stream(0, "planted"))
    assert star.shape == (net.p,) and float(problem.cost(star[None])) <= 0.05
    same = planted_human(net, x, tolerance=0.05, generator=stream(0, "planted"))
    assert torch.equal(star, same.start) and problem.consistency == same.problem.consistency
    for wrong in ({"tolerance": 0.0}, {"tolerance": 0.1, "variance": 0.0}):
        with pytest.raises(InputError, match="planted_human"):
            planted_human(net, x, generator=stream(0, "planted"), **wrong)


@pytest.mark.parametrize("width", [3, 20])
def test_a_human_s_gradient_by_an_engine_is_that_of_its_cost(width: int) -> None:
    world = radius.build()
    theta_1 = world.teacher([stream(0, "teacher")])
    x = world.on_distribution(theta_1, 30, [stream(0, "x")])[0]
    problem = Problem.for_human(world, theta_1[0], world.human_net(width), x, tolerance=0.1)
    assert problem.gradient is not None
    theta = problem.reference.sample(7, stream(0, "theta")).requires_grad_(True)
    cost = problem.cost(theta)
    (slope,) = torch.autograd.grad(cost.sum(), theta)
    value, fast = problem.gradient(theta.detach())
    torch.testing.assert_close(value, cost.detach(), rtol=2e-6, atol=1e-9)
    torch.testing.assert_close(fast, slope, rtol=1e-5, atol=2e-6)
    # And samplers take it into their coordinates.
    z = Space(problem).z(theta.detach())
    mapped = Space(problem).state(z, slopes=True).cost_slope
    torch.testing.assert_close(mapped, slope * problem.reference.sd, rtol=1e-5, atol=2e-6)


def test_where_no_engine_fits_there_is_no_gradient() -> None:
    world = spurious.build()
    theta_1 = world.teacher([stream(0, "teacher")])
    x = world.on_distribution(theta_1, 30, [stream(0, "x")])[0]
    assert Problem.for_human(world, theta_1[0], world.human_net(3), x, tolerance=0.1).gradient is None


@pytest.mark.parametrize("soft", [True, False])
def test_small_planted_humans_lie_between_two_sides(soft: bool) -> None:
    x = torch.randn(20, 4, generator=stream(0, "x"), dtype=torch.float64)
    found = planted_human(Mlp((4, 3, 1)), x, tolerance=0.2, generator=stream(1, "planted"), soft=soft)
    e = estimate(found.problem, found.method, 1.0, generator=stream(0, "annealed"))
    assert e.bound == "two-sided" and e.status == "converged"
    other = estimate(found.problem, "thermodynamic", 0.5, generator=stream(0, "thermodynamic"))
    errors = math.hypot(e.diagnostics["error_bits"], other.diagnostics["error_bits"])
    assert e.low < other.bits < e.high and abs(e.bits - other.bits) < 4 * errors


@pytest.mark.slow
@pytest.mark.parametrize(("soft", "tolerance"), [(True, 0.05), (False, 0.005)])
def test_a_planted_human_of_841_parameters_to_five_percent_in_two_minutes(soft: bool, tolerance: float) -> None:
    world = radius.build()
    x = world.on_distribution(world.teacher([stream(0, "teacher")]), 128, [stream(0, "x")])[0]
    net = world.human_net(140)
    found = planted_human(net, x, tolerance=tolerance, generator=stream(0, "planted"), soft=soft)
    e = estimate(found.problem, found.method, 1.5, generator=stream(0, "annealed"))
    assert net.p == 841 and e.bound == "two-sided" and e.status == "converged"
    assert e.high - e.low < 0.05 * e.bits and abs(e.diagnostics["gap_bits"]) < 0.02 * e.bits
    assert e.seconds < 120
