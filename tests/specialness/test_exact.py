"""The closed form against quadrature and against the bits-back identity; and that errors are noticed."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import dblquad

from reuse_sim.rng import stream
from reuse_sim.specialness import exact

from .known import linear, posterior


def test_evidence_and_posterior_by_quadrature() -> None:
    x = torch.tensor([[1.0, 0.2], [-0.5, 0.8], [0.3, -1.1], [2.0, 0.4]], dtype=torch.float64)
    y = torch.tensor([0.7, -0.2, 0.9, 1.4], dtype=torch.float64)
    sd, tolerance = torch.tensor([0.7, 1.1], dtype=torch.float64), 0.3
    found = exact.linear_gaussian(x, y, sd, tolerance)
    v = tolerance * float(y.var(correction=0))

    def integral(weight) -> float:
        def density(b: float, a: float) -> float:
            prior = math.exp(-((a / 0.7) ** 2 + (b / 1.1) ** 2) / 2) / (2 * math.pi * 0.7 * 1.1)
            error = sum((p * a + q * b - t) ** 2 for (p, q), t in zip(x.tolist(), y.tolist(), strict=True))
            return weight(a, b) * prior * math.exp(-error / (2 * v))

        return dblquad(density, -6, 6, -8, 8, epsabs=1e-12)[0]

    evidence = integral(lambda a, b: 1.0)
    assert found.bits == pytest.approx(-math.log2(evidence), abs=1e-8)
    mean = [integral(lambda a, b: a) / evidence, integral(lambda a, b: b) / evidence]
    assert found.mean.tolist() == pytest.approx(mean, abs=1e-7)
    product = integral(lambda a, b: a * b) / evidence - mean[0] * mean[1]
    assert float(found.covariance[0, 1]) == pytest.approx(product, abs=1e-7)


def test_bits_are_expected_cost_plus_divergence_from_the_reference() -> None:
    # −log₂ evidence = E_q[nβC]/ln 2 + KL(q‖μ)/ln 2 at the posterior q, and more at any other.
    problem, truth = linear()
    sd = problem.reference.sd

    def two_part_bits(mean: torch.Tensor, covariance: torch.Tensor) -> float:
        # The cost is quadratic: its expectation is its value at the mean plus ½ tr(Hessian · covariance).
        hessian = torch.autograd.functional.hessian(lambda t: problem.strength * problem.cost(t[None])[0], mean)
        cost = problem.strength * problem.cost(mean[None])[0] + (hessian * covariance).sum() / 2
        ratio = covariance / sd / sd[:, None]
        kl = (ratio.trace() + (mean / sd).square().sum() - len(sd) - torch.logdet(ratio)) / 2
        return float(cost + kl) / math.log(2)

    assert two_part_bits(truth.mean, truth.covariance) == pytest.approx(truth.bits, abs=1e-9)
    assert two_part_bits(truth.mean, 1.3 * truth.covariance) > truth.bits + 0.1


def test_parameters_that_are_inactive_earn_no_bits() -> None:
    x, y = torch.randn(2, 20, 6, generator=stream(0, "x"), dtype=torch.float64)[0], torch.arange(20.0).double()
    sd = torch.full((9,), 0.5, dtype=torch.float64)
    alone = exact.linear_gaussian(x, y, sd[:6], 0.2)
    beside = exact.linear_gaussian(torch.cat([x, torch.zeros(20, 3).double()], 1), y, sd, 0.2)
    assert beside.bits == pytest.approx(alone.bits, abs=1e-12)
    torch.testing.assert_close(beside.covariance[6:, 6:], 0.25 * torch.eye(3).double())


def test_errors_of_exact_draws_are_small_and_of_wrong_draws_are_not() -> None:
    problem, truth = linear()
    draws = posterior(truth, 4, 500, stream(0, "draws"))
    mean, covariance = exact.errors(truth, draws)
    assert mean < 4 and covariance < 4
    spread = truth.covariance.diagonal().sqrt()
    assert exact.errors(truth, draws + 0.3 * spread)[0] > 4
    assert exact.errors(truth, truth.mean + 1.3 * (draws - truth.mean))[1] > 4
