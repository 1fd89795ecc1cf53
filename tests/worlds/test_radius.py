"""The radius world: standardised exactly, uniform where it says so, and beyond what its humans learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import kstest

from reuse_sim.humans import descent
from reuse_sim.inheritance.observed import r_squared
from reuse_sim.rng import stream, streams
from reuse_sim.worlds import radius

WORLD = radius.build()


def test_mean_cosine_is_the_integral_over_the_ball() -> None:
    # A coordinate of a uniform point in the ball of radius 2 in R⁴ is 2u with density ∝ (1 − u²)^{3/2}.
    weight = quad(lambda u: (1 - u * u) ** 1.5, -1, 1)[0]
    for size in (0.0, 1e-3, 4.9e-3, 5.1e-3, 0.1, 1.0, 3.0, 8.0):
        expected = quad(lambda u, k=size: np.cos(2 * k * u) * (1 - u * u) ** 1.5, -1, 1)[0] / weight
        k = torch.tensor([0.6, 0.0, -0.8, 0.0], dtype=torch.float64) * size
        assert radius.mean_cosine(k).item() == pytest.approx(expected, abs=1e-9)


def test_teachers_have_mean_0_and_sd_1_on_distribution() -> None:
    names = [f"teacher/{i}" for i in range(20)]
    theta = WORLD.teacher(streams(0, names)).double()
    y = WORLD.answer(theta, WORLD.on_distribution(theta, 40_000, streams(1, names)))
    n = y.shape[1]
    # Largest of 40 scores: 4.5 standard errors are exceeded once in 3,700 such tests.
    assert (y.mean(1).abs() * n**0.5).max() < 4.5
    error_of_square = y.square().std(1) / n**0.5
    assert ((y.square().mean(1) - 1).abs() / error_of_square).max() < 4.5


def test_a_wrong_standardisation_would_be_seen() -> None:
    theta = WORLD.teacher([stream(0, "teacher")]).double()
    theta[:, -1] *= 1.05
    y = WORLD.answer(theta, WORLD.on_distribution(theta, 40_000, [stream(1, "x")]))
    assert (y.square().mean() - 1).abs() > 4.5 * y.square().std() / 200


def test_parameters_of_teachers_lie_in_their_ranges() -> None:
    theta = radius.build(sines=50).teacher(streams(0, ["a", "b", "c", "d"]))
    w, b, a = theta[:, :200].unflatten(1, (50, 4)), theta[:, 200:250], theta[:, 250:300]
    assert theta.shape == (4, 302)
    for values, low, high in ((w.norm(dim=-1), 0.8, 1.3), (a.abs(), 0.7, 1.3), (b, 0.0, 2 * torch.pi)):
        share = ((values - low) / (high - low)).flatten().numpy()
        assert kstest(share, "uniform").pvalue > 1e-3
    assert abs((a > 0).double().mean().item() - 0.5) < 4 * 0.5 / 200**0.5


@pytest.mark.parametrize(("draw", "low", "high"), [
    (lambda t, g: WORLD.on_distribution(t, 4000, g), 0.0, 2.0),
    (lambda t, g: WORLD.off_distribution(t, 4000, g), 2.8, 4.0),
    (lambda t, g: WORLD.off_distribution(t, 4000, g, 0.0), 2.0, 3.2),
    (lambda t, g: WORLD.off_distribution(t, 4000, g, 2.0), 3.6, 4.8),
])
def test_questions_are_uniform_between_two_radii(draw, low: float, high: float) -> None:
    x = draw(WORLD.teacher([stream(0, "teacher")]), [stream(2, "x")])[0].double()
    share = (x.norm(dim=-1) ** 4 - low**4) / (high**4 - low**4)
    assert kstest(share.clamp(0, 1).numpy(), "uniform").pvalue > 1e-3
    assert share.min() > -1e-5 and share.max() < 1 + 1e-5
    # Directions are isotropic: E uuᵀ = I/4, each entry's sd below .2 per question.
    u = x / x.norm(dim=-1, keepdim=True)
    assert (u.T @ u / len(u) - torch.eye(4) / 4).abs().max() < 4.5 * 0.2 / 4000**0.5


def test_a_narrow_human_is_right_inside_and_wrong_outside() -> None:
    names = [f"human/{i}" for i in range(8)]
    theta_1 = WORLD.teacher(streams(0, names))
    human = descent.build(width=6, steps=450, rate=0.01)
    theta_2 = human.train(WORLD, human.init(WORLD, streams(1, names)), theta_1, streams(2, names)).theta
    net = WORLD.human_net(6)
    assert net.p == 37
    on, off = (
        torch.tensor([float(r_squared(h[None], f[None])) for h, f in zip(
            WORLD.human_answer(net, theta_2, x), WORLD.answer(theta_1, x), strict=True)])
        for x in (WORLD.on_distribution(theta_1, 2000, streams(3, names)),
                  WORLD.off_distribution(theta_1, 2000, streams(3, names)))
    )
    # A small trial had .86 (sd .05) and -.1 (sd .3); the mean of eight must be clear of the other side.
    assert on.mean() > 0.75
    assert off.mean() < 0.35
