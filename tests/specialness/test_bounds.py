"""Limits from weights hold as often as they say, whatever the weights are."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reuse_sim.rng import stream
from reuse_sim.specialness.bounds import Weights


def log_normal(shape: tuple[int, ...], sd: float, g: torch.Generator) -> Tensor:
    """Of mean 1."""
    return sd * torch.randn(shape, generator=g, dtype=torch.float64) - sd**2 / 2


def rare(shape: tuple[int, ...], chance: float, g: torch.Generator) -> Tensor:
    """1/chance with that chance, else 0: Markov's inequality is nearly an equality."""
    hit = torch.rand(shape, generator=g, dtype=torch.float64) < chance
    return torch.where(hit, -math.log(chance), -torch.inf)


@pytest.mark.parametrize("draw", [(log_normal, 0.2), (log_normal, 1.5), (log_normal, 4.0), (rare, 0.7), (rare, 0.09)])
@pytest.mark.parametrize("shape", [(16, 1), (1, 16), (4, 2)])
def test_a_limit_is_wrong_as_seldom_as_it_says(draw, shape: tuple[int, int]) -> None:
    weigh, how = draw
    g, n, alpha = stream(0, "weights"), 300, 0.1
    wrong = sum(Weights(weigh(shape, how, g)).limit(alpha) > 0 for _ in range(n)) / n
    assert wrong < alpha + 3 * math.sqrt(alpha * (1 - alpha) / n)


def test_one_group_can_reach_the_limit_and_many_are_worth_more() -> None:
    alone = Weights(torch.zeros(1, 16, dtype=torch.float64))
    many = Weights(torch.zeros(16, 1, dtype=torch.float64))
    assert alone.limit(0.05) == pytest.approx(-math.log(20), abs=1e-9)
    assert -math.log(20 * 5) / 16 < many.limit(0.05) < -math.log(20) / 16


def test_what_an_average_would_claim_is_wrong_too_often() -> None:
    g, n, alpha = stream(0, "weights"), 300, 0.1
    found = [Weights(log_normal((16, 1), 0.5, g)) for _ in range(n)]
    assert sum(w.log_mean > 0 for w in found) / n > alpha + 3 * math.sqrt(alpha * (1 - alpha) / n)


def test_no_weight_no_limit() -> None:
    nothing = Weights(torch.full((8, 1), -torch.inf, dtype=torch.float64))
    assert nothing.limit(0.1) == nothing.log_mean == -math.inf and nothing.effective == 0


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=20), st.floats(0.001, 0.5), st.floats(-500, 500))
def test_limits_lie_below_the_mean_and_move_with_the_weights(logs: list[float], alpha: float, shift: float) -> None:
    weights = Weights(torch.tensor(logs, dtype=torch.float64)[:, None])
    moved = Weights(weights.log_weight + shift)
    assert weights.limit(alpha / 2) <= weights.limit(alpha) + 1e-9 <= weights.log_mean + 2e-9
    assert moved.limit(alpha) == pytest.approx(weights.limit(alpha) + shift, abs=1e-6)
    assert 1 - 1e-9 <= weights.effective <= len(logs) + 1e-9


def test_the_guess_is_right_for_normal_log_weights() -> None:
    g = stream(0, "weights")
    found = torch.tensor([Weights(log_normal((16, 1), 2.0, g)).guess(0.0) for _ in range(500)])
    assert abs(float(found.mean())) < 4 * float(found.std()) / 500**0.5
    low = torch.tensor([Weights(log_normal((16, 1), 2.0, g)).log_mean for _ in range(500)])
    assert float(low.mean()) < -0.3  # of the plain mean this is not true
