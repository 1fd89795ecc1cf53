"""Gaussian bits-back where the best q is known, and what it says of its draws."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import brentq
from scipy.special import ndtr
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.ledger import account, gaussian
from reuse_sim.rng import stream


def quadratic(p: int, seed: int) -> tuple[Tensor, Tensor]:
    """Curvatures over three orders of magnitude and a θ."""
    a = torch.randn(p, generator=stream(seed, "a"), dtype=torch.float64)
    return torch.logspace(-2, 1, p, dtype=torch.float64), a


def best(h: Tensor, a: Tensor, tolerance: float) -> tuple[float, Tensor, Tensor]:
    """The least KL in bits with E C = tolerance, C = mean h (θ − a)² under N(0, I), by its multiplier."""
    def at(price: float) -> tuple[Tensor, Tensor]:
        k = 2 * price * h / len(h)
        return a * k / (1 + k), 1 / (1 + k)

    def excess(log_price: float) -> float:
        m, v = at(math.exp(log_price))
        return float((h * (v + (m - a).square())).mean()) - tolerance

    m, v = at(math.exp(brentq(excess, -20, 30)))
    return float((v + m.square() - 1 - v.log()).sum()) / (2 * math.log(2)), m, v


@pytest.mark.parametrize("seed, tolerance", [(0, 0.1), (1, 0.4)])
def test_the_divergence_is_the_least_there_is(seed: int, tolerance: float) -> None:
    h, a = quadratic(20, seed)
    sd = torch.linspace(0.5, 3, 20, dtype=torch.float64)
    said = gaussian.shortest(a * sd, sd, lambda t: (h * (t / sd - a).square()).mean(-1), tolerance, stream(seed, "q"))
    least, m, v = best(h, a, tolerance)
    assert least - 0.1 < said.bits < 1.03 * least + 0.2
    assert said.expected < tolerance + 3 * said.error and said.error < 0.02 * tolerance
    stiff = h > 0.1
    assert torch.allclose(said.sd[stiff] / sd[stiff], v[stiff].sqrt(), rtol=0.25)
    assert torch.allclose(said.mean[stiff] / sd[stiff], m[stiff], atol=0.25)


def test_the_share_within_the_tolerance_and_what_the_hard_event_takes_more() -> None:
    """One stiff direction: C = 100 θ² is within the tolerance with probability 2Φ(1) − 1 where E C equals it."""
    said = gaussian.shortest(torch.zeros(1), torch.ones(1), lambda t: 100 * t[:, 0].square(), 0.25, stream(0, "q"))
    assert said.within == pytest.approx(2 * ndtr(1) - 1, abs=0.05)
    assert said.spread == pytest.approx(math.sqrt(2) * 0.25, rel=0.15)
    assert said.multiplier == pytest.approx((1 / 0.05**2 - 1) / 200, rel=0.15)  # 1/s² = 1 + 2 β 100
    more = account.expected_to_hard_bits(said.multiplier, said.spread)
    assert more == pytest.approx(0.5 * math.log2(math.pi), abs=0.25)  # βσ = √½


def test_what_cannot_be() -> None:
    def ask(**given):
        asked = {"theta": torch.zeros(2), "prior_sd": torch.ones(2), "distortion": lambda t: t.square().mean(-1),
                 "tolerance": 0.1, "generator": stream(0, "q"), "steps": 2, **given}
        return gaussian.shortest(**asked)

    with pytest.raises(InputError, match="no gradient"):
        ask(distortion=lambda t: (t > 0).double().mean(-1))
    with pytest.raises(InputError, match="θ itself"):
        ask(theta=torch.ones(2))
    for bad in (0.0, math.nan, math.inf):
        with pytest.raises(InputError, match="above 0"):
            ask(tolerance=bad)
    assert math.isfinite(ask().bits)
