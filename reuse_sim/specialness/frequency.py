"""How often a draw is consistent, counted: the specialness whose reference is whatever the draws came from.

Of humans trained from independent seeds the reference is the push-forward of the initialisation prior through training:
P_OPT of Mingard et al. 2021 (JMLR 22, 79). Of draws of the prior itself it is their P_B. That both agree is a claim
about training, and `given_by_training` measures it: S under the prior less S under training, the bits that training
gives.

Hard form: hits of N are binomial, and the limits are Clopper & Pearson's. Soft form: the mean of exp(−strength C).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import beta
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness.problem import LEVEL, LN2, Problem, checked, limits
from reuse_sim.types import Estimate

CHUNK, ENOUGH = 4096, 10


@dataclass(frozen=True)
class Gain:
    """Bits with limits at `level`; a limit is infinite where one side was never or always hit."""

    bits: float
    low: float
    high: float
    level: float = LEVEL


def estimate_from(
    thetas: Tensor, problem: Problem, level: float = LEVEL, reference: str = "push-forward of training"
) -> Estimate:
    """The specialness under what θ `(N, d)` are independent draws of; `reference` says what that is.

    A θ that is not finite, as of a training that broke, is not consistent. Without a hit only a lower bound is known,
    at `level`; the figure is then log₂(N + 1).
    """
    if thetas.dim() != 2 or thetas.shape[1] != problem.dim or len(thetas) == 0:
        raise InputError("thetas", tuple(thetas.shape), f"(N, {problem.dim}), at least one θ")
    whole = thetas.isfinite().all(-1)
    cost = torch.full((len(thetas),), torch.inf, dtype=torch.float64)
    with torch.no_grad():
        for index in whole.nonzero().squeeze(-1).split(CHUNK):
            cost[index] = checked(problem.cost, thetas[index]).double()
    n, about = len(cost), {**problem.report, "reference": reference, "broken": int((~whole).sum())}
    if problem.strength is not None:
        return _mean(-problem.strength * cost, level, about)
    hits = int((cost <= problem.tolerance).sum())
    low, high = clopper_pearson(hits, n, level)
    diagnostics = {"hits": hits, "draws": n, **about}
    if hits == 0:
        # One side only, so that all of 1 − level is on it.
        least = -math.log2(-math.expm1(math.log1p(-level) / n))
        bits = max(least, math.log2(n + 1))
        return Estimate(
            bits=bits, low=least, high=bits, bound="lower", kind="global", level=level, evaluations=n,
            status=f"none of {n} draws is consistent: at least {least:.1f} bits; take more draws, or method smc",
            diagnostics={"error_bits": 1 / LN2, **diagnostics},
        )
    bits = -math.log2(hits / n)
    error = math.sqrt((1 - hits / n) / hits) / LN2
    few = f"only {hits} of {n} draws are consistent: the limits are wide; take more draws"
    return Estimate(
        bits=bits, low=max(0.0, -math.log2(high)), high=-math.log2(low), bound="two-sided", kind="global",
        level=level, evaluations=n, status="converged" if hits >= ENOUGH else few,
        diagnostics={"error_bits": error, **diagnostics},
    )


def of_training(
    train: Callable[[Tensor], Tensor], problem: Problem, count: int, generator: torch.Generator, level: float = LEVEL
) -> Estimate:
    """P_OPT in bits: `train` takes `count` initialisations `(count, d)` drawn from the reference to trained θ."""
    return estimate_from(train(problem.reference.sample(count, generator)), problem, level)


def of_reference(problem: Problem, count: int, generator: torch.Generator, level: float = LEVEL) -> Estimate:
    """P_B in bits by brute force: `count` draws of the problem's own reference."""
    named = getattr(problem.reference, "name", type(problem.reference).__name__)
    return estimate_from(problem.reference.sample(count, generator), problem, level, named)


def given_by_training(prior: Estimate, training: Estimate) -> Gain:
    """S under the prior less S under training: log₂ P_OPT/P_B, errors added as independent normal ones.

    Where an estimate says only that S is at least so much, the gain has one limit only.
    """
    bits = prior.bits - training.bits
    below = math.hypot(prior.bits - prior.low, training.high - training.bits)
    above = math.hypot(prior.high - prior.bits, training.bits - training.low)
    least = prior.bound in ("two-sided", "lower") and training.bound in ("two-sided", "upper")
    most = prior.bound in ("two-sided", "upper") and training.bound in ("two-sided", "lower")
    return Gain(bits, bits - below if least else -math.inf, bits + above if most else math.inf, prior.level)


def _mean(log_weights: Tensor, level: float, about: dict[str, Any]) -> Estimate:
    """The soft form. A mean that few draws carry is too small more often than too large: bits too many."""
    n, top = len(log_weights), float(log_weights.max())
    if top == -math.inf:
        raise InputError("thetas", "infinite cost for every θ", "θ of finite cost")
    weights = (log_weights - top).exp()
    mean = float(weights.mean())
    bits = -(top + math.log(mean)) / LN2
    error = float(weights.std()) / mean / n**0.5 / LN2 if n > 1 else bits
    effective = float(weights.sum() ** 2 / weights.square().sum())
    low, high = limits(bits, error, level)
    believed = effective >= ENOUGH
    # The mean of positive numbers exceeds k times its expectation at most once in k.
    return Estimate(
        bits=bits, low=low if believed else min(low, 0.0), kind="global", level=level, evaluations=n,
        high=high if believed else max(high, bits + math.log2(1 / (1 - level))),
        bound="two-sided" if believed else "upper",
        status="converged" if believed else
        f"{effective:.1f} of {n} draws carry the mean: an upper bound only; take more draws, or method smc",
        diagnostics={"error_bits": error, "effective_draws": effective, "draws": n, **about},
    )


def clopper_pearson(hits: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Limits of a binomial probability that hold at `level` or more often, whatever it is (1934)."""
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return low, high
