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


def jackknife(numerators: Sequence[ArrayLike], denominators: Sequence[ArrayLike]) -> Interval:
    """Jackknife interval of Σ_w a_w / Σ_w b_w, or of the difference of two such ratios.

    Args:
        numerators: one array `(n,)`, or two for a paired difference (first minus second).
        denominators: as `numerators`.

    The estimate is the pooled ratio; its standard error comes from leaving one world out at a
    time (Efron & Stein 1981), the limits from Student's t with n − 1 degrees of freedom.
    """
    a = [np.asarray(x, dtype=float) for x in numerators]
    b = [np.asarray(x, dtype=float) for x in denominators]
    n = len(a[0])
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    signs = (1.0, -1.0)[: len(a)]
    with np.errstate(divide="ignore", invalid="ignore"):
        full = sum(s * x.sum() / y.sum() for s, x, y in zip(signs, a, b, strict=True))
        if n == 1:
            return Interval(float(full), np.nan, np.nan, 1)
        left_out = sum(s * (x.sum() - x) / (y.sum() - y) for s, x, y in zip(signs, a, b, strict=True))
    left_out = np.asarray(left_out)
    error = ((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()) ** 0.5
    return _interval(float(full), float(error), n)


def _interval(mean: float, error: float, n: int) -> Interval:
    from scipy.stats import t

    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * error if n > 1 else np.nan
    return Interval(mean, mean - half, mean + half, n)
