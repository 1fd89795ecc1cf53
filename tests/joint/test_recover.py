"""Searches for a start: on a quadratic where all is known, and on a network."""

from __future__ import annotations

import pytest
import torch

from reuse_sim.engines.spec import Adam, Sgd
from reuse_sim.errors import InputError
from reuse_sim.joint.recover import PASSES, recover
from reuse_sim.joint.unrolled import Training, supervised
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream

CURVES = torch.tensor([1.0, 0.2, 0.0], dtype=torch.float64)
ONES = torch.ones(3, dtype=torch.float64)


def quadratic(steps=20):
    return Training(lambda theta, _: (CURVES * theta.square()).sum(1) / 2, steps, Sgd(0.5), "constant")


def test_each_tolerance_has_the_first_start_within_it() -> None:
    run, target = quadratic(), torch.tensor([0.0, 0.3, -0.5], dtype=torch.float64)
    starts = torch.randn(4, 3, generator=stream(0, "starts"), dtype=torch.float64)

    def drift(theta):
        return (theta - target).square().sum(1)

    found = recover(run, starts, ONES, drift, (1e-3, 1.0, 1e-1), steps=200, rate=0.05)
    assert bool(found.reached.all()) and found.tolerances == (1e-3, 1.0, 1e-1)
    for k, tolerance in enumerate(found.tolerances):
        ends = drift(run(found.theta[k]))
        assert torch.allclose(ends, found.drift[k]) and bool((ends <= tolerance).all())
    assert float(found.drift[1].min()) > 1e-3  # the first, not the best
    assert bool((found.steps[1] <= found.steps[2]).all() and (found.steps[2] <= found.steps[0]).all())
    # In the direction that training flattens, any start will do and none is moved: a = .5^20 there.
    assert float((found.theta[0, :, 0] - starts[:, 0]).abs().max()) < 0.2 * float((found.theta[0] - starts).abs().max())


def test_a_start_within_the_tolerance_costs_no_step_and_is_kept() -> None:
    starts = torch.zeros(2, 3, dtype=torch.float64)
    found = recover(quadratic(), starts, ONES, lambda t: t.square().sum(1) + 1e-9, (0.1,), steps=5)
    assert found.steps.tolist() == [[0, 0]] and torch.equal(found.theta[0], starts)
    assert found.flops(100.0).tolist() == [[100.0, 100.0]]


def test_what_is_not_reached_says_so_and_keeps_the_nearest() -> None:
    target = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)  # training ends near 0 there
    starts = torch.randn(3, 3, generator=stream(1, "starts"), dtype=torch.float64)
    found = recover(quadratic(60), starts, ONES, lambda t: (t - target).square().sum(1), (0.01,), steps=10)
    assert not bool(found.reached.any()) and found.steps.tolist() == [[10] * 3]
    assert bool((found.drift[0] >= 1 - 1e-9).all()) and bool((found.drift[0] < 10).all())
    assert found.flops(1.0).tolist() == [[10 * PASSES + 1] * 3]


@pytest.mark.slow
def test_another_start_of_a_network_is_learned() -> None:
    net, g = Mlp((2, 3, 1)), stream(0, "x")
    x = torch.randn(40, 16, 2, generator=g, dtype=torch.float64)
    run = supervised(net, x, torch.sin(x.sum(-1)), 40, Adam(0.1))
    human, *starts = net.init([stream(i, "init") for i in range(5)], torch.float64)
    asked = torch.randn(40, 2, generator=g, dtype=torch.float64) * 2
    said = net.forward(run(human[None]), asked)[..., 0]

    def drift(theta):
        return (net.forward(theta, asked)[..., 0] - said).square().mean(1)

    starts = torch.stack(starts)
    found = recover(run, starts, net.prior_sd(torch.float64), drift, (0.01,), steps=60)
    assert float(drift(run(starts)).min()) > 0.05 and bool(found.reached.any())
    assert float((found.theta[0] - human).norm(dim=1).min()) > 0.1  # another one, not the human's own


def test_a_tolerance_below_what_the_precision_resolves_is_refused() -> None:
    for dtype, tolerance, match in ((torch.float32, 1e-8, "float32"), (torch.float64, 1e-17, "float64")):
        with pytest.raises(InputError, match=f"tolerances: got {tolerance}.*what {match} resolves"):
            recover(quadratic(), torch.zeros(1, 3, dtype=dtype), ONES, lambda t: t.sum(1), (0.1, tolerance))
    with pytest.raises(InputError, match="tolerances: got none"):
        recover(quadratic(), torch.zeros(1, 3), ONES, lambda t: t.sum(1), ())


def test_a_search_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="unrolled training: got 1 networks x 20 steps"):
        recover(quadratic(), ONES[None], ONES, lambda t: t.square().sum(1), (0.1,), memory=10)
