"""Bits from posterior draws, whichever sampler they come from, and the strength at which to ask for a hard event.

A hard event is reached through a soft posterior that straddles it. With Z = ∫ μ(dθ) exp(−βC) by bridge sampling and
draws of μ exp(−βC)/Z,

    μ{C ≤ τ} = Z E[1(C ≤ τ) exp(βC)],

for which β is set so that about half of the draws are inside.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import torch
from pyro.ops.stats import effective_sample_size
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness import bridge, hmc
from reuse_sim.specialness.problem import LEVEL, LN2, Problem, limits
from reuse_sim.specialness.space import Space
from reuse_sim.types import Estimate

R_HAT, ESS, ERROR_BITS = 1.05, 100.0, 1.0
"""Beyond these a figure is not called converged."""
WALKERS, ANNEALING = 64, 200
"""Chains and iterations with which a strength is looked for."""
LARGEST = 200.0
"""log β beyond which nothing is looked for."""


def soften(problem: Problem, generator: torch.Generator, chains: int = WALKERS) -> tuple[Problem, Tensor]:
    """The soft problem whose posterior has half of its mass in C ≤ tolerance, and chains z `(chains, d)` near it.

    Chains start in the reference; log β moves by how many of them are inside (Robbins & Monro 1951). Far inside, a
    spread of the reference's C below the tolerance, less C counts no more: where C has no least value μ exp(−βC) could
    have no end.

    Raises InputError where C has no gradient worth following.
    """
    if not problem.smooth:
        raise InputError("estimate", "a consistency without a gradient", "one that is smooth", "take method smc")
    space = Space(problem)
    z = _finite(space, space.draw(chains, generator))
    at = space.state(z, slopes=True)
    spread = float(at.cost.std())
    problem = _floored(problem, problem.tolerance - max(spread, abs(problem.tolerance)))
    log_beta, crossed, trail = -math.log(spread if spread > 0 else 1.0), 0, []
    now = hmc.begin(Space(problem.soft(math.exp(log_beta))).potential, z)
    for _ in range(ANNEALING):
        soft = Space(problem.soft(math.exp(log_beta)))
        now = hmc.adapt(soft.potential, replace(now, state=hmc.State(at.z, *soft.combined(at))), generator)
        at = space.state(now.state.z, slopes=True)
        share = float((at.cost <= problem.tolerance).double().mean())
        crossed += bool(crossed or share >= 0.5)
        log_beta = min(log_beta + (2 / (crossed + 3) if crossed else 0.5) * (0.5 - share), LARGEST)
        trail.append(log_beta)
    late = trail[-ANNEALING // 3 :] if crossed > ANNEALING // 3 else trail[-1:]
    return problem.soft(math.exp(sum(late) / len(late))), at.z


def _floored(problem: Problem, floor: float) -> Problem:
    """The problem with C no lower than `floor`."""
    gradient = problem.gradient

    def floored(theta: Tensor) -> tuple[Tensor, Tensor]:
        assert gradient is not None
        cost, slope = gradient(theta)
        return cost.clamp(min=floor), torch.where((cost < floor).unsqueeze(-1), 0.0, slope)

    return replace(problem, cost=lambda theta: problem.cost(theta).clamp(min=floor), gradient=gradient and floored)


def _finite(space: Space, z: Tensor) -> Tensor:
    """z `(n, d)` with those of no density or gradient replaced by others of its rows."""
    at = space.state(z, slopes=True)
    assert at.base_slope is not None and at.cost_slope is not None
    fine = at.base.isfinite() & at.cost.isfinite() & (at.base_slope + at.cost_slope).isfinite().all(-1)
    if fine.sum() < 2:
        raise InputError("cost", f"finite for {int(fine.sum())} of {len(z)} draws of the reference",
                         "a number for most θ", "take method smc")
    return z[fine.nonzero().flatten()[torch.arange(len(z)) % int(fine.sum())]]


def weigh(
    problem: Problem, soft: Problem, theta: Tensor, divergent: float, generator: torch.Generator,
    level: float = LEVEL, **diagnostics: Any,
) -> Estimate:
    """The bits from draws θ `(chains, n, d)` of the soft posterior, their interval, and whether the chains agree.

    Args:
        problem: what is asked; the hard event where it is one.
        soft: what θ was drawn from; `problem` itself where that is soft.
        divergent: the share of transitions that diverged.
    """
    evidence = bridge.bits(soft, theta, generator)
    agreement, effective = mixing(problem, theta)
    wrong = doubts(agreement, effective, divergent, evidence.error)
    bits, error, more = evidence.bits, evidence.error, dict(diagnostics)
    bound: Literal["two-sided", "lower", "none"] = "none" if wrong else "two-sided"
    if problem.hard:
        assert soft.strength is not None
        cost = problem.cost(theta.flatten(0, 1)).unflatten(0, theta.shape[:2])
        inside = cost <= problem.tolerance
        more |= {"strength": soft.strength, "hits": float(inside.double().mean()), "evidence_bits": evidence.bits}
        least = evidence.bits - soft.strength * problem.tolerance / LN2  # C ≤ τ implies exp(−βC) ≥ exp(−βτ)
        weighed = soft.cost(theta.flatten(0, 1)).unflatten(0, theta.shape[:2])
        weight = torch.where(inside, (soft.strength * (weighed - problem.tolerance)).exp(), 0.0)
        counted = float(effective_sample_size(weight.unsqueeze(-1)).nan_to_num(0.0).clamp(max=weight.numel()))
        more["ess_hits"] = counted
        if not bool(inside.any()):
            # None of so many: the share inside is below 3 / n at 95 % (the rule of three).
            bits, bound = least + math.log2(max(float(effective), 3.0) / 3), "none" if wrong else "lower"
            wrong.append("no draw is inside the tolerance; take a larger tolerance, or method smc")
        else:
            mean = float(weight.mean())
            bits = least - math.log2(mean)
            error = math.hypot(error, float(weight.std()) / mean / max(counted, 1.0) ** 0.5 / LN2)
            if counted < ESS:
                wrong.append(f"only {counted:.0f} effective draws inside of the tolerance (< {ESS:.0f}): take more")
                bound = "none"
    low, high = limits(bits, error, level) if math.isfinite(error) else (min(0.0, bits), bits)
    return Estimate(
        bits=bits, low=low, high=bits if bound == "lower" else high, bound=bound, kind="global", level=level,
        status="; ".join(wrong) or "converged",
        diagnostics={"rhat_max": agreement, "ess_min": effective, "divergent_share": divergent, "error_bits": error,
                     "inside_share": evidence.inside, **more, **problem.report},
    )


def mixing(problem: Problem, theta: Tensor) -> tuple[float, float]:
    """Largest split R-hat and smallest effective number of draws of the problem's probes and of C.

    θ `(chains, draws, d)`. A function that one chain never moves gives infinity and 0.
    """
    flat = theta.flatten(0, 1)
    functions = torch.cat([problem.probe(flat), problem.cost(flat).unsqueeze(-1)], -1)
    return hmc.mixing(functions.unflatten(0, theta.shape[:2]))


def doubts(agreement: float, effective: float, divergent: float, error: float) -> list[str]:
    """What is wrong with draws and bridge, and what to change."""
    wrong = []
    if agreement > R_HAT:
        wrong.append(f"chains disagree (R-hat {agreement:.2f} > {R_HAT}): take more warm-up, or a higher tolerance")
    if effective < ESS:
        wrong.append(f"only {effective:.0f} effective draws (< {ESS:.0f}): take more draws")
    if divergent > 0.01:
        wrong.append(f"{divergent:.0%} of transitions diverged: take more warm-up")
    if not error <= ERROR_BITS:  # not a number, where the Gaussian never met the cell
        wrong.append(f"the bridge's standard error is {error:.1f} bits (> {ERROR_BITS:.0f}): take more draws")
    return wrong
