"""What rerunning a human's training costs an outer model: at every datapoint, at every batch, or once.

Let an outer model need S(B) = S_min (1 + B_n/B) steps of B questions to reach a loss (McCandlish et al. 2018), c be
what a question costs it and C what a rerun costs. With a rerun at every batch it pays S(B) (C + cB), least at
B* = √(B_n C/c), where that is S_min (√C + √(c B_n))²: (1 + √(C/(c B_n)))² times the c S_min B_n that is least without.
At B_n itself it pays 1 + C/(c B_n) times as much as without.

B_n is predicted by the noise of the gradient: with G its mean and Σ the covariance of one question's,
B_simple = tr Σ/|G|² and, with the curvature H, B_noise = tr(HΣ)/GᵀHG.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp

Regime = Literal["datapoint", "batch", "once", "doomed"]
APART = 1.2
"""Ratio of one rate that is tried to the next."""


# The noise of a gradient -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Noise:
    """A noise scale, in questions, with its standard error: `trace` / `square`, tr Σ and |G|² or both with H."""

    scale: float
    error: float
    trace: float
    square: float


def squared_norm(v: Tensor) -> Tensor:
    """|v|², `(…, p)` -> `(…)`: the form that B_simple is in."""
    return v.square().sum(-1)


def gauss_newton(net: Mlp, theta: Tensor, x: Tensor) -> Callable[[Tensor], Tensor]:
    """v `(n, p)` -> vᵀHv `(n,)`, H the Gauss-Newton curvature of the mean of (answer − f)² over x at θ `(p,)`.

    Never negative, as that of the whole Hessian may be. With it `noise` gives B_noise.
    """

    # Every question is asked of a copy of its own, whose gradient is a row of the Jacobian.
    copies = theta.expand(len(x), -1).detach().requires_grad_()
    (jacobian,) = torch.autograd.grad(net.forward(copies, x.unsqueeze(1))[..., 0].sum(), copies)
    return lambda v: 2 * (v @ jacobian.T).square().mean(-1)


def noise(
    small: Tensor, large: Tensor, sizes: tuple[int, int], form: Callable[[Tensor], Tensor] = squared_norm
) -> Noise:
    """The noise scale from gradients at one θ of n pairs of independent batches, `(n, p)` each, of two `sizes`.

    A batch of B has E form(g_B) = form(G) + tr(HΣ)/B, so that two sizes tell both without bias (McCandlish et al. 2018,
    appendix A.1); the scale is the ratio of their means and its error the jackknife's over pairs.
    Raises InputError where there is no gradient to be seen: its square is not two standard errors above 0.
    """
    b, big = sizes
    if not 1 <= b < big:
        raise InputError("sizes", sizes, "two sizes of batches, the smaller first, from 1 up")
    n = len(small)
    if small.shape != large.shape or n < 3:
        raise InputError("gradients", f"{tuple(small.shape)} and {tuple(large.shape)}", "three pairs or more, (n, p)")
    at_small, at_large = form(small.double()), form(large.double())
    square = (big * at_large - b * at_small) / (big - b)
    trace = (at_small - at_large) / (1 / b - 1 / big)
    error = float(square.std()) / math.sqrt(n)
    if not float(square.mean()) > 2 * error:
        got = f"{float(square.mean()):.3g} ± {error:.2g}"
        raise InputError("gradients", f"a squared mean of {got}", "one two standard errors above 0",
                         "Take larger batches or more pairs; at a minimum there is no noise scale.")
    left_out = (trace.sum() - trace) / (square.sum() - square)
    jackknife = math.sqrt((n - 1) / n * float((left_out - left_out.mean()).square().sum()))
    return Noise(float(trace.mean() / square.mean()), jackknife, float(trace.mean()), float(square.mean()))


def improvement(square: float, curved: Noise, batch: float) -> float:
    """The expected fall of a loss in one step of the best size: ΔL = ΔL_max / (1 + B_noise/B).

    Args:
        square: |G|².
        curved: B_noise; its `square` is GᵀHG, so that ΔL_max = |G|⁴ / 2GᵀHG.
        batch: B.
    """
    return square**2 / (2 * curved.square) / (1 + curved.scale / batch)


def best_rate(square: float, curved: Noise, batch: float) -> float:
    """The size of that step: ε = ε_max / (1 + B_noise/B), ε_max = |G|² / GᵀHG."""
    return square / curved.square / (1 + curved.scale / batch)


# Steps to a loss -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Steps:
    """S(B) = least (1 + critical/B): the fewest steps there can be, and the critical batch B_n.

    `misfit` is the largest share by which a measured S is off this line.
    """

    least: float
    critical: float
    misfit: float = 0.0

    def at(self, batch: float) -> float:
        """Steps of `batch` questions."""
        return self.least * (1 + self.critical / batch)


def fit_steps(batches: Sequence[float], steps: Sequence[float]) -> Steps:
    """The line through steps measured at several batch sizes, least squares of the errors as shares of S.

    Raises InputError for fewer than three sizes, steps that are no numbers above 0, or steps that no line of the kind
    goes through: not fewer for larger batches.
    """
    if len(batches) < 3 or len(batches) != len(steps) or len(set(batches)) < 3:
        raise InputError("batches", f"{len(batches)} sizes and {len(steps)} counts of steps", "three sizes or more")
    if not all(math.isfinite(v) and v > 0 for v in (*batches, *steps)):
        raise InputError("steps", [*steps], "finite numbers above 0 for batches above 0")
    # By the normal equations, for plain sums come out alike on every run; lstsq's last digits do not.
    parts = [(1 / s, 1 / (b * s)) for b, s in zip(batches, steps, strict=True)]
    aa, ab, bb = (math.fsum(p[i] * p[j] for p in parts) for i, j in ((0, 0), (0, 1), (1, 1)))
    a, b = (math.fsum(p[i] for p in parts) for i in (0, 1))
    least, slope = (bb * a - ab * b) / (aa * bb - ab**2), (aa * b - ab * a) / (aa * bb - ab**2)
    if least <= 0 or slope <= 0:
        raise InputError("steps", [*steps], "fewer steps for larger batches, and some for the largest",
                         "Take batches on both sides of the critical one.")
    misfit = max(abs(least * one + slope * by_batch - 1) for one, by_batch in parts)
    return Steps(least, slope / least, misfit)


def crossing(
    save: list[int], target: float, loss: Callable[[int], float], least: Callable[[int], float] = lambda k: 0.0
) -> float:
    """The step at which a loss first meets the target, between two of `save` by their logarithm; infinity where never.

    Args:
        save: steps, rising, the first before any training.
        target: above 0.
        loss: at a place of `save`; asked only where `least`, a cheap figure that it is not below, meets the target.

    Raises InputError where the target is met before any training.
    """
    if (begin := loss(0)) <= target:
        raise InputError("target", target, f"less than {begin:.3g}, the loss before any training", "take a lower one")
    for k in range(1, len(save)):
        if least(k) <= target and (below := loss(k)) <= target:
            above = loss(k - 1)
            return save[k - 1] + (save[k] - save[k - 1]) * math.log(above / target) / math.log(above / below)
    return math.inf


def climb(steps: Callable[[float, int], float], rate: float, most: int) -> tuple[float, float]:
    """The best rate and its `steps(rate, most)`, from `rate` to neighbours until both are worse, then between them.

    The least of a parabola through three logarithms; where a neighbour never gets there, as beyond the rate at which
    runs break, by halving what lies between. Where none gets there rates fall, 20 times at most. Nothing is run for
    longer than half again the best so far.
    """
    tried: dict[float, float] = {}

    def at(k: float) -> float:
        if k not in tried:
            best = min(tried.values(), default=math.inf)
            tried[k] = steps(rate * APART**k, math.ceil(min(most, 1.5 * best)))
        return tried[k]

    best = next((k for k in range(0, -20, -1) if math.isfinite(at(k))), 0)
    while (near := min((best - 1, best + 1), key=at)) and at(near) < at(best):
        best = near
    low, middle, high = (at(best + i) for i in (-1, 0, 1))
    if not all(map(math.isfinite, (low, middle, high))):
        place, side = float(best), 1 if math.isinf(high) else -1
        for shift in (0.5, 0.25):
            place = min((place, place + side * shift), key=at)
        return rate * APART**place, at(place)
    low, middle, high = (math.log(v) for v in (low, middle, high))
    bend = low - 2 * middle + high
    shift = (low - high) / (2 * bend) if bend > 0 else 0.0
    return rate * APART ** (best + shift), math.exp(middle - bend * shift**2 / 2)


# What it costs ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rerun:
    """An outer model that reruns the human's training: FLOPs of a `rerun` C and of a `question` c, and its steps.

    Raises InputError where one of the FLOPs is not a number above 0.
    """

    rerun: float
    question: float
    steps: Steps

    def __post_init__(self) -> None:
        for name in ("rerun", "question"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"Rerun.{name}", value, "FLOPs, a finite number above 0")

    @property
    def burden(self) -> float:
        """r = C/(c B_n): reruns in units of a critical batch."""
        return self.rerun / (self.question * self.steps.critical)

    @property
    def budget(self) -> float:
        """W = 2 c S_min B_n: the outer model's whole training at the critical batch, without reruns."""
        return 2 * self.question * self.steps.least * self.steps.critical

    def cost(self, batch: float) -> float:
        """S(B) (C + cB): with a rerun at every batch."""
        return self.steps.at(batch) * (self.rerun + self.question * batch)

    @property
    def best_batch(self) -> float:
        """B* = √(B_n C/c), where that is least."""
        return math.sqrt(self.steps.critical * self.rerun / self.question)

    @property
    def least_cost(self) -> float:
        """S_min (√C + √(c B_n))²."""
        return self.steps.least * (math.sqrt(self.rerun) + math.sqrt(self.question * self.steps.critical)) ** 2

    @property
    def premium(self) -> float:
        """(1 + √r)²: least cost with reruns over the least without, c S_min B_n."""
        return (1 + math.sqrt(self.burden)) ** 2

    @property
    def per_datapoint(self) -> float:
        """1 + C/c: cost with a rerun at every question over that without."""
        return 1 + self.rerun / self.question

    @property
    def per_batch(self) -> float:
        """1 + C/(c B_n): cost with a rerun at every critical batch over that without."""
        return 1 + self.burden

    @property
    def once(self) -> float:
        """1 + C/W: cost with one rerun, kept for the whole training, over that without."""
        return 1 + self.rerun / self.budget

    @property
    def boundaries(self) -> tuple[float, float, float]:
        """C at which reruns per datapoint, per critical batch and once cost as much as all else: c, c B_n, W."""
        return self.question, self.question * self.steps.critical, self.budget

    @property
    def regime(self) -> Regime:
        """The most often that a rerun can be had for at most what all else costs; `doomed` where not even once."""
        kinds: tuple[Regime, ...] = ("datapoint", "batch", "once", "doomed")
        return kinds[sum(self.rerun > most for most in self.boundaries)]


def measured_premium(batches: Sequence[float], steps: Sequence[float], rerun: Rerun) -> float | None:
    """Least S(B) (C + cB) over c S_min B_n, with S as it was measured: a line in 1/B from one size to the next.

    None where the least lies at an end of what was measured. Beside `rerun.premium` it tests that formula.
    """
    sizes = sorted(zip(batches, steps, strict=True))
    best, at = math.inf, 0.0
    for (b, s), (b_next, s_next) in zip(sizes, sizes[1:], strict=False):
        slope = (s - s_next) / (1 / b - 1 / b_next)
        level = s - slope / b
        turn = math.sqrt(slope * rerun.rerun / (level * rerun.question)) if slope > 0 < level else b
        for batch in (b, b_next, min(max(turn, b), b_next)):
            cost = (level + slope / batch) * (rerun.rerun + rerun.question * batch)
            if cost < best:
                best, at = cost, batch
    if at in (sizes[0][0], sizes[-1][0]):
        return None
    return best / (rerun.question * rerun.steps.least * rerun.steps.critical)
