"""The linear world: caps, binomials and perceptrons against known values and sampling; what its humans do."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.humans import descent
from reuse_sim.rng import stream, streams
from reuse_sim.worlds import linear
from reuse_sim.worlds.linear import LN2, binomial_bits, cap, cap_bits, disagreement, perceptron_count

NAMES = ["a", "b", "c", "e"]
WORLD = linear.build()


@pytest.mark.parametrize(("d", "tolerance", "bits"), [
    (10, 0.05, 27.023), (10, 0.1, 18.140), (10, 0.2, 9.608), (10, 0.3, 5.128),
    (50, 0.05, 135.265), (50, 0.1, 87.089), (50, 0.2, 41.415), (50, 0.3, 18.405),
    (100, 0.05, 269.587), (100, 0.1, 172.303), (100, 0.2, 80.243), (100, 0.3, 34.173),
    (200, 0.1, 342.228),
])
def test_caps_have_their_known_bits(d: int, tolerance: float, bits: float) -> None:
    assert cap_bits(d, tolerance) == pytest.approx(bits, abs=6e-4)  # known to three places


@pytest.mark.parametrize("d", [2, 3, 10, 200, 1000])
def test_half_of_all_linear_humans_are_right_at_least_every_other_time(d: int) -> None:
    assert cap_bits(d, 0.5) == 1.0
    assert cap(d, 1.0) == 1.0 and cap_bits(d, 1.0) == 0.0
    assert cap_bits(d, 0.0) == math.inf


@pytest.mark.parametrize("tolerance", [0.01, 0.1, 0.24, 0.26, 0.5, 0.7, 0.9])
def test_caps_of_two_and_three_dimensions_are_elementary(tolerance: float) -> None:
    assert cap_bits(2, tolerance) == pytest.approx(-math.log2(tolerance), rel=1e-12)
    assert cap_bits(3, tolerance) == pytest.approx(-math.log2((1 - math.cos(math.pi * tolerance)) / 2), rel=1e-12)


def test_bits_are_finite_where_the_fraction_is_no_float() -> None:
    assert cap(1000, 0.05) == 0.0 and 2600 < cap_bits(1000, 0.05) < 2750
    # Far out a dimension more costs −log₂ sin πτ and a little: the cap is a ball of one dimension less.
    # From 540 to 600 dimensions at .1 the fraction leaves the range of floats.
    for tolerance, dimensions in ((0.05, range(2000, 2003)), (0.1, range(540, 600))):
        for d in dimensions:
            step = cap_bits(d + 1, tolerance) - cap_bits(d, tolerance)
            assert step == pytest.approx(-math.log2(math.sin(math.pi * tolerance)) + 1 / (2 * d * LN2), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 300), st.floats(0.01, 0.98), st.floats(1e-3, 0.02))
def test_bits_fall_with_tolerance_and_opposite_caps_complement(d: int, tolerance: float, more: float) -> None:
    assert cap_bits(d, tolerance + more) <= cap_bits(d, tolerance)
    assert cap(d, tolerance) + cap(d, 1 - tolerance) == pytest.approx(1, abs=1e-12)
    if tolerance < 0.5:
        assert cap_bits(d + 1, tolerance) > cap_bits(d, tolerance)


@pytest.mark.parametrize(("d", "tolerance"), [(4, 0.2), (7, 0.3), (15, 0.4)])
def test_sampled_caps(d: int, tolerance: float) -> None:
    n, g = 200_000, stream(0, f"cap/{d}")
    humans, teacher = torch.randn(n, d, generator=g, dtype=torch.float64), torch.randn(d, generator=g).double()
    share, expected = float((disagreement(humans, teacher) <= tolerance).double().mean()), cap(d, tolerance)
    assert abs(share - expected) < 3 * (expected * (1 - expected) / n) ** 0.5


@pytest.mark.parametrize(("m", "tolerance", "bits"), [
    (20, 0.0, 20.0), (100, 0.05, 73.758), (100, 0.1, 55.858), (1000, 0.1, 535.408), (20, 1.0, 0.0),
])
def test_binomial_bits_are_known(m: int, tolerance: float, bits: float) -> None:
    assert binomial_bits(m, tolerance) == pytest.approx(bits, abs=6e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 100))
def test_binomial_bits_are_a_sum_of_whole_numbers(m: int, other: int, percent: int) -> None:
    most = m * percent // 100
    exact = m - math.log2(sum(math.comb(m, k) for k in range(most + 1)))
    assert binomial_bits(m, percent / 100) == pytest.approx(exact, abs=1e-8)
    # No mistakes allowed, bits add up; with some allowed, fewer than m are asked for.
    assert binomial_bits(m, 0) + binomial_bits(other, 0) == pytest.approx(binomial_bits(m + other, 0), rel=1e-12)
    # Both within τ is one way of all being within τ.
    both = binomial_bits(m, percent / 100) + binomial_bits(other, percent / 100)
    assert binomial_bits(m + other, percent / 100) <= both + 1e-8


def test_sampled_answer_sheets() -> None:
    m, tolerance, n = 14, 0.3, 200_000
    wrong = torch.randint(2, (n, m), generator=stream(0, "sheets")).sum(1)
    share, expected = float((wrong <= tolerance * m).double().mean()), 2 ** -binomial_bits(m, tolerance)
    assert abs(share - expected) < 3 * (expected * (1 - expected) / n) ** 0.5


def test_perceptrons_answer_1_to_any_number_of_questions_equally_often() -> None:
    n, draws = 4, 160_000
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * n)
    ones = (torch.randn(draws, n, generator=stream(0, "perceptrons")) @ x.T > 0).sum(1)
    share, expected = torch.bincount(ones, minlength=2**n + 1) / draws, perceptron_count(n)
    assert float(expected.sum()) == 1.0 and expected[-1] == 0 and share[-1] == 0
    score = (share - expected)[:-1] / (expected * (1 - expected) / draws)[:-1].sqrt()
    assert score.abs().max() < 3.6  # 3 standard errors, were it one score of 16


@pytest.mark.parametrize("strength", [None, 0.0, 0.5, 1.0, 2.0])
def test_sampled_disagreement_is_the_angle(strength: float | None) -> None:
    theta, other, n = WORLD.teacher(streams(0, NAMES)), WORLD.teacher(streams(1, NAMES)), 40_000
    if strength is None:
        x = WORLD.on_distribution(theta, n, streams(2, NAMES))
    else:
        x = WORLD.off_distribution(theta, n, streams(2, NAMES), strength)
    differ = (WORLD.answer(theta, x) != WORLD.answer(other, x)).double().mean(1)
    expected = WORLD.disagreement(theta, other, strength).double()
    score = (differ - expected) / (expected * (1 - expected) / n).sqrt()
    assert score.abs().max() < 4


def test_disagreement_of_equals_and_opposites() -> None:
    theta = torch.randn(3, 5, generator=stream(0, "theta"))
    assert (disagreement(theta, 2 * theta) < 1e-6).all()
    torch.testing.assert_close(disagreement(theta, -theta), torch.ones(3))


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 3), st.integers(1, 5), st.integers(0, 10_000))
def test_questions_stay_in_their_support_whatever_is_stacked(strength: float, n: int, seed: int) -> None:
    theta = WORLD.teacher(streams(0, NAMES))
    on = WORLD.on_distribution(theta, n, streams(seed, NAMES))
    off = WORLD.off_distribution(theta, n, streams(seed, NAMES), strength)
    assert (on[..., WORLD.active:] == 0).all() and torch.equal(on[..., : WORLD.active], off[..., : WORLD.active])
    assert (off[..., WORLD.active:] != 0).any()
    assert torch.equal(WORLD.off_distribution(theta[2:3], n, streams(seed, NAMES[2:3]), strength), off[2:3])
    assert torch.equal(WORLD.on_distribution(theta[2:3], n, streams(seed, NAMES[2:3])), on[2:3])


def test_inactive_entries_are_those_that_on_distribution_answers_ignore() -> None:
    theta = WORLD.teacher(streams(0, NAMES))
    on = WORLD.on_distribution(theta, 500, streams(1, NAMES))
    off = WORLD.off_distribution(theta, 500, streams(1, NAMES))
    for entry, inactive in enumerate(WORLD.inactive(theta)):
        other = theta.clone()
        other[:, entry] += 2
        assert torch.equal(WORLD.answer(other, on), WORLD.answer(theta, on)) == bool(inactive)
        assert not torch.equal(WORLD.answer(other, off), WORLD.answer(theta, off))


def test_humans_are_right_where_they_learned_and_wrong_by_the_angle_elsewhere() -> None:
    theta = WORLD.teacher(streams(0, NAMES))
    human = descent.build(width=1, steps=600)
    theta_2 = human.train(WORLD, human.init(WORLD, streams(1, NAMES)), theta, streams(2, NAMES)).theta
    assert WORLD.disagreement(theta, theta_2).max() < 0.05
    assert WORLD.disagreement(theta, theta_2, 1.0).mean() > 0.2
    x = WORLD.off_distribution(theta, 20_000, streams(3, NAMES))
    wrong = (WORLD.human_answer(WORLD.human_net(1), theta_2, x) * WORLD.answer(theta, x) < 0).double().mean(1)
    expected = WORLD.disagreement(theta, theta_2, 1.0).double()
    assert ((wrong - expected) / (expected * (1 - expected) / 20_000).sqrt()).abs().max() < 4


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="active: got 7; expected fewer than d = 7"):
        linear.build(d=7, active=7)
    with pytest.raises(InputError, match="tolerance: got 1.5"):
        cap_bits(5, 1.5)
