"""Learning coefficients against quadrature and thresholds, biases against their formulas, WBIC's error and sign."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.rng import stream
from reuse_sim.specialness import Problem, UniformBox, cases, estimate, learning, standard_normal

from .known import linear

N_BETA = 1000 / math.log(1000)
ONE = torch.ones(2, dtype=torch.float64)


def crossing(a: int, b: int) -> Problem:
    """L = 4 w₁^2a w₂^2b on [−1, 1]²."""
    return Problem(2, UniformBox(-ONE, ONE), lambda w: 4 * w[..., 0] ** (2 * a) * w[..., 1] ** (2 * b), 0.0, "L")


def by_quadrature(a: int, b: int) -> float:
    """nβ E[L] by the midpoint rule in u, w = u³, fine where L is small."""
    u = (np.arange(1500) + 0.5) / 1500
    w, density = u**3, 3 * u**2
    loss = 4 * w[:, None] ** (2 * a) * w ** (2 * b)
    weight = density[:, None] * density * np.exp(-N_BETA * loss)
    return N_BETA * float((loss * weight).sum() / weight.sum())


QUADRATURE = [(1, 1, 0.380), (1, 2, 0.222), (1, 3, 0.153), (2, 2, 0.156), (2, 3, 0.115), (3, 3, 0.088)]


@pytest.mark.parametrize(("a", "b", "value"), QUADRATURE)
def test_quadrature_gives_the_known_values(a: int, b: int, value: float) -> None:
    assert by_quadrature(a, b) == pytest.approx(value, abs=6e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b", "value"), QUADRATURE)
def test_crossings_agree_with_quadrature(a: int, b: int, value: float) -> None:
    found = learning.coefficient(crossing(a, b), 1000, stream(0, "chains"), torch.zeros(2))
    assert found.status == "converged"
    assert found.value == pytest.approx(by_quadrature(a, b), rel=0.1)
    assert abs(found.value - by_quadrature(a, b)) < 2.5 * (found.high - found.low)  # 4 standard errors
    assert found.high < 0.9 / (2 * max(a, b)) or a != b  # of multiplicity two: below its threshold


def reduced_rank(i: int, h: int, o: int) -> Problem:
    """L = ½|BA|², A `(h, i)`, B `(o, h)`: the expected loss of a two-layer linear network whose truth is zero."""
    def loss(theta: Tensor) -> Tensor:
        first, second = theta[..., : h * i].unflatten(-1, (h, i)), theta[..., h * i :].unflatten(-1, (o, h))
        return (second @ first).square().sum((-1, -2)) / 2

    d = h * (i + o)
    return Problem(d, standard_normal(d), loss, 0.0, "½|BA|²")


@pytest.mark.parametrize(("sizes", "value", "gamma"), [
    ((5, 3, 5), 6.5, 0.0),
    pytest.param((5, 3, 5), 6.5, 1.0, marks=pytest.mark.slow),
    pytest.param((5, 4, 5), 8.0, 0.0, marks=pytest.mark.slow),
    pytest.param((4, 3, 8), 6.0, 0.0, marks=pytest.mark.slow),
    pytest.param((8, 3, 4), 6.0, 0.0, marks=pytest.mark.slow),
])  # fmt: skip
def test_reduced_rank_regression_of_nothing(sizes: tuple[int, int, int], value: float, gamma: float) -> None:
    problem = reduced_rank(*sizes)
    found = learning.coefficient(problem, 100_000, stream(0, "chains"), torch.zeros(problem.dim), gamma, effort=0.5)
    assert found.value == pytest.approx(value, rel=0.1) and found.value < problem.dim / 2 - 3


SPECTRUM = torch.tensor([1e-3, 0.3, 1.0, 1.0, 4.0, 50.0], dtype=torch.float64)


def quadratic() -> Problem:
    return Problem(6, standard_normal(6), lambda w: (SPECTRUM * w**2).sum(-1) / 2, 0.0, "½ Σ h w²")


@pytest.mark.parametrize("gamma", [5.0, 100.0])
def test_what_localisation_takes_from_stiff_directions_is_put_back(gamma: float) -> None:
    found = learning.coefficient(quadratic(), 1000, stream(0, "chains"), torch.zeros(6), gamma, effort=0.5)
    shares = learning.langevin_bias(N_BETA, gamma, 0.0, SPECTRUM)
    error = (found.high - found.low) / 3.29
    assert abs(found.raw - float(shares.sum()) / 2) < 4 * error
    stiff = gamma < N_BETA * SPECTRUM
    assert abs(found.value - float(torch.where(stiff, 1.0, shares).sum()) / 2) < 4 * error
    assert gamma < 100 or found.value > found.raw + 4 * error


def test_a_loss_per_question_may_be_a_soft_problem_s() -> None:
    # strength C = n L: with strength n/2, C = 2 L; the start's own loss is subtracted.
    soft = Problem(6, standard_normal(6), lambda w: 3 + (SPECTRUM * w**2).sum(-1), 0.0, "C", strength=500.0)
    one, other = (learning.coefficient(p, 1000, stream(0, "chains"), torch.zeros(6), effort=0.2)
                  for p in (soft, quadratic()))  # fmt: skip
    assert one.at == pytest.approx(1.5) and one.value == pytest.approx(other.value, rel=1e-6)


def test_steps_and_localisation_bias_plain_langevin_as_the_formula_says() -> None:
    # w' = w − rate/2 (nβ h + γ) w + √rate ξ from its own stationary law's neighbourhood.
    h, gamma, rate, g = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64), 50.0, 4e-3, stream(0, "ula")
    w, total, steps = torch.zeros(4000, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 400
    for k in range(100 + steps):
        noise = torch.randn(w.shape, generator=g, dtype=torch.float64)
        w = w - rate / 2 * (N_BETA * h + gamma) * w + rate**0.5 * noise
        total += (h * w**2 / 2).mean(0) * (k >= 100)
    measured, told = N_BETA * total / steps, learning.langevin_bias(N_BETA, gamma, rate, h) / 2
    torch.testing.assert_close(measured, told, rtol=0.02, atol=0)
    assert ((told - 0.5).abs() > 0.02).any()


def test_a_start_above_the_bottom_is_told() -> None:
    found = learning.coefficient(quadratic(), 1000, stream(0, "chains"), torch.ones(6), effort=0.1)
    assert "bottom" in found.status


def gaussian_mean(n: int) -> tuple[Problem, float, float]:
    """n answers N(0, 1) to be hit by one number: soft problem, exact bits, WBIC's exact expectation in bits."""
    y = torch.randn(n, generator=stream(n, "y"), dtype=torch.float64)
    problem = Problem(1, standard_normal(1), lambda w: (w - y).square().mean(-1), 0.5, "mean (w - y)²",
                      strength=float(n) / 2 * 2)  # fmt: skip
    s, best = 2.0 * n, float(y.mean())  # strength C = n (w − ȳ)² + n var: curvature s
    rest = n * float(y.var(correction=0))

    def gibbs(beta: float) -> float:
        return math.log(1 + beta * s) / 2 + beta * s * best**2 / (2 * (1 + beta * s)) + beta * rest

    beta = 1 / math.log(n)
    spread = s / (2 * (1 + beta * s)) + s * best**2 / (2 * (1 + beta * s) ** 2)
    return problem, gibbs(1.0) / math.log(2), (spread + rest) / math.log(2)


