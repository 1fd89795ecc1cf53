"""Descent on quadratics: bits destroyed, starts that will do, and what a log-determinant makes of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from reuse_sim.engines.spec import Sgd
from reuse_sim.errors import InputError
from reuse_sim.joint import linear
from reuse_sim.joint.budget import budget, order_sd
from reuse_sim.joint.unrolled import Training
from reuse_sim.rng import stream


def descend(theta, curves, rate, steps, optimum=0.0):
    for _ in range(steps):
        theta = theta - rate * curves * (theta - optimum)
    return theta


def test_destroyed_bits_are_the_fall_in_entropy_of_many_starts() -> None:
    """Entropies of normal samples before and after: the difference of ½ log₂ det of their covariances."""
    curves = torch.linspace(0.05, 1.6, 7, dtype=torch.float64)
    before = torch.randn(500, 7, generator=stream(0, "starts"), dtype=torch.float64)
    after = descend(before, curves, 0.3, 15)
    logs = [float(torch.linalg.slogdet(torch.cov(t.T))[1]) / (2 * math.log(2)) for t in (before, after)]
    closed = -15 * sum(math.log2(abs(1 - 0.3 * c)) for c in curves.tolist())
    assert linear.destroyed_bits(linear.factors(curves, 0.3, 15)) == pytest.approx(closed, rel=1e-12)
    assert logs[0] - logs[1] == pytest.approx(closed, rel=1e-9)  # a linear map moves every sample's covariance alike


def test_rates_may_change_on_the_way() -> None:
    curves, rates = [0.5, 2.0], [0.1, 0.2, 0.3]
    expected = [math.prod(1 - r * c for r in rates) for c in curves]
    assert linear.factors(curves, rates).tolist() == pytest.approx(expected)
    run = Training(lambda t, _: (torch.tensor(curves).double() * t.square()).sum(1) / 2, 9, Sgd(0.4, 0.0))
    each = [0.4 * 0.5 * (1 + math.cos(math.pi * k / 9)) for k in range(9)]
    assert run.jacobian(torch.ones(2).double()).diagonal().tolist() == pytest.approx(list(linear.factors(curves, each)))


def test_what_expands_cancels_what_contracts_in_a_determinant_and_not_among_starts() -> None:
    a = np.array([2.0**-8, 2.0**8])
    assert linear.destroyed_bits(a) == pytest.approx(0)
    assert linear.contracted_bits(a) == pytest.approx(8)
    # One direction wins the prior's whole width at most, the other loses 8 bits.
    found = linear.ratio_bits(a, 1.0, [0.0, 0.0], 0.0, 0.01)
    masses = [2 * norm.cdf(w) - 1 for w in (2.56, 0.01 / 256, 0.01, 0.01)]
    assert found == pytest.approx(math.log2(masses[0] * masses[1] / masses[2] / masses[3]), abs=1e-6)
    assert abs(found) > 1
    # Narrow enough balls in the prior's flat part know no other width, and only there the determinant is the ratio.
    assert linear.ratio_bits(a, 1e6, [0.0, 0.0], 0.0, 1e-3) == pytest.approx(0, abs=1e-3)


def test_the_ratio_is_that_of_counted_starts() -> None:
    a, sd, start, optimum = np.array([0.2, 0.9, 1.5]), np.array([1.0, 0.5, 2.0]), np.array([0.3, -0.2, 1.0]), 0.4
    g = np.random.default_rng(0)
    z = g.normal(size=(400_000, 3)) * sd
    ends, end = optimum + a * (z - optimum), optimum + a * (start - optimum)
    shares = [(np.abs(t - end).max(1) <= 0.3).mean() for t in (ends, z)]
    error = math.hypot(*((1 - s) / (s * len(z)) for s in shares)) ** 0.5 / math.log(2)
    said = linear.ratio_bits(a, sd, start, optimum, 0.3)
    assert said == pytest.approx(math.log2(shares[0] / shares[1]), abs=4 * error)


def test_far_out_masses_keep_their_digits() -> None:
    assert linear.ratio_bits([1.0], 1.0, [30.0], 0.0, 0.5) == 0
    near = norm.logsf(29.5) - norm.logsf(59.5)  # B about 30 and, at half the slope, about 60
    assert linear.ratio_bits([2.0], 1.0, [30.0], 0.0, 0.5) == pytest.approx(
        (norm.logsf(29.75) - norm.logsf(59.5)) / math.log(2), rel=1e-3)
    assert near > 0


def test_the_null_space_is_where_a_start_may_move() -> None:
    curves = np.linspace(0, 1.9, 20)
    for steps, epsilon in ((10, 0.01), (40, 1e-3), (3, 0.5)):
        a = linear.factors(curves, 1.0, steps)
        moved = descend(np.eye(20), curves, 1.0, steps).diagonal()
        assert linear.null_dimension(a, epsilon) == int((np.abs(moved) < epsilon).sum())
    early, late = (linear.null_dimension(linear.factors(curves, 1.0, steps), 1e-3) for steps in (10, 40))
    assert early < late


def test_starts_that_will_do_grow_as_two_to_the_destroyed_bits() -> None:
    curves, epsilon = np.array([0.3, 0.5, 0.8]), 1e-4
    grid = np.arange(-50, 51) * 2 * epsilon
    for steps in (1, 2, 3):
        a = linear.factors(curves, 0.9, steps)
        counted = math.prod(int((np.abs(descend(grid, c, 0.9, steps)) <= epsilon * (1 + 1e-9)).sum()) for c in curves)
        assert linear.starts(a, epsilon, 50 * 2 * epsilon) == counted
    a = linear.factors(curves, 0.9, 5)
    assert math.log2(linear.starts(a, 1e-6, 1.0)) == pytest.approx(linear.destroyed_bits(a), abs=0.5)
    # Beyond the width there is nothing to win.
    assert linear.starts(linear.factors(curves, 0.9, 500), 0.01, 1.0) == linear.starts([0.0] * 3, 0.01, 1.0)
    with pytest.raises(InputError, match="epsilon"):
        linear.starts(a, 0.0, 1.0)


# The budget ------------------------------------------------------------------------------------------


def mutual(joint, first, second):
    """I between two sets of coordinates of a joint normal, in bits, from determinants."""
    def logdet(rows):
        return np.linalg.slogdet(joint[np.ix_(rows, rows)])[1]

    return (logdet(first) + logdet(second) - logdet([*first, *second])) / (2 * math.log(2))


def test_the_shares_are_those_of_the_joint_normal() -> None:
    curves, d = np.array([0.1, 0.7, 1.5]), 3
    a, q = linear.factors(curves, 0.4, 12), order_sd(curves, 0.4, 12, 0.3)
    s1, s0, r = np.array([1.0, 2.0, 0.5]), np.array([0.7, 0.7, 1.0]), 0.05
    # Coordinates: θ1, θ0, q, and y = (1 − a) θ1 + a θ0 + q + r.
    mix = np.concatenate([np.diag(1 - a), np.diag(a), np.eye(d)], 1)
    prior = np.diag(np.concatenate([s1, s0, q]) ** 2)
    joint = np.block([[prior, prior @ mix.T], [mix @ prior, mix @ prior @ mix.T + r**2 * np.eye(d)]])
    one, zero, order, y = ([*range(k * d, (k + 1) * d)] for k in range(4))
    found = budget(a, s1, s0, q, r)
    assert found.human == pytest.approx(mutual(joint, [*one, *zero, *order], y), rel=1e-9)
    assert found.teacher == pytest.approx(mutual(joint, one, y), rel=1e-9)
    assert found.start == pytest.approx(mutual(joint, [*one, *zero], y) - mutual(joint, one, y), rel=1e-9)
    assert found.teacher + found.start + found.order == pytest.approx(found.human, rel=1e-12)
    # Data processing: none has more than there is, and each loses to the others' growth.
    assert max(found.teacher, found.start, found.order) < found.human


def test_what_the_teacher_gains_the_start_loses() -> None:
    curves = np.linspace(0.2, 1.5, 6)
    shares = [budget(linear.factors(curves, 0.3, steps), 1.0, 1.0, 0.0, 0.01) for steps in (0, 1, 3, 10, 40)]
    assert [s.teacher for s in shares] == sorted(s.teacher for s in shares) and shares[0].teacher == 0
    assert [s.start for s in shares] == sorted((s.start for s in shares), reverse=True)
    assert shares[0].start == pytest.approx(6 * 0.5 * math.log2(1 + 1e4))


def test_noise_of_the_order_is_what_noisy_descent_leaves() -> None:
    g, curve, rate, steps = np.random.default_rng(1), 0.8, 0.3, 7
    theta = np.zeros(200_000)
    for _ in range(steps):
        theta = theta - rate * (curve * theta + 0.5 * g.normal(size=len(theta)))
    assert float(order_sd(curve, rate, steps, 0.5)) == pytest.approx(theta.std(), rel=4 / (2 * len(theta)) ** 0.5)


def test_a_resolution_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="resolution: got 0.0"):
        budget([0.5], 1.0, 1.0, 0.0, 0.0)
