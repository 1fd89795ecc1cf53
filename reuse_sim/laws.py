"""Loss against size N and data D, as one law with two exponents, and its fit with standard errors.

L(N, D) = [(N_c/N)^(α_N/α_D) + D_c/D]^α_D (Kaplan et al. 2020, arXiv 2001.08361, equation 1.5). With data without end
L = (N_c/N)^α_N, with size without end L = (D_c/D)^α_D. The four constants belong together: those of one-variable fits
are other numbers, and put into this form they give another loss. N_c and D_c are in the units of N and D; counting D in
units of u divides D_c, and every D that follows from the law, by u, and leaves the exponents.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, isfinite, log, nan, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from reuse_sim.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FLAT = 1e-6
"""Least exponent in a fit: loss that does not fall ends there, and is not identified."""
SEEN = log(0.01)
"""Least ln of a term over the other at any point of the grid, for its exponent to be identified."""
STARTS = (1.0, 2.0, 4.0)
"""Fits start from the exponents of a plane in logarithms times these: the plane runs flatter than either branch."""


@dataclass(frozen=True)
class Law:
    """The exponents, and ln N_c and ln D_c, which may lie beyond all numbers where an exponent is near 0."""

    alpha_n: float
    alpha_d: float
    log_n_c: float
    log_d_c: float


@dataclass(frozen=True)
class Fit:
    """A law fitted to losses in logarithms, with a standard error for each of its constants.

    `unknown` names the exponents that the points tell nothing of; cusp and curves then mean nothing beyond the points.
    The law's losses at the points, and so R² and the residual standard deviation of ln L, mean something all the same.
    Without a `law` nothing was found, and `why` says why.
    """

    law: Law | None = None
    se: Law | None = None
    r_squared: float = nan
    residual_sd: float = nan
    unknown: tuple[str, ...] = ()
    why: str = ""


def loss(law: Law, n: ArrayLike, d: ArrayLike) -> NDArray[np.float64]:
    """L(N, D), broadcast over both; either may be infinite."""
    size = law.alpha_n / law.alpha_d * (law.log_n_c - np.log(n))
    return np.exp(law.alpha_d * np.logaddexp(size, law.log_d_c - np.log(d)))


def cusp(law: Law, n: ArrayLike) -> NDArray[np.float64]:
    """D* = D_c (N/N_c)^(α_N/α_D), where both terms are equal: with less data size is idle, with more data is."""
    return np.exp(law.log_d_c + law.alpha_n / law.alpha_d * (np.log(n) - law.log_n_c))


def indifference(law: Law, level: float, n: ArrayLike) -> NDArray[np.float64]:
    """The D with which N has the loss `level`; infinite where no data are enough."""
    size = law.alpha_n / law.alpha_d * (law.log_n_c - np.log(n)) - log(level) / law.alpha_d
    left = -np.expm1(size)  # what data may still add, as share of level^(1/α_D)
    enough = np.exp(law.log_d_c - log(level) / law.alpha_d - np.log(np.where(left > 0, left, 1.0)))
    return np.where(left > 0, enough, inf)


def fit(n: ArrayLike, d: ArrayLike, losses: ArrayLike) -> Fit:
    """Least squares in ln L over points (N, D, L), `(k,)` each.

    Standard errors are those of scipy.optimize.curve_fit: from the Jacobian and the residual variance on k − 4 degrees
    of freedom; those of ln N_c and ln D_c follow to first order.

    Raises InputError where points are fewer than six, not positive and finite, or of fewer than three sizes or data.
    """
    points = _points(n, d, losses)
    x, y = np.log(points[:2]), np.log(points[2])
    centre = x.mean(1, keepdims=True)
    found = _least_squares(x - centre, y)
    if found is None:
        return Fit(why="the fit of the law did not converge")
    (a_n, a_d, at_n, at_d), covariance = found
    residual = y - _log_loss(x - centre, a_n, a_d, at_n, at_d)
    # ln N_c = ln N_0 + A/α_N, and likewise for D: a row each of derivatives by (α_N, α_D, A, B).
    by = np.array([[-at_n / a_n**2, 0, 1 / a_n, 0], [0, -at_d / a_d**2, 0, 1 / a_d]])
    variances = [*covariance.diagonal()[:2], *(by @ covariance @ by.T).diagonal()]
    law = Law(float(a_n), float(a_d), float(centre[0, 0] + at_n / a_n), float(centre[1, 0] + at_d / a_d))
    se = Law(*(sqrt(max(v, 0.0)) for v in variances))
    unknown = tuple(_unknown(law, se, x))
    why = f"not identified: {', '.join(unknown)}" if unknown else ""
    squares, spread = float(residual @ residual), float(((y - y.mean()) ** 2).sum())
    return Fit(law, se, 1 - squares / spread if spread else nan, (squares / (len(y) - 4)) ** 0.5, unknown, why)


def _unknown(law: Law, se: Law, x: NDArray[np.float64]) -> Iterator[str]:
    """The exponents that the points at logarithms x `(2, k)` tell nothing of.

    One is unknown where its standard error is above it, loss does not fall, or the other term is all of the sum.
    """
    lead = law.log_d_c - x[1] - law.alpha_n / law.alpha_d * (law.log_n_c - x[0])  # ln of data's term over size's
    for name, most in (("alpha_n", -lead.min()), ("alpha_d", lead.max())):
        value = getattr(law, name)
        if getattr(se, name) > value or value < 2 * FLAT or most < SEEN:
            yield name


def _log_loss(x: Any, a_n: float, a_d: float, at_n: float, at_d: float) -> Any:
    """ln L at centred logarithms x `(2, k)`; A and B are ln L at the centre if only size, or only data, bounds it."""
    return a_d * np.logaddexp((at_n - a_n * x[0]) / a_d, (at_d - a_d * x[1]) / a_d)


def _least_squares(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[Any, Any] | None:
    """The best of the fits from all starts, with its covariance; None where none converged."""
    from scipy.optimize import OptimizeWarning, curve_fit

    slopes = np.linalg.lstsq(np.column_stack([*x, np.ones_like(y)]), y, rcond=None)[0]
    best, least = None, inf
    for times in STARTS:
        first = [*np.maximum(-slopes[:2] * times, 0.05), slopes[2], slopes[2]]
        limits = ([FLAT, FLAT, -inf, -inf], inf)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", OptimizeWarning)  # no covariance
                found, covariance = curve_fit(_log_loss, x, y, first, bounds=limits, x_scale="jac", ftol=1e-14,
                                              xtol=1e-14, gtol=1e-14, max_nfev=5000)  # fmt: skip
        except (RuntimeError, OptimizeWarning):
            continue
        cost = float(((y - _log_loss(x, *found)) ** 2).sum())
        if cost < least:
            best, least = (found, covariance), cost
    return best


def _points(*columns: ArrayLike) -> NDArray[np.float64]:
    points = np.array([np.ravel(c) for c in columns], dtype=float)
    for name, values in zip(("n", "d", "loss"), points, strict=True):
        bad: Sequence[float] = [float(v) for v in values if not (isfinite(v) and v > 0)]
        if bad:
            raise InputError(name, bad[0], "positive and finite numbers, for they are fitted in logarithms")
    if points.shape[1] < 6 or min(len(np.unique(row)) for row in points[:2]) < 3:
        got = f"{points.shape[1]} points"
        raise InputError("points", got, "six or more, of three sizes and three amounts of data or more")
    return points
