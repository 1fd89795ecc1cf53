"""Intervals over worlds. The unit of analysis is the world, never a test question or a human.

Every interval is at 95 % and carries its n. No bootstrap: too liberal under ten worlds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Mean and 95 % limits over `n` worlds; limits are NaN where n < 2."""

    mean: float
    low: float
    high: float
    n: int


def t_interval(values: ArrayLike) -> Interval:
    """Student t-interval of the mean of one value per world, shape `(n,)`."""
    v = np.asarray(values, dtype=float)
    if len(v) == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    return _interval(float(v.mean()), float(v.std(ddof=1)) / len(v) ** 0.5 if len(v) > 1 else np.nan, len(v))


def share_interval(values: ArrayLike) -> Interval:
    """Jeffreys' interval of the share of worlds, shape `(n,)`, that have a 1 and not a 0.

    Of k ones the limits are the quantiles of Beta(k + ½, n − k + ½), but 0 where there is none and 1 where there are n
    (Brown, Cai & DasGupta 2001). Student's would be of no width there, and elsewhere go beyond 0 and 1.
    """
    from scipy.stats import beta

    v = np.asarray(values, dtype=float)
    n, k = len(v), float(v.sum())
    if n < 2:
        return t_interval(v)
    low, high = (float(beta.ppf(q, k + 0.5, n - k + 0.5)) for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(k / n, low if k else 0.0, high if k < n else 1.0, n)


def ratio_interval(numerators: Sequence[ArrayLike], denominators: Sequence[ArrayLike]) -> Interval:
    """Interval of Σ_w a_w / Σ_w b_w, or of the difference of two such ratios.

    Args:
        numerators: one array `(n,)`, or two for a paired difference (first minus second).
        denominators: as `numerators`.

    The estimate is the pooled ratio. Its limits are Fieller's (1954): the ratios ρ at which a t-test of a_w − ρ b_w
    does not tell the mean from 0. Where the denominators' own mean cannot be told from 0 that set has no end, and
    the jackknife's limits stand in (Efron & Stein 1981; n − 1 degrees of freedom); so they do for a difference of
    ratios whose denominators differ.
    """
    a = [np.asarray(x, dtype=float) for x in numerators]
    b = [np.asarray(x, dtype=float) for x in denominators]
    n = len(a[0])
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    if len(a) == 2 and np.allclose(b[0], b[1], rtol=1e-12, atol=0):
        a, b = [a[0] - a[1]], b[:1]  # one ratio: that of the differences
    signs = (1.0, -1.0)[: len(a)]
    with np.errstate(divide="ignore", invalid="ignore"):
        full = float(sum(s * x.sum() / y.sum() for s, x, y in zip(signs, a, b, strict=True)))
        if n == 1:
            return Interval(full, np.nan, np.nan, 1)
        if len(a) == 1 and (limits := _fieller(a[0], b[0])):
            return Interval(full, *limits, n)
        left_out = sum(s * (x.sum() - x) / (y.sum() - y) for s, x, y in zip(signs, a, b, strict=True))
    left_out = np.asarray(left_out)
    error = ((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()) ** 0.5
    return _interval(full, float(error), n)


def _fieller(a: np.ndarray, b: np.ndarray) -> tuple[float, float] | None:
    """Fieller's limits, or None where they are no interval."""
    n = len(a)
    (var_a, cov), (_, var_b) = np.cov(a, b) * _t(n) ** 2 / n
    square, half, rest = b.mean() ** 2 - var_b, a.mean() * b.mean() - cov, a.mean() ** 2 - var_a
    if not square > 0:
        return None
    root = max(half**2 - square * rest, 0.0) ** 0.5
    return (half - root) / square, (half + root) / square


def _interval(mean: float, error: float, n: int) -> Interval:
    half = _t(n) * error if n > 1 else np.nan
    return Interval(mean, mean - half, mean + half, n)


def _t(n: int) -> float:
    """Student's t for the limits over n worlds."""
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, n - 1))
