"""The generalised χ² against χ², normal and noncentral tails, near and far, and against counting."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import special, stats

from reuse_sim.rng import stream
from reuse_sim.specialness import cases, quadratic


def full(d: int, value: float) -> torch.Tensor:
    return torch.full((d,), value, dtype=torch.float64)


@pytest.mark.parametrize(("d", "radius2"), [
    (1, 0.01), (1, 0.5), (1, 12.0), (2, 0.3), (3, 1.0), (10, 0.5), (100, 5.0), (1000, 50.0), (1000, 700.0)
])  # fmt: skip
def test_balls(d: int, radius2: float) -> None:
    log_p, error = quadratic.log_share(0.0, full(d, 0.0), full(d, 1.0), radius2)
    assert -log_p / math.log(2) == pytest.approx(cases.ball(d, radius2).bits, rel=1e-9, abs=1e-9)
    assert error < 1e-8


@pytest.mark.parametrize("centre", [0.5, 3.0, 8.0])
@pytest.mark.parametrize("d", [1, 2, 7])
def test_balls_off_centre(d: int, centre: float) -> None:
    b = full(d, 0.0)
    b[0] = -centre  # ½|x − m|² = ½m² − m x₁ + ½|x|²
    log_p, _ = quadratic.log_share(centre**2 / 2, b, full(d, 1.0), 2.0)
    assert log_p == pytest.approx(float(stats.ncx2.logcdf(4.0, d, centre**2)), rel=1e-7)


@pytest.mark.parametrize("a", [-3.0, 0.0, 0.5, 5.0, 20.0])
def test_half_spaces(a: float) -> None:
    # a − x₁ ≤ 0: no curvature at all.
    log_p, _ = quadratic.log_share(a, -torch.eye(3, dtype=torch.float64)[0], full(3, 0.0), 0.0)
    assert log_p == pytest.approx(float(special.log_ndtr(-a)), rel=1e-9)


def test_curves_both_ways() -> None:
    # x₁² − x₂² ≤ 0 is half of the plane by symmetry; a mixed case is counted.
    h = torch.tensor([2.0, -2.0], dtype=torch.float64)
    assert quadratic.log_share(0.0, full(2, 0.0), h, 0.0)[0] == pytest.approx(math.log(0.5), abs=1e-3)
    b, h = torch.randn(2, 5, generator=stream(0, "q"), dtype=torch.float64)
    x = torch.randn(400_000, 5, generator=stream(0, "x"), dtype=torch.float64)
    share = float((0.3 + x @ b + x**2 @ h / 2 <= -0.5).double().mean())
    log_p, _ = quadratic.log_share(0.3, b, h, -0.5)
    assert abs(math.exp(log_p) - share) < 4 * math.sqrt(share / 400_000)


def test_what_cannot_be_and_what_must_be() -> None:
    assert quadratic.log_share(1.0, full(2, 0.0), full(2, 1.0), 0.9)[0] == -math.inf
    assert quadratic.log_share(1.0, full(2, 0.0), full(2, 0.0), 2.0)[0] == 0.0
    assert quadratic.log_share(0.0, full(2, 0.0), full(2, 1.0), 500.0)[0] == pytest.approx(0.0, abs=1e-9)
