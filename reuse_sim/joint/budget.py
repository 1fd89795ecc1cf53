"""Only |θ2| bits to share: what θ2 can tell of teacher, start and order of data, where all is linear Gaussian.

Direction by direction θ2 = (1 − a) θ1 + a θ₀ + q, the last the noise of the order of data, and y = θ2 + r read with
resolution r. Then I(y; θ1, θ₀, q) = I(y; θ1) + I(y; θ₀ | θ1) + I(y; q | θ1, θ₀), each a logarithm of two variances, and
no reading of θ2 tells more of all three together than it has bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reuse_sim.engines.spec import need


@dataclass(frozen=True)
class Budget:
    """Bits that θ2 has at its resolution, and how they are shared."""

    human: float
    teacher: float
    start: float
    order: float


def budget(a: ArrayLike, teacher_sd: ArrayLike, start_sd: ArrayLike, order_sd: ArrayLike, resolution: float) -> Budget:
    """The shares in closed form, summed over directions `(d,)`.

    Raises InputError for a resolution that is not above 0: without one θ2 tells without end.
    """
    need(resolution > 0, "resolution", resolution, "above 0, the sd to which θ2 is read")
    a, s1, s0, q = (np.asarray(t, float) for t in (a, teacher_sd, start_sd, order_sd))
    noise = np.full(np.broadcast(a, s1, s0, q).shape, resolution**2)
    order = noise + q**2
    start = order + (a * s0) ** 2
    whole = start + ((1 - a) * s1) ** 2

    def bits(upper: np.ndarray, lower: np.ndarray) -> float:
        return float(0.5 * np.log2(upper / lower).sum())

    return Budget(bits(whole, noise), bits(whole, start), bits(start, order), bits(order, noise))


def order_sd(curvatures: ArrayLike, rate: float, steps: int, gradient_sd: ArrayLike) -> np.ndarray:
    """sd `(d,)` of what noisy gradients leave: η s √Σ_t (1 − ηλ)^2t, t = 0 … T − 1."""
    f = (1 - rate * np.asarray(curvatures, float)) ** 2
    powers = f[..., None] ** np.arange(steps)
    return rate * np.asarray(gradient_sd, float) * np.sqrt(powers.sum(-1))
