"""NUTS where posterior and evidence are known, and its warnings where chains disagree."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.specialness import DiagonalNormal, Problem, cases, estimate, exact, nuts, posterior, symmetry

from .known import linear, two_basins


@pytest.mark.slow
def test_a_linear_human_s_posterior_and_evidence() -> None:
    problem, truth = linear(d=4, active=3, n=12)
    chains = nuts.sample(problem, nuts.Plan(chains=4, warmup=80, draws=200), stream(0, "nuts"))
    mean, covariance = exact.errors(truth, chains.theta)
    assert mean < 4 and covariance < 4
    e = nuts.weigh(problem, chains, stream(0, "bridge"))
    assert e.status == "converged" and e.diagnostics["rhat_max"] < 1.02
    assert abs(e.bits - truth.bits) < 4 * e.diagnostics["error_bits"] < 0.5
    assert e.low < e.bits < e.high

    # Planted: the same draws judged by the posterior of a prior 1.3 times as wide.
    _, unseen = linear(d=4, active=3, n=12)
    wide = exact.Exact(unseen.bits, unseen.mean, unseen.covariance * 1.3**2)
    assert exact.errors(wide, chains.theta)[1] > 4


@pytest.mark.slow
def test_chains_in_two_basins_are_flagged() -> None:
    problem = two_basins()
    # Two chains each side, as independent starts find them; nothing crosses between.
    chains = nuts.sample(problem, nuts.Plan(chains=4, warmup=50, draws=60), stream(3, "nuts"))
    assert len({bool(m > 0) for m in chains.theta[..., 0].mean(1)}) == 2, "choose a seed that finds both"
    e = nuts.weigh(problem, chains, stream(0, "bridge"))
    assert "chains disagree" in e.status and e.diagnostics["rhat_max"] > 1.5


def test_an_under_mixed_run_is_flagged() -> None:
    problem, _ = linear(d=4, active=3, n=12)
    chains = nuts.sample(problem, nuts.Plan(chains=2, warmup=20, draws=20), stream(0, "nuts"))
    e = nuts.weigh(problem, chains, stream(0, "bridge"))
    assert e.status != "converged" and "effective draws" in e.status


def test_equal_streams_equal_draws_and_no_global_randomness() -> None:
    problem, _ = linear(d=3, active=2, n=8)
    plan, before = nuts.Plan(chains=2, warmup=20, draws=20), torch.get_rng_state()
    first, second = (nuts.sample(problem, plan, stream(0, "nuts")) for _ in range(2))
    assert torch.equal(first.theta, second.theta) and first.evaluations == second.evaluations
    assert not torch.equal(first.theta, nuts.sample(problem, plan, stream(1, "nuts")).theta)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
def test_a_hard_event_through_a_soft_posterior() -> None:
    case = cases.ball(4, 0.3)
    soft, near = posterior.soften(case.problem, stream(0, "soften"))
    # Half of a Gamma(2) posterior of C lies below its median, 1.68 / (strength + 1).
    assert near.shape == (posterior.WALKERS, 4) and soft.strength == pytest.approx(1.68 / 0.3 - 1, rel=0.3)
    e = estimate(case.problem, "nuts", 0.25, generator=stream(0, "nuts"))
    assert abs(e.bits - case.bits) < 4 * e.diagnostics["error_bits"] < 1
    assert e.bound == "two-sided" and 0.2 < e.diagnostics["hits"] < 0.8

    # What no θ meets gets a lower bound and the reason.
    none = estimate(replace(case.problem, tolerance=-0.1), "hmc", 0.25, generator=stream(0, "hmc"))
    assert none.bound == "lower" and "no draw is inside" in none.status and math.isfinite(none.bits)


def test_what_has_no_gradient_is_refused() -> None:
    counts = replace(cases.ball(4, 0.3).problem, smooth=False)
    for method in ("nuts", "hmc"):
        with pytest.raises(InputError, match="take method smc"):
            estimate(counts, method, generator=stream(0, "g"))


@pytest.mark.slow
def test_a_network_with_copies_against_brute_force() -> None:
    # Seven parameters, some eight bits: the reference itself can be sampled.
    net = Mlp((1, 2, 1), "tanh")
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    f = torch.sin(1.5 * x[:, 0])
    problem = Problem(
        dim=net.p, reference=DiagonalNormal(net.prior_sd(torch.float64), "initialisation prior"),
        cost=lambda theta: (net.forward(theta, x)[..., 0] - f).square().mean(-1) / f.var(correction=0),
        tolerance=0.3, consistency="mean square over 9 points", strength=15.0,
        probe=lambda theta: net.forward(theta, x)[..., 0], symmetry=symmetry.of_net(net),
    )
    g, n = stream(0, "reference"), 400_000
    weights = problem.log_likelihood(problem.reference.sample(n, g)).exp()
    truth, error = -math.log2(weights.mean()), float(weights.std() / weights.mean()) / n**0.5 / math.log(2)
    e = estimate(problem, "nuts", 1.0, generator=stream(0, "nuts"))
    assert e.status == "converged"
    assert abs(e.bits - truth) < 4 * math.hypot(e.diagnostics["error_bits"], error)
    assert 4 * math.hypot(e.diagnostics["error_bits"], error) < problem.symmetry_bits  # 3 bits: copies would show
    by_svi = estimate(problem, "svi", 0.5, generator=stream(0, "svi"))
    assert by_svi.high > truth - 4 * error


def test_a_method_or_effort_that_is_none_is_refused() -> None:
    problem, _ = linear(d=3, active=2, n=8)
    with pytest.raises(InputError, match="did you mean 'nuts'"):
        estimate(problem, "nut", generator=stream(0, "g"))
    with pytest.raises(InputError, match="effort"):
        estimate(problem, "nuts", 0.0, generator=stream(0, "g"))
