"""The law of size and data: its published values, its cusp and curves, and the fit's errors against the truth."""

from __future__ import annotations

from dataclasses import astuple, replace
from math import inf, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, t

from reuse_sim import laws
from reuse_sim.errors import InputError
from reuse_sim.laws import Law

KAPLAN = Law(0.076, 0.103, log(6.4e13), log(1.8e13))  # the joint fit, table 2 of Kaplan et al. 2020
N, D = (a.ravel() for a in np.meshgrid([300.0, 700, 1400, 2800], [128.0, 512, 2048, 8192], indexing="ij"))
TRUE = Law(0.8, 0.5, log(300), log(20))


def test_the_published_law_gives_the_published_losses():
    assert laws.loss(KAPLAN, 1e9, inf) == pytest.approx(2.3188, abs=5e-5)
    assert laws.loss(KAPLAN, 1e9, 1e9) == pytest.approx(2.7943, abs=5e-5)
    assert laws.loss(KAPLAN, inf, 1e9) == pytest.approx((1.8e13 / 1e9) ** 0.103)


def test_the_cusp_and_what_a_unit_does_to_it():
    assert laws.cusp(KAPLAN, 1e9) == pytest.approx(5.12e9, rel=1e-3)
    kilo = replace(KAPLAN, log_d_c=KAPLAN.log_d_c - log(1000))
    assert laws.cusp(kilo, 1e9) == pytest.approx(5.12e6, rel=1e-3)
    assert laws.loss(kilo, 1e9, 1e6) == pytest.approx(float(laws.loss(KAPLAN, 1e9, 1e9)))
    # At the cusp both terms are equal: either alone would give 2^-α_D of the loss.
    at = laws.loss(KAPLAN, 1e9, laws.cusp(KAPLAN, 1e9))
    assert at == pytest.approx(2**0.103 * laws.loss(KAPLAN, 1e9, inf))


@pytest.mark.parametrize(("a_d", "d_c", "a_n", "n_c"), [(0.095, 5.4e13, 0.076, 6.4e13), (0.103, 1.8e13, 0.076, 8.8e13),
                                                        (0.095, 5.4e13, 0.076, 8.8e13)])  # fmt: skip
def test_constants_of_fits_in_one_variable_are_not_those_of_both(a_d, d_c, a_n, n_c):
    """.076, 8.8e13 and .095, 5.4e13 of the same paper, put into the joint form in part or whole, give other losses."""
    mixed = Law(a_n, a_d, log(n_c), log(d_c))
    assert abs(laws.loss(mixed, 1e9, 1e9) - laws.loss(KAPLAN, 1e9, 1e9)) > 0.01
    assert abs(log(laws.cusp(mixed, 1e9) / laws.cusp(KAPLAN, 1e9))) > 0.1
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e6, 1e9, 4), np.geomspace(1e8, 1e10, 4)))
    found = laws.fit(n, d, laws.loss(KAPLAN, n, d)).law
    assert found and astuple(found) == pytest.approx(astuple(KAPLAN), rel=1e-4)
    assert abs(found.log_n_c - log(8.8e13)) > 0.1 and abs(found.log_d_c - log(5.4e13)) > 0.1


@settings(max_examples=25, deadline=None)
@given(st.floats(0.1, 2), st.floats(0.5, 2), *[st.floats(0.5, 2)] * 2, st.sampled_from([1.0, 1e3, 1e6]))
def test_a_noiseless_grid_gives_the_law_back_in_any_unit(a_n, ratio, size, data, unit):
    law = Law(a_n, a_n * ratio, log(700 * size), log(512 * data / unit))
    found = laws.fit(N, D / unit, laws.loss(law, N, D / unit))
    assert found.why == "" and found.law and found.se
    assert astuple(found.law) == pytest.approx(astuple(law), rel=1e-4, abs=1e-4)
    assert found.r_squared == pytest.approx(1) and found.residual_sd < 1e-6


def test_standard_errors_cover_the_truth():
    """Of 100 fits under noise, at least as many hold the truth as 95 % intervals do with probability .999."""
    g, half, held = np.random.default_rng(0), t.ppf(0.975, len(N) - 4), np.zeros(4)
    sds = []
    for _ in range(100):
        found = laws.fit(N, D, laws.loss(TRUE, N, D) * np.exp(0.05 * g.standard_normal(len(N))))
        assert found.law and found.se and not found.why
        held += np.abs(np.subtract(astuple(found.law), astuple(TRUE))) < half * np.array(astuple(found.se))
        sds.append(found.residual_sd**2)
    assert (held >= binom.ppf(0.001, 100, 0.95)).all(), held
    assert (held < 100).all()
    assert np.mean(sds) ** 0.5 == pytest.approx(0.05, rel=4 / (2 * 100 * 12) ** 0.5)


def test_curves_of_equal_loss_bend_like_an_l():
    level, n = 0.3, np.geomspace(500, 1e6, 200)
    d = laws.indifference(TRUE, level, n)
    enough = np.isfinite(d)
    assert laws.loss(TRUE, n[enough], d[enough]) == pytest.approx(np.full(enough.sum(), level))
    # Too small a model has no such D; with a large one D ends at what data alone need.
    assert not enough[0] and (np.diff(enough.astype(int)) >= 0).all()
    assert d[-1] == pytest.approx(20 * level ** (-1 / 0.5), rel=1e-3)
    falls = np.diff(np.log(d[enough])) / np.diff(np.log(n[enough]))
    assert falls[0] < -5 and falls[-1] > -0.01 and (np.diff(falls) > 0).all()


@pytest.mark.parametrize(
    ("losses", "unknown"),
    [
        (N**-0.5, ("alpha_d",)),
        (3 * D**-0.5, ("alpha_n",)),
        (np.ones_like(N), ("alpha_n", "alpha_d")),
        (N**0.5, ("alpha_n", "alpha_d")),
        (np.exp(np.random.default_rng(1).standard_normal(len(N))), ("alpha_n", "alpha_d")),
    ],
)
def test_what_a_grid_does_not_tell_is_said(losses, unknown):
    found = laws.fit(N, D, losses)
    assert found.unknown == unknown and found.why == f"not identified: {', '.join(unknown)}"


def test_a_form_that_is_not_this_one_fits_well_and_misfits():
    """A sum of powers over an irreducible loss: R² is high, and the residual far above rounding."""
    found = laws.fit(N, D, 0.02 + 30 / N + 5 * D**-0.9)
    assert found.r_squared > 0.95 and found.residual_sd > 0.01


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ((N, D, 0 * N), "loss: got 0.0; expected positive"),
        ((N, D, np.where(N == 300, np.nan, 1.0)), "loss: got nan"),
        ((-N, D, N), "n: got -300.0"),
        ((N[:5], D[:5], N[:5]), "5 points"),
        ((N[:8], D[:8], N[:8]), "three sizes"),
    ],
)
def test_points_that_cannot_be_fitted(points, says):
    with pytest.raises(InputError, match=says):
        laws.fit(*points)
