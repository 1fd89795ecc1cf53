"""Intervals against SciPy's own and against their nominal coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from reuse_sim.stats import jackknife, t_interval

worlds = st.lists(st.floats(-10, 10), min_size=3, max_size=20)


@given(worlds)
def test_t_interval_is_scipys(values):
    ours = t_interval(values)
    error = np.std(values, ddof=1) / len(values) ** 0.5
    half = scipy_stats.t.ppf(0.975, len(values) - 1) * error
    assert (ours.mean, ours.n) == (pytest.approx(np.mean(values)), len(values))
    assert ours.low == pytest.approx(ours.mean - half) and ours.high == pytest.approx(ours.mean + half)


@given(worlds)
def test_jackknife_with_unit_denominators_is_the_t_interval(values):
    one, other = jackknife([values], [np.ones(len(values))]), t_interval(values)
    assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high), abs=1e-9)


def test_jackknife_of_a_paired_difference_is_that_of_the_differences():
    a, b = np.array([1.0, 2.0, 4.0, 3.0]), np.array([0.5, 2.5, 3.0, 1.0])
    one, other = jackknife([a, b], [np.ones(4), np.ones(4)]), t_interval(a - b)
    assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high))


def test_jackknife_of_a_ratio_covers_the_truth():
    """Nominal 95 % at 8 worlds; 1000 draws leave a standard error of .7 points."""
    rng, hits, truth = np.random.default_rng(0), 0, 0.4
    for _ in range(1000):
        under = rng.gamma(4.0, 1.0, 8)
        interval = jackknife([truth * under + rng.normal(0, 1, 8)], [under])
        hits += interval.low <= truth <= interval.high
    assert 0.95 - 4 * 0.007 <= hits / 1000 <= 0.95 + 4 * 0.007


@pytest.mark.parametrize("values", [[], [1.0]])
def test_too_few_worlds_have_no_limits(values):
    for interval in (t_interval(values), jackknife([values], [np.ones(len(values))])):
        assert np.isnan(interval.low) and np.isnan(interval.high) and interval.n == len(values)
