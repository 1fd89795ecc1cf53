"""Plain counting: draw the reference, see how many are consistent. Exact intervals, up to about fifteen bits.

Nothing can be wrong here but the number of draws, so it is what the other estimators are held against.
"""

from __future__ import annotations

import math

import torch
from scipy.stats import beta

from reuse_sim.specialness.problem import LEVEL, LN2, Problem, limits
from reuse_sim.types import Estimate

DRAWS, CHUNK = 200_000, 2_000
"""Draws at effort 1, and how many at a time: a population of small networks then stays in the cache."""
ENOUGH = 10
"""Hits, or effective draws, below which a figure is not called converged."""


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: torch.Tensor | None = None,
    level: float = LEVEL,
) -> Estimate:
    """The share of `effort` · 200,000 draws that are consistent, or their mean weight where the problem is soft."""
    n = max(100, round(effort * DRAWS))
    with torch.no_grad():
        sizes = [min(CHUNK, n - first) for first in range(0, n, CHUNK)]
        cost = torch.cat([problem.cost(problem.reference.sample(size, generator)) for size in sizes]).double()
    if problem.strength is None:
        return counted(problem, int((cost <= problem.tolerance).sum()), n, level)
    return weighed(problem, -problem.strength * cost, level)


def counted(problem: Problem, hits: int, n: int, level: float = LEVEL) -> Estimate:
    """From `hits` among n draws, with Clopper–Pearson limits; none bounds S from below."""
    low_p, high_p = share_limits(hits, n, level)
    report = {"hits": hits, "draws": n, **problem.report}
    if hits == 0:
        bits = math.log2(1 / high_p)
        status = f"none of {n} draws was consistent: S is at least {bits:.1f} bits; take method subset"
        return Estimate(bits, bits, bits, "lower", "global", status, {"error_bits": None, **report}, level)
    few = f"only {hits} of {n} draws were consistent: take method subset, or more effort"
    return Estimate(
        bits=math.log2(n / hits), low=math.log2(1 / high_p), high=math.log2(1 / low_p), bound="two-sided",
        kind="global", level=level, status="converged" if hits >= ENOUGH else few,
        diagnostics={"error_bits": math.sqrt((1 - hits / n) / hits) / LN2, **report},
    )


def share_limits(hits: int, n: int, level: float) -> tuple[float, float]:
    """Clopper & Pearson's limits of a share (1934), each missed with probability ≤ (1 − level)/2."""
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.isf(tail, hits + 1, n - hits))
    return low, high


def weighed(problem: Problem, log_weights: torch.Tensor, level: float = LEVEL) -> Estimate:
    """From the draws' log weights `(n,)`: their log mean, its error, and by how many draws it is carried.

    Where few carry it the mean may be far too small, never far too large: by Markov's inequality it exceeds
    1/(1 − level) times the evidence with probability ≤ 1 − level. That bounds S from above, whatever the weights.
    """
    n, most = len(log_weights), float(log_weights.max())
    report = {"draws": n, **problem.report}
    if most == -math.inf:
        bits = math.log2(1 / share_limits(0, n, level)[1])
        status = f"all of {n} draws cost infinity: S is at least {bits:.1f} bits if no C is negative; take more effort"
        return Estimate(bits, bits, bits, "lower", "global", status, {"error_bits": None, **report}, level)
    weights = (log_weights - most).exp()
    bits = -(most + math.log(float(weights.mean()))) / LN2
    error = float(weights.std() / weights.mean()) / n**0.5 / LN2
    effective = float(weights.sum() ** 2 / weights.square().sum())
    low, high = limits(bits, error, level)
    carried = effective >= ENOUGH * ENOUGH
    few = f"the mean is carried by {effective:.1f} of {n} draws, an upper bound only: take method smc, or more effort"
    return Estimate(
        bits=bits, low=low, high=high if carried else max(high, bits - math.log2(1 - level)),
        bound="two-sided" if carried else "upper", kind="global", level=level, status="converged" if carried else few,
        diagnostics={"error_bits": error, "effective_draws": effective, **report},
    )
