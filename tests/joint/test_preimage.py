"""Masses of starts and of ends, where both are known, and log-determinants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reuse_sim.engines.spec import Sgd
from reuse_sim.joint import linear
from reuse_sim.joint.preimage import Preimage, log2_det, log2_det_sampled, preimage
from reuse_sim.joint.unrolled import Training, supervised
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.specialness import DiagonalNormal, Problem, estimate
from reuse_sim.types import Estimate

CURVES = torch.tensor([0.1, 0.6, 1.0, 2.2], dtype=torch.float64)
SD = torch.tensor([1.0, 0.7, 1.5, 1.0], dtype=torch.float64)


def quadratic(steps=6, rate=0.7):
    return Training(lambda t, _: (CURVES * t.square()).sum(1) / 2, steps, Sgd(rate), "constant")


def test_the_ratio_is_that_of_boxes_of_which_all_is_known() -> None:
    run, start = quadratic(), torch.tensor([0.5, -0.4, 1.0, 0.3], dtype=torch.float64)
    end, epsilon = run(start[None])[0], 0.15

    def measure(cost, smooth):
        problem = Problem(dim=4, reference=DiagonalNormal(SD), cost=cost, tolerance=epsilon, smooth=False)
        assert smooth
        return estimate(problem, "smc", 0.3, generator=stream(0, "mass"))

    found = preimage(lambda t: (t - end).abs().amax(1), run, measure)
    a = linear.factors(CURVES, 0.7, 6)
    exact = linear.ratio_bits(a, SD, start, 0.0, epsilon)
    assert found.status == "converged"
    assert found.bits == pytest.approx(exact, abs=1.0) and exact > 4
    low, high = found.limits
    assert low < found.bits < high < low + 3
    # The determinant lets the last direction, 1 − ηλ = −.54, and all others count without end.
    assert linear.destroyed_bits(a) > exact + 4


def test_a_process_without_a_derivative_is_measured_without_one() -> None:
    asked = []

    def measure(cost, smooth):
        asked.append((float(cost(torch.zeros(1, 4)).item()), smooth))
        return Estimate(5.0 - len(asked), 3.0, 6.0, "two-sided", "global", "converged")

    found = preimage(lambda t: t.sum(1), lambda t: t + 1, measure)
    assert asked == [(4.0, False), (0.0, True)] and found.bits == -1.0


def test_intervals_add_in_squares_and_troubles_are_told() -> None:
    start = Estimate(10.0, 7.0, 14.0, "two-sided", "global", "converged")
    end = Estimate(50.0, 47.0, 54.0, "two-sided", "global", "stuck: take more effort")
    found = Preimage(start, end)
    assert found.bits == 40 and found.limits == (40 - 5, 40 + 5)
    assert found.status == "ends: stuck: take more effort"


def test_log_determinants_are_known_for_a_quadratic() -> None:
    a = linear.factors(CURVES, 0.7, 6)
    assert log2_det(quadratic(), SD) == pytest.approx(-linear.destroyed_bits(a), rel=1e-10)
    said, _ = log2_det_sampled(quadratic(), SD, stream(0, "probes"), order=10)  # more than there are parameters
    assert said == pytest.approx(-linear.destroyed_bits(a), rel=0.5)


@pytest.mark.parametrize("optimizer", [Sgd(0.05), Sgd(0.02, momentum=0.5)])
def test_sampled_ones_are_within_their_errors(optimizer) -> None:
    net, steps = Mlp((2, 3, 1)), 12
    x = torch.randn(steps, 16, 2, generator=stream(0, "x"), dtype=torch.float64)
    run = supervised(net, x, torch.sin(x.sum(-1)), steps, optimizer)
    theta = net.init([stream(0, "init")], torch.float64)[0]
    exact = log2_det(run, theta)
    said, error = log2_det_sampled(run, theta, stream(0, "probes"), probes=40, order=net.p)
    assert said == pytest.approx(exact, abs=4 * error) and 0 < error < 0.3 * abs(exact) + 0.1


def test_the_jacobian_of_a_network_is_what_differences_say() -> None:
    net = Mlp((2, 3, 1))
    x = torch.randn(20, 8, 2, generator=stream(0, "x"), dtype=torch.float64)
    run = supervised(net, x, torch.sin(x.sum(-1)), 20, Sgd(0.2))
    theta, h = net.init([stream(0, "init")], torch.float64)[0], 1e-5
    eye = torch.eye(net.p, dtype=torch.float64)
    apart = ((run(theta + h * eye) - run(theta - h * eye)) / (2 * h)).T
    assert torch.allclose(run.jacobian(theta), apart, rtol=0, atol=1e-7)
    assert log2_det(run, theta) == pytest.approx(float(np.linalg.slogdet(apart.numpy())[1]) / math.log(2), abs=0.02)
