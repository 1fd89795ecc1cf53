"""Bridge sampling against known integrals, its error bar included."""

from __future__ import annotations

import math

import pytest
import torch

from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.specialness import bridge

from .known import linear, posterior, ridge


def test_a_known_ratio_within_the_reported_error() -> None:
    # p = 7 N(.5, 1.2²), q = N(0, 1): r = 7.
    g, scores = stream(0, "draws"), []
    q = torch.distributions.Normal(torch.zeros(1).double(), 1.0)
    p = torch.distributions.Normal(torch.full((1,), 0.5).double(), 1.2)
    for _ in range(100):
        at_p = 0.5 + 1.2 * torch.randn(2, 200, generator=g, dtype=torch.float64)
        at_q = torch.randn(400, generator=g, dtype=torch.float64)
        log_r, error = bridge.iterate(
            p.log_prob(at_p) - q.log_prob(at_p) + math.log(7), p.log_prob(at_q) - q.log_prob(at_q) + math.log(7)
        )
        scores.append((log_r - math.log(7)) / error)
    assert max(map(abs, scores)) < 4.5
    # Nominal 95 of 100 within two standard errors; below 87 or a spread below half would be one chance in 1,000.
    assert sum(abs(s) < 2 for s in scores) >= 87
    assert 0.7 < (sum(s * s for s in scores) / 100) ** 0.5 < 1.3


def test_exact_draws_give_the_exact_evidence() -> None:
    problem, truth = linear()
    found = bridge.bits(problem, posterior(truth, 4, 250, stream(0, "draws")), stream(1, "bridge"))
    assert abs(found.bits - truth.bits) < 4 * found.error < 0.3
    assert found.inside == 1


def test_draws_of_another_posterior_are_far_off_in_their_own_errors() -> None:
    problem, truth = linear(scale=1.3)  # planted: a prior 1.3 times as wide
    _, right = linear()
    found = bridge.bits(problem, posterior(truth, 4, 250, stream(0, "draws")), stream(1, "bridge"))
    assert abs(found.bits - right.bits) > 4 * found.error


@pytest.mark.parametrize("net", [Mlp((1, 2, 1), "tanh"), Mlp((2, 3, 1), "relu")])
@pytest.mark.parametrize("strength", [1e-9, 5.0])
def test_all_copies_are_counted(net: Mlp, strength: float) -> None:
    problem, bits, sd = ridge(net, strength)
    draws = torch.randn(4, 500, net.p, generator=stream(0, "draws"), dtype=torch.float64) * sd
    found = bridge.bits(problem, draws, stream(1, "bridge"))
    assert abs(found.bits - bits) < 4 * found.error < 1.5
    # Without the copies the figure would be off by more than that.
    assert problem.symmetry_bits > 4 * found.error


def test_fewer_draws_than_parameters_still_give_a_proper_normal() -> None:
    z = torch.randn(8, 20, generator=stream(0, "z"), dtype=torch.float64)
    assert bridge.fitted(z).scale_tril.isfinite().all()
