"""The price of rerunning: noise scales and steps of a quadratic in closed form, costs by numerical search."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares, minimize_scalar

from reuse_sim.errors import InputError
from reuse_sim.joint import process
from reuse_sim.joint.process import Noise, Rerun, Steps
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream

CURVATURE = torch.tensor([5.0, 1.5, 0.3], dtype=torch.float64)
SPREAD = torch.tensor([2.0, 6.0, 1.0], dtype=torch.float64)
THETA = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
"""Of L(θ) = ½ Σ h θ², whose gradient at one question is hθ + normal noise of standard deviations SPREAD."""
GRADIENT = CURVATURE * THETA


def curved(v: torch.Tensor) -> torch.Tensor:
    return (CURVATURE * v**2).sum(-1)


EXACT = Noise(float(curved(SPREAD) / curved(GRADIENT)), 0.0, float(curved(SPREAD)), float(curved(GRADIENT)))


def gradients(n: int, batch: int, name: str) -> torch.Tensor:
    z = torch.randn(n, 3, generator=stream(0, f"{name}/{batch}"), dtype=torch.float64)
    return GRADIENT + SPREAD * z / math.sqrt(batch)


@pytest.mark.parametrize(("form", "name"), [(process.squared_norm, "simple"), (curved, "curved")])
def test_the_noise_scale_is_unbiased_and_knows_its_error(form, name):
    """Over 200 repeats of 64 pairs: the mean is right within 4 s.e., the errors told are the spread within 20 %."""
    truth = float(form(SPREAD) / form(GRADIENT))
    found = [process.noise(gradients(64, 2, f"{name}/{k}"), gradients(64, 32, f"{name}/{k}"), (2, 32), form)
             for k in range(200)]
    scales = torch.tensor([f.scale for f in found])
    assert float(scales.mean()) == pytest.approx(truth, abs=4 * float(scales.std()) / 200**0.5)
    assert sum(f.error for f in found) / 200 == pytest.approx(float(scales.std()), rel=0.2)
    assert sum(f.trace for f in found) / 200 == pytest.approx(float(form(SPREAD)), rel=0.05)
    assert sum(f.square for f in found) / 200 == pytest.approx(float(form(GRADIENT)), rel=0.05)


@pytest.mark.parametrize("batch", [1, 3, 12, 50])
def test_the_best_step_on_a_quadratic_falls_as_the_noise_scale_says(batch):
    """ΔL of 200,000 real steps at the best rate, within 4 s.e.; no other rate is better."""
    square = float(GRADIENT.square().sum())
    best = process.best_rate(square, EXACT, batch)
    g = gradients(200_000, batch, "steps")

    def fall(rate: float) -> torch.Tensor:
        return (CURVATURE * THETA**2).sum() / 2 - (CURVATURE * (THETA - rate * g) ** 2).sum(-1) / 2

    at_best = fall(best)
    assert float(at_best.mean()) == pytest.approx(
        process.improvement(square, EXACT, batch), abs=4 * float(at_best.std()) / 200_000**0.5
    )
    assert float(at_best.mean()) > max(float(fall(0.8 * best).mean()), float(fall(1.25 * best).mean()))


def test_gauss_newton_is_the_hessian_of_a_linear_network():
    net = Mlp((3, 1))
    g = stream(0, "linear")
    theta, v, x = (torch.randn(n, k, generator=g, dtype=torch.float64) for n, k in ((1, 4), (5, 4), (50, 3)))
    f = torch.zeros(50, dtype=torch.float64)
    loss = lambda t: (net.forward(t, x)[..., 0] - f).square().mean()  # noqa: E731
    hessian = torch.autograd.functional.hessian(loss, theta[0])
    form = process.gauss_newton(net, theta[0], x)(v)
    assert form == pytest.approx((v @ hessian * v).sum(-1))


@given(least=st.floats(1, 1e4), critical=st.floats(0.5, 1e4))
def test_a_line_of_steps_is_found_again(least, critical):
    batches = [critical * k for k in (0.2, 0.7, 1, 4, 9)]
    fit = process.fit_steps(batches, [least * (1 + critical / b) for b in batches])
    assert (fit.least, fit.critical) == pytest.approx((least, critical), rel=1e-6) and fit.misfit < 1e-6


@given(
    rerun=st.floats(1e-3, 1e9), question=st.floats(1e-3, 1e6), least=st.floats(1, 1e5), critical=st.floats(0.1, 1e5)
)
def test_the_best_batch_the_least_cost_and_the_premium_are_those_of_a_numerical_search(
    rerun, question, least, critical
):
    one = Rerun(rerun, question, Steps(least, critical))
    found = minimize_scalar(lambda log_b: math.log(one.cost(math.exp(log_b))), bracket=(-1, 1), tol=1e-12)
    assert math.exp(found.fun) == pytest.approx(one.least_cost, rel=1e-6)
    assert math.exp(found.x) == pytest.approx(one.best_batch, rel=1e-3)
    without = question * least * critical  # the limit of small batches
    assert math.exp(found.fun) / without == pytest.approx(one.premium, rel=1e-6)
    assert one.cost(critical) / (2 * least * question * critical) == pytest.approx(one.per_batch)


def test_the_premium_of_equal_costs_is_four_and_regimes_end_where_a_rerun_costs_all_else():
    steps = Steps(200.0, 50.0)
    assert Rerun(3.0 * 50, 3.0, steps).premium == 4 and Rerun(3.0 * 50, 3.0, steps).per_batch == 2
    datapoint, batch, once = Rerun(1.0, 3.0, steps).boundaries
    assert (datapoint, batch, once) == (3, 150, 60_000) and steps.at(50) * 50 * 3 == once
    for c, factor in ((datapoint, "per_datapoint"), (batch, "per_batch"), (once, "once")):
        assert getattr(Rerun(c, 3.0, steps), factor) == pytest.approx(2)
    at = [Rerun(c * shift, 3.0, steps).regime for c in (datapoint, batch, once) for shift in (1, 1.001)]
    assert at == ["datapoint", "batch", "batch", "once", "once", "doomed"]


def test_the_premium_as_measured_on_the_line_is_the_formula_and_nothing_beyond_it():
    steps = Steps(100.0, 20.0)
    batches = [4.0, 8.0, 16.0, 32.0, 64.0]
    counts = [steps.at(b) for b in batches]
    for burden in (0.1, 1.0, 9.0):
        one = Rerun(burden * 20 * 5, 5.0, steps)
        assert process.measured_premium(batches, counts, one) == pytest.approx(one.premium)
    for burden in (1e-3, 1e3):
        assert process.measured_premium(batches, counts, Rerun(burden * 20 * 5, 5.0, steps)) is None


def noisy_descent(batch: int) -> int:
    """Steps in which L = ½|θ|² falls from 25 to 1 in 50 dimensions, at a twentieth of the best rate, trΣ = 450."""
    g = stream(0, f"descent/{batch}")
    theta = torch.ones(512, 50, dtype=torch.float64)
    for step in range(10_000):
        square = float(theta.square().sum(1).mean())
        if square / 2 <= 1:
            return step
        rate = 0.05 * process.best_rate(square, Noise(450 / square, 0.0, 450.0, square), batch)
        z = torch.randn(theta.shape, generator=g, dtype=torch.float64)
        theta = theta - rate * (theta + 3 * z / batch**0.5)
    raise AssertionError("too few steps")


def test_the_premium_of_real_descents_is_that_of_the_formula_within_5_percent():
    """A step of size k/20 of the best takes a share 1 − .95² of what that would: dL/dt = −.0975 L / (1 + trΣ/2LB).

    Integrated, S = (ln 25 + (trΣ/2B)(1 − 1/25)) / .0975, so that B_n = 450 · .96 / 2 ln 25 = 67.1. Steps being steps
    and no flow, S_min is less by 5 % of itself.
    """
    batches = [8, 16, 32, 64, 128, 256, 512]
    steps = [noisy_descent(b) for b in batches]
    fit = process.fit_steps(batches, steps)
    assert fit.critical == pytest.approx(450 * 0.96 / 2 / math.log(25), rel=0.07)
    assert fit.least == pytest.approx(math.log(25) / -math.log(1 - 0.0975), rel=0.05)
    for burden in (0.1, 1.0, 10.0):
        one = Rerun(burden * fit.critical, 1.0, fit)
        assert process.measured_premium(batches, steps, one) == pytest.approx(one.premium, rel=0.05)


@pytest.mark.parametrize(
    ("call", "where"),
    [
        (lambda: process.noise(torch.ones(4, 2), torch.ones(4, 2), (8, 8)), "sizes"),
        (lambda: process.noise(torch.ones(2, 2), torch.ones(2, 2), (1, 8)), "gradients"),
        (lambda: process.noise(gradients(9, 1, "a") - GRADIENT, gradients(9, 2, "a") - GRADIENT, (1, 2)), "gradients"),
        (lambda: process.fit_steps([1, 2], [2, 1]), "batches"),
        (lambda: process.fit_steps([1, 2, 4], [1.0, 2.0, 4.0]), "steps"),
        (lambda: process.fit_steps([1, 2, 4], [9.0, math.inf, 4.0]), "steps"),
        (lambda: Rerun(math.nan, 1.0, Steps(1, 1)), "Rerun.rerun"),
        (lambda: Rerun(1.0, 0.0, Steps(1, 1)), "Rerun.question"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(call, where):
    with pytest.raises(InputError, match=where):
        call()


def test_the_step_at_which_a_loss_is_met_lies_on_a_line_of_logarithms():
    losses = [1.0, 0.4, 0.1, 0.3, 0.1]
    assert process.crossing([0, 10, 20, 30, 40], 0.2, losses.__getitem__) == pytest.approx(15)
    assert process.crossing([0, 10, 20, 30, 40], 0.05, losses.__getitem__) == math.inf
    with pytest.raises(InputError, match="before any training"):
        process.crossing([0, 10], 0.2, [0.1, 0.01].__getitem__)


def test_a_loss_is_asked_only_where_its_least_meets_the_target():
    losses, asked = [1.0, 0.4, 0.3, 0.1, 0.1], []

    def loss(k):
        asked.append(k)
        return losses[k]

    step = process.crossing([0, 10, 20, 30, 40], 0.2, loss, lambda k: 0.6 * losses[k])
    assert step == process.crossing([0, 10, 20, 30, 40], 0.2, losses.__getitem__) and asked == [0, 2, 3, 2]


def test_climbing_finds_the_best_rate_between_those_it_tries():
    """S = 100 e^(log²(rate/.37)) is a parabola in logarithms, which the last step finds exactly."""
    asked = []

    def steps(rate: float, most: int) -> float:
        asked.append(rate)
        found = 100 * math.exp(math.log(rate / 0.37) ** 2)
        return found if found <= most else math.inf

    assert process.climb(steps, 0.15, 10_000) == pytest.approx((0.37, 100))
    assert len(asked) == len(set(asked)) < 12


def test_climbing_stops_at_the_rate_beyond_which_runs_break():
    """S = 1/rate up to .5: between .4977, which is tried, and the wall are two halvings left."""
    rate, steps = process.climb(lambda rate, most: 1 / rate if rate < 0.5 else math.inf, 0.16, 100)
    assert 0.5 / 1.2**0.25 <= rate < 0.5 and steps == pytest.approx(1 / rate)
    fallen, _ = process.climb(lambda rate, most: 1 / rate if rate < 0.1 else math.inf, 0.9, 100)
    assert 0.1 / 1.2**0.25 <= fallen < 0.1
    assert process.climb(lambda rate, most: math.inf, 0.9, 100)[1] == math.inf


def test_the_misfit_is_the_largest_share_that_a_measured_count_is_off_the_line():
    batches, steps = [1.0, 4.0, 16.0, 64.0], [520.0, 190.0, 121.0, 104.0]
    # Least squares of the errors as shares, by scipy instead of normal equations.
    pairs = list(zip(batches, steps, strict=True))
    found = least_squares(lambda v: [v[0] * (1 + v[1] / b) / s - 1 for b, s in pairs], [90, 4])
    line = process.fit_steps(batches, steps)
    assert (line.least, line.critical) == pytest.approx(tuple(found.x), rel=1e-5)
    assert line.misfit == pytest.approx(max(abs(line.at(b) / s - 1) for b, s in pairs))
    assert 0.01 < line.misfit < 0.2
