"""How much of a normal reference lies where a quadratic is small: exact, however far out.

Q = c + Σ b_i x_i + ½ Σ h_i x_i² under x ~ N(0, I) is a generalised χ². With κ(λ) = log E e^(−λQ) =
−λc − ½ Σ log(1 + λh_i) + ½ Σ λ²b_i²/(1 + λh_i),

    P(Q ≤ q) = 1/(2πi) ∫ exp(λq + κ(λ)) dλ/λ

along any path from below to above that crosses the real axis between 0 and the first −1/h_i with h_i < 0 (Imhof 1961
integrates along the axis itself). Through the saddle point, where the integrand is largest, it neither oscillates nor
cancels, so that a thousand bits are as exact as one (Daniels 1954; Rice 1980).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq
from torch import Tensor

BEND = 0.5
"""Of the path saddle + width (i sinh u − BEND (cosh u − 1)): to the left e^(λq) falls; beyond 1 linear terms rise."""


def log_share(c: float, b: Tensor, h: Tensor, q: float) -> tuple[float, float]:
    """log P(Q ≤ q) in nats for b, h `(d,)`, and how much it changed when every second node was left out.

    −inf where no x has Q ≤ q.
    """
    b2, curve = b.double().numpy() ** 2, h.double().numpy()
    curve = np.where(np.abs(curve) < 1e-14 * max(np.abs(curve).max(), 1e-300), 0.0, curve)
    convex = bool((curve >= 0).all())
    flat = curve == 0
    if convex and not (b2[flat] > 0).any():
        lowest = c - (b2[~flat] / (2 * curve[~flat])).sum()
        if q <= lowest:
            return (0.0 if flat.all() and q == lowest else -math.inf), 0.0
        if flat.all():
            return 0.0, 0.0
    end = math.inf if convex else -1 / curve.min()

    def exponent(x: np.ndarray) -> np.ndarray:
        one = 1 + x[:, None] * curve
        inner = np.log(one) - x[:, None] ** 2 * b2 / one
        return x * (q - c) - inner.sum(1) / 2 - np.log(x)

    def slope(x: float) -> float:
        one = 1 + x * curve
        return q - c - 1 / x - float((curve / one - b2 * x * (2 + x * curve) / one**2).sum()) / 2

    saddle = _root(slope, end)
    one = 1 + saddle * curve
    second = 1 / saddle**2 + float((curve**2 / one**2 / 2 + b2 / one**3).sum())
    width, peak = second**-0.5, float(exponent(np.array([saddle + 0j]))[0].real)
    bend = BEND if convex else 0.0

    def integral(nodes: int) -> float:
        u = np.linspace(0, 12, nodes + 1)
        x = saddle + width * (1j * np.sinh(u) - bend * (np.cosh(u) - 1))
        rate = width * (1j * np.cosh(u) - bend * np.sinh(u))
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            value = (np.exp(exponent(x) - peak) * rate).imag
        value[0] /= 2  # the path's other half is the mirror image
        return float(np.nan_to_num(value).sum()) * (12 / nodes) / math.pi

    whole, half = integral(2400), integral(1200)
    if not (whole > 0 and half > 0):
        return -math.inf, math.inf
    return min(0.0, peak + math.log(whole)), abs(math.log(whole / half))


def _root(slope: Callable[[float], float], end: float) -> float:
    """Where the convex exponent has its least value on (0, end): its slope rises from −∞."""
    low = high = min(1.0, end / 2)
    while slope(low) > 0:
        low /= 4
    while slope(high) < 0:
        high = 4 * high if math.isinf(end) else end - (end - high) / 4
    root: Any = low if low == high else brentq(slope, low, high)
    return float(root)
