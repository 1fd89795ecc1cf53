"""Gaussian bits-back: the least KL(q ‖ prior), q = N(m, diag s²), whose draws are within a tolerance on average.

The sender picks a draw of q by bits that the reader gets back (Hinton & van Camp 1993), so that a network costs the
divergence only. The tolerance is an expected one here, E_q C ≤ τ; a message for one network within τ is dearer, by
`account.expected_to_hard_bits`. One basin: copies are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.errors import InputError

LN2 = math.log(2)
STEPS, RATE = 300, 0.05
PAIRS = 12
"""Antithetic pairs of draws a step."""
CHECKED = 1024
"""Draws that say what was achieved; half as many say how far q must be drawn in."""


@dataclass(frozen=True)
class Gaussian:
    """q = N(mean, diag sd²) `(p,)`, its KL in bits from the prior, and what its draws do on average.

    `expected` with standard error `error` is E_q C, `within` the share of draws with C ≤ τ, `multiplier` the nats
    that a unit of C was worth where the search ended, and `spread` the sd of C under q.
    """

    bits: float
    mean: Tensor
    sd: Tensor
    expected: float
    error: float
    within: float
    multiplier: float
    spread: float


def shortest(
    theta: Tensor, prior_sd: Tensor, distortion: Callable[[Tensor], Tensor], tolerance: float,
    generator: torch.Generator, steps: int = STEPS,
) -> Gaussian:
    """The least divergence found, from θ `(p,)` on, under the prior N(0, diag prior_sd²).

    Args:
        distortion: θ `(n, p)` -> `(n,)`, differentiable; in float64.
        tolerance: the largest E_q C.

    Adam (Kingma & Ba 2015) on m and log s in prior sds, with fresh draws each step, and on the logarithm of the
    multiplier, upwards. Last, m and s are drawn in towards θ until E_q C, by other draws, is within the tolerance.
    Raises InputError where the distortion has no gradient, or θ's own is not below the tolerance.
    """
    theta, prior_sd = theta.detach().double(), prior_sd.double()
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise InputError("tolerance", tolerance, "a finite number above 0, the largest E C that will do")
    own = float(distortion(theta[None])[0])
    if not own < tolerance:
        raise InputError("tolerance", tolerance, f"more than {own:.3g}, the distortion of θ itself")
    start = theta / prior_sd
    m, log_s = start.clone().requires_grad_(), torch.full_like(start, math.log(0.1)).requires_grad_()
    log_price = torch.zeros((), dtype=torch.float64).add(math.log(len(theta) / tolerance)).requires_grad_()
    if not distortion((m * prior_sd)[None]).requires_grad:
        raise InputError("distortion", "no gradient", "a smooth function", "Take quantised.shortest.")
    descent = torch.optim.Adam([m, log_s, log_price], RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps, RATE / 30)
    for _ in range(steps):
        noise = torch.randn(PAIRS, len(theta), generator=generator, dtype=torch.float64)
        z = m + log_s.exp() * torch.cat([noise, -noise])
        excess = distortion(z * prior_sd).mean() / tolerance - 1
        loss = _nats(m, log_s) + (log_price.exp() * tolerance).detach() * excess
        descent.zero_grad()
        loss.backward()
        log_price.grad = -excess.detach()  # dearer while too much is distorted
        descent.step()
        schedule.step()
    with torch.no_grad():
        return _within(start, m, log_s, float(log_price.exp()), prior_sd, distortion, tolerance, generator)


def _within(
    start: Tensor, m: Tensor, log_s: Tensor, price: float, prior_sd: Tensor, distortion: Callable[[Tensor], Tensor],
    tolerance: float, generator: torch.Generator,
) -> Gaussian:
    """The least that q must be drawn in towards `start`, its sds alike, to be within the tolerance on fresh draws."""
    noise = torch.randn(CHECKED // 2, len(m), generator=generator, dtype=torch.float64)

    def drawn_in(share: float) -> tuple[Tensor, Tensor]:
        return start + (1 - share) * (m - start), log_s + math.log(1 - share)

    def costs(share: float, noise: Tensor) -> Tensor:
        mean, log_sd = drawn_in(share)
        return distortion((mean + log_sd.exp() * noise) * prior_sd)

    low, high = 0.0, 1 - 1e-6
    if float(costs(0.0, noise).mean()) <= tolerance:
        high = 0.0
    for _ in range(8 if high else 0):
        middle = (low + high) / 2
        low, high = (low, middle) if float(costs(middle, noise).mean()) <= tolerance else (middle, high)
    mean, log_sd = drawn_in(high)
    c = costs(high, torch.randn(CHECKED, len(m), generator=generator, dtype=torch.float64))
    return Gaussian(
        float(_nats(mean, log_sd)) / LN2, mean * prior_sd, log_sd.exp() * prior_sd, float(c.mean()),
        float(c.std()) / math.sqrt(CHECKED), float((c <= tolerance).double().mean()), price, float(c.std()),
    )


def _nats(m: Tensor, log_s: Tensor) -> Tensor:
    """KL of N(m, diag s²) from N(0, I)."""
    return ((2 * log_s).exp() + m.square() - 1 - 2 * log_s).sum() / 2
