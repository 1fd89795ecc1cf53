"""Descent on a quadratic, direction by direction: z ← z − η λ (z − c), so that after T steps z_T = c + a (z₀ − c).

a = (1 − ηλ)^T. What many starts have in common at the end is then a count, and what a log-determinant says of it can be
held against that count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr

from reuse_sim.engines.spec import need


def factors(curvatures: ArrayLike, rates: float | Sequence[float], steps: int | None = None) -> np.ndarray:
    """a `(d,)` = Π_t (1 − η_t λ_i): of `steps` steps at one rate, or one step per rate."""
    if isinstance(rates, int | float):
        need(steps is not None and steps >= 0, "steps", steps, "at least 0, where there is one rate")
        rates = [rates] * (steps or 0)
    return np.prod(1 - np.multiply.outer(np.asarray(list(rates), float), np.asarray(curvatures, float)), axis=0)


def destroyed_bits(a: ArrayLike) -> float:
    """−Σ log₂ |a_i|: by how much the differential entropy of the starts falls; what expands counts against it."""
    return float(-np.log2(np.abs(a)).sum())


def contracted_bits(a: ArrayLike) -> float:
    """The same of the directions that contract alone."""
    return float(np.maximum(-np.log2(np.abs(a)), 0.0).sum())


def null_dimension(a: ArrayLike, epsilon: float) -> int:
    """Directions in which a start may move by 1 and the end moves by less than ε: #{i : |a_i| < ε}."""
    return int((np.abs(a) < epsilon).sum())


def starts(a: ArrayLike, epsilon: float, width: float) -> int:
    """How many starts on a grid of spacing 2ε, |z₀ − c| ≤ width, end within ε of c.

    About 2^bits of `contracted_bits` where the grid reaches as far as ε/|a_i|.
    """
    need(0 < epsilon <= width, "epsilon", epsilon, f"above 0 and at most the width {width}")
    reach = np.minimum(epsilon / np.maximum(np.abs(np.asarray(a, float)), 1e-300), width)
    return math.prod(2 * int(r / (2 * epsilon)) + 1 for r in reach)


def ratio_bits(a: ArrayLike, sd: ArrayLike, start: ArrayLike, optimum: ArrayLike, epsilon: float) -> float:
    """log₂ [μ(Train⁻¹B)/μ(B)] with B = {max_i |z_i − end_i| ≤ ε} about the end of `start`, under μ = N(0, sd²)."""
    a, sd, start, optimum = (np.asarray(t, float) for t in (a, sd, start, optimum))
    end = optimum + a * (start - optimum)
    wide = epsilon / np.maximum(np.abs(a), 1e-300)
    return float((_log_mass(start, wide, sd) - _log_mass(end, epsilon, sd)).sum() / math.log(2))


def _log_mass(centre: np.ndarray, half: ArrayLike, sd: np.ndarray) -> np.ndarray:
    """log P(|z − centre| ≤ half), z ~ N(0, sd²), to full precision in the tails."""
    low, high = (np.abs(centre) - half) / sd, (np.abs(centre) + half) / sd
    # P(low ≤ z ≤ high) = Φ(−low) − Φ(−high)
    big, small = log_ndtr(-low), log_ndtr(-high)
    return big + np.log1p(-np.exp(small - big))
