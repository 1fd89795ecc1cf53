"""Intervals against SciPy's own and against their nominal coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from reuse_sim.stats import ratio_interval, share_interval, t_interval

worlds = st.lists(st.floats(-10, 10), min_size=3, max_size=20)


@given(worlds)
def test_t_interval_is_scipys(values):
    ours = t_interval(values)
    error = np.std(values, ddof=1) / len(values) ** 0.5
    half = scipy_stats.t.ppf(0.975, len(values) - 1) * error
    assert (ours.mean, ours.n) == (pytest.approx(np.mean(values)), len(values))
    assert ours.low == pytest.approx(ours.mean - half) and ours.high == pytest.approx(ours.mean + half)


@pytest.mark.parametrize("n", [5, 20, 60])
def test_limits_of_a_share_hold_it_as_often_as_they_say(n):
    found = [share_interval([1.0] * k + [0.0] * (n - k)) for k in range(n + 1)]
    true = np.sin(np.pi * (np.arange(2000) + 0.5) / 4000) ** 2  # as Beta(1/2, 1/2), under which 95 % is exact
    inside = np.array([(i.low <= true) & (true <= i.high) for i in found])
    held = (scipy_stats.binom.pmf(np.arange(n + 1)[:, None], n, true) * inside).sum(0)
    assert 0.95 <= held.mean() < 0.97  # a little more, for the ends reach to 0 and 1
    assert held[(true > 0.1) & (true < 0.9)].min() > 0.86


@given(st.lists(st.booleans(), min_size=2, max_size=40))
def test_a_share_and_its_rest_have_mirrored_limits(values):
    ours, rest = share_interval(values), share_interval([not v for v in values])
    assert (ours.low, ours.high) == (pytest.approx(1 - rest.high), pytest.approx(1 - rest.low))
    assert 0 <= ours.low <= ours.mean <= ours.high <= 1 and ours.n == len(values)
    assert ours.low < ours.high


@pytest.mark.parametrize("ones, n, supported", [
    (17, 17, True), (29, 30, True), (28, 30, False), (23, 24, False), (19, 20, False), (15, 15, False),
])
def test_above_85_percent_is_17_of_17_or_29_of_30(ones, n, supported):
    assert (share_interval([1] * ones + [0] * (n - ones)).low >= 0.85) == supported


def test_one_world_has_no_limits():
    assert np.isnan(share_interval([1]).low) and share_interval([]).n == 0


@given(worlds)
def test_a_ratio_with_unit_denominators_has_the_t_interval(values):
    one, other = ratio_interval([values], [np.ones(len(values))]), t_interval(values)
    assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high), abs=1e-9)


def test_a_paired_difference_over_the_same_denominators_has_that_of_the_differences():
    a, b = np.array([1.0, 2.0, 4.0, 3.0]), np.array([0.5, 2.5, 3.0, 1.0])
    one, other = ratio_interval([a, b], [np.ones(4), np.ones(4)]), t_interval(a - b)
    assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high))


def test_limits_of_a_ratio_are_where_a_t_test_turns():
    rng = np.random.default_rng(1)
    under = rng.gamma(4.0, 1.0, 9)
    over = 0.4 * under + rng.normal(0, 1, 9)
    interval = ratio_interval([over], [under])
    for limit in (interval.low, interval.high):
        assert scipy_stats.ttest_1samp(over - limit * under, 0).pvalue == pytest.approx(0.05, abs=1e-9)
    assert interval.mean == pytest.approx(over.sum() / under.sum()) and interval.low < interval.mean < interval.high


def test_where_the_denominator_may_be_0_the_jackknife_stands_in():
    over, under = np.array([1.0, -2.0, 3.0]), np.array([5.0, -4.0, 1.0])
    interval = ratio_interval([over], [under])
    left_out = (over.sum() - over) / (under.sum() - under)
    error = (2 / 3 * ((left_out - left_out.mean()) ** 2).sum()) ** 0.5
    assert interval.high - interval.mean == pytest.approx(scipy_stats.t.ppf(0.975, 2) * error)
    assert interval.mean == pytest.approx(1.0) and interval.mean - interval.low == pytest.approx(
        interval.high - interval.mean)


def test_an_exact_share_has_an_interval_without_width():
    for under in (np.array([1.0, 2.0, 3.0]), np.array([5.0, -4.0, 1.0])):
        interval = ratio_interval([0.25 * under], [under])
        assert (interval.low, interval.high) == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize("centre", [2.0, 0.5])
def test_intervals_of_a_ratio_hold_the_truth(centre):
    """Nominal 95 % at 8 worlds, exact where the denominator stands off 0; 1000 draws leave an error of .7 points."""
    rng, hits, truth = np.random.default_rng(0), 0, 0.4
    for _ in range(1000):
        under = rng.normal(centre, 0.7, 8)
        interval = ratio_interval([truth * under + rng.normal(0, 1, 8)], [under])
        hits += interval.low <= truth <= interval.high
    assert hits / 1000 >= 0.95 - 4 * 0.007
    assert centre < 2 or hits / 1000 <= 0.95 + 4 * 0.007


@pytest.mark.parametrize("values", [[], [1.0]])
def test_too_few_worlds_have_no_limits(values):
    for interval in (t_interval(values), ratio_interval([values], [np.ones(len(values))])):
        assert np.isnan(interval.low) and np.isnan(interval.high) and interval.n == len(values)
