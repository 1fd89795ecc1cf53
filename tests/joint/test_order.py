"""What order of data and initialisation leave in a human: water-filling against closed forms, and planted humans."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.joint.order import count_bits, eigenvalues, noisy_bits, rate_bits, spread, water_level
from reuse_sim.rng import stream

sizes = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=12)


def test_the_rate_is_that_of_textbooks() -> None:
    one = torch.tensor([4.0], dtype=torch.float64)
    assert rate_bits(one, 0.25) == pytest.approx(2)  # ½ log₂ σ²/D
    assert rate_bits(one.expand(7), 0.25) == pytest.approx(14)
    # Cover & Thomas, 10.3.3, by hand: total 3 fills the two small ones to 1 and 1, the large to 1.
    some = torch.tensor([9.0, 1.0, 4.0], dtype=torch.float64)
    assert water_level(some, 1.0) == 1 and rate_bits(some, 1.0) == pytest.approx(math.log2(3) + 1)
    # Total 4.5: the small one is wholly under water, the others at (4.5 − 1)/2.
    assert water_level(some, 1.5) == pytest.approx(1.75)
    assert rate_bits(some, 1.5) == pytest.approx((math.log2(9 / 1.75) + math.log2(4 / 1.75)) / 2)


@given(sizes, st.floats(1e-4, 1e3))
def test_the_water_stands_where_it_holds_the_distortion(values: list[float], distortion: float) -> None:
    lambdas = torch.tensor(values, dtype=torch.float64)
    level = water_level(lambdas, distortion)
    held = float(lambdas.clamp(max=level).mean())
    assert held == pytest.approx(min(distortion, float(lambdas.mean())), rel=1e-9)
    rate, noisy = rate_bits(lambdas, distortion), noisy_bits(lambdas, distortion)
    assert 0 <= rate <= noisy + 1e-9
    assert (rate == 0) == (float(lambdas.mean()) <= distortion) or rate < 1e-9


def test_eigenvalues_of_planted_answers() -> None:
    g = stream(0, "plant")
    basis = torch.linalg.qr(torch.randn(6, 6, generator=g, dtype=torch.float64))[0]
    truth = torch.tensor([0.0, 0.0, 0.0, 1.0, 4.0, 9.0], dtype=torch.float64)
    n = 20_000
    answers = 3 + (torch.randn(n, 6, generator=g, dtype=torch.float64) * truth.sqrt()) @ basis.T
    found = eigenvalues(answers)
    # A variance of n normal draws has a relative standard error of √(2/n) = .01.
    assert found == pytest.approx(truth, rel=0.04, abs=1e-9)
    assert noisy_bits(found, 0.5) == pytest.approx(float((1 + truth / 0.5).log2().sum()) / 2, abs=0.06)
    assert (eigenvalues(answers[:3]) > 1e-9).sum() == 2  # three points span a plane


def test_the_count_and_where_it_ends() -> None:
    answers, others = torch.zeros(2), torch.tensor([[0.0, 0.1], [1.0, 1.0], [0.1, 0.0], [5.0, 0.0]])
    assert count_bits(answers, others, 0.01) == (1.0, False)
    assert count_bits(answers, others, 20.0) == (0.0, False)
    assert count_bits(answers, others[1:2], 0.01) == (1.0, True)


def test_nothing_is_left_where_nothing_differs() -> None:
    same = spread(torch.ones(5), torch.ones(9, 5), 0.1)
    assert (same.rate, same.noisy, same.count, same.censored) == (0, 0, 0, False)
    with pytest.raises(InputError, match="distortion: got 0"):
        spread(torch.ones(5), torch.ones(9, 5), 0.0)