@pytest.mark.parametrize("n", [5, 20, 50])
def test_wbic_is_what_it_is_and_makes_evidence_too_large_for_few_questions(n: int) -> None:
    problem, bits, wbic = gaussian_mean(n)
    e = estimate(problem, "wbic", 0.5, generator=stream(0, "wbic"))
    assert abs(e.bits - wbic) < 4 * e.diagnostics["error_bits"]
    assert e.diagnostics["questions"] == n
    assert e.bits + 4 * e.diagnostics["error_bits"] < bits  # Friel's sign
    assert e.bound == "none" and e.kind == "global" and "approximation with no bound" in e.status


def test_wbic_of_a_linear_human() -> None:
    problem, truth = linear()
    e = estimate(problem, "wbic", 0.5, generator=stream(0, "wbic"), start=truth.mean)
    n = 32.0
    precision = torch.linalg.inv(truth.covariance) - torch.diag(problem.reference.sd**-2)  # strength ∇²C
    beta = 1 / math.log(n)
    tempered = torch.linalg.inv(torch.diag(problem.reference.sd**-2) + beta * precision)
    best = torch.linalg.pinv(precision, hermitian=True) @ torch.linalg.solve(truth.covariance, truth.mean)
    mean = tempered @ (beta * precision @ best)
    least = problem.strength * float(problem.cost(best[None]))
    gap = mean - best
    exact = least + float((precision @ tempered).trace() / 2 + gap @ precision @ gap / 2)
    assert abs(e.bits - exact / math.log(2)) < 4 * e.diagnostics["error_bits"]


def test_infinite_costs_are_walls() -> None:
    # Uniform on [−1, 1]² and finite on a quarter of it: λ̂ there is that of the quarter, 2 · ½ for L = |w|²/2.
    def cost(w: Tensor) -> Tensor:
        return torch.where((w > 0).all(-1), w.square().sum(-1) / 2, torch.inf)

    problem = Problem(2, UniformBox(-ONE, ONE), cost, 0.0, "L")
    found = learning.coefficient(problem, 1000, stream(0, "chains"), torch.full((2,), 1e-9), effort=0.3)
    assert abs(found.value - 1.0) < 2.5 * (found.high - found.low) < 0.5
    nowhere = Problem(2, UniformBox(-ONE, ONE), lambda w: w[..., 0] * 0 + torch.inf, 0.5, "L", strength=100.0)
    with pytest.raises(InputError, match="infinite cost"):
        estimate(nowhere, "wbic", generator=stream(0, "g"))


def test_what_has_no_wbic_is_refused() -> None:
    with pytest.raises(InputError, match="hard event"):
        estimate(cases.ball(3, 0.5).problem, "wbic", generator=stream(0, "g"))
    with pytest.raises(InputError, match="at least 3 questions"):
        estimate(cases.evidence((1.0,)).problem, "wbic", generator=stream(0, "g"))
    for given in ((2, torch.zeros(6)), (1000, torch.full((6,), torch.inf))):
        with pytest.raises(InputError):
            learning.coefficient(quadratic(), given[0], stream(0, "g"), given[1])
    with pytest.raises(InputError, match="gamma"):
        learning.coefficient(quadratic(), 1000, stream(0, "g"), torch.zeros(6), gamma=-1.0)
