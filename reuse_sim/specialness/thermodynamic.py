"""Thermodynamic integration: S ln 2 = ∫ E_β U dβ over the path of `path`, from chains at all its β side by side.

Between two β the trapezoid rule, corrected by the variances of U, which are minus the slope of the integrand (Friel,
Hurn & Wyse 2014). A hard event adds −ln of the share of draws inside of it at the last β. Each β has several
chains; the r-th of all of them make one replicate of the integral, and replicates tell the error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.stats import t as student
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness import path
from reuse_sim.specialness.path import Path, Pilot
from reuse_sim.specialness.problem import LEVEL, LN2, Problem
from reuse_sim.specialness.space import State
from reuse_sim.types import Estimate

REPLICATES = 8
FINER = 4
"""β per step of the pilot."""
DRAWS = 60
"""Trajectories of each chain that count, at effort 1; as many before do not."""
ERROR_BITS, DRIFT, CORRECTION_BITS = 1.0, 3.5, 1.0
"""Beyond these a figure is not called converged."""


@dataclass(frozen=True)
class Draws:
    """U of each draw `(draws, T + 1, replicates)`, and the acceptance at each β `(T + 1,)`."""

    cost: Tensor
    accept: Tensor


@dataclass(frozen=True)
class Integral:
    """S in nats: replicates `(r,)`, their mean, and how much of it corrects the trapezoid rule."""

    replicates: Tensor
    nats: float
    correction: float

    @property
    def error(self) -> float:
        return float(self.replicates.std()) / math.sqrt(len(self.replicates))


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """Chains along the pilot's path, from where it left its own. `start` is left alone.

    Raises InputError where C is infinite for part of the reference: its mean is.
    """
    plan = path.pilot(problem, generator)
    count = max(4, round(DRAWS * effort))
    way = plan.path(FINER * (len(plan.betas) - 1))
    draws = sample(plan, way, init(plan, way), count, generator)
    if not bool(draws.cost.isfinite().all()):
        raise InputError("thermodynamic", "a cost that is infinite for part of the reference", "a finite one here",
                         "take method annealed")
    found = integral(way, draws.cost, problem.hard)
    halves = [integral(way, half, problem.hard) for half in draws.cost.tensor_split(2)]
    drift = halves[1].nats - halves[0].nats
    tolerated = DRIFT * math.hypot(halves[0].error, halves[1].error)
    bits, error = max(found.nats / LN2, 0.0), found.error / LN2
    margin = float(student.ppf((1 + level) / 2, REPLICATES - 1)) * error
    inside = float((draws.cost[:, -1] <= 0).double().mean()) if problem.hard else 1.0
    wrong = []
    if not plan.reached or inside == 0:
        wrong.append("the path ends outside of the event, and the figure is that of a softer one: "
                     "take a higher tolerance")
    if abs(drift) > max(tolerated, 0.1):
        wrong.append(f"the chains drift ({drift / LN2:+.1f} bits from the first half to the second): take more effort")
    if error > ERROR_BITS:
        wrong.append(f"the standard error is {error:.1f} bits (> {ERROR_BITS:.0f}): take more effort")
    if abs(found.correction) / LN2 > CORRECTION_BITS:
        wrong.append(f"{found.correction / LN2:.1f} bits correct the trapezoid rule (> {CORRECTION_BITS:.0f}): the "
                     "path has too few steps for it; take method annealed")
    least, slowest = path.target(problem) / 3, path.slowest(draws.accept)
    if slowest < least:
        wrong.append(f"only {slowest:.0%} of moves were accepted on part of the path (< {least:.0%}): take more effort")
    return Estimate(
        bits=bits, low=max(bits - margin, 0.0), high=bits + margin, kind="global", level=level,
        bound="two-sided" if plan.reached and inside > 0 else "none", status="; ".join(wrong) or "converged",
        diagnostics={"error_bits": error, "temperatures": len(way.betas), "drift_bits": drift / LN2,
                     "correction_bits": found.correction / LN2, "inside_share": inside, "acceptance": slowest,
                     **problem.report},
    )


def init(plan: Pilot, way: Path) -> State:
    """The chains of all β in one population, β by β, from where the pilot was just before."""
    level = torch.searchsorted(plan.betas, way.betas, right=True) - 1
    z = plan.z[level, :REPLICATES].flatten(0, 1)
    return plan.space.state(z, slopes=plan.space.problem.smooth)


def sample(plan: Pilot, way: Path, state: State, count: int, generator: torch.Generator) -> Draws:
    """`count` draws of each chain, after as many that are not kept."""
    betas, steps = (t.repeat_interleave(REPLICATES) for t in (way.betas, way.steps))
    kept, accepted = [], []
    for k in range(2 * count):
        state, accept = path.move(plan.space, state, betas, steps, generator, plan.scale)
        if k >= count:
            kept.append(state.cost)
            accepted.append(accept)
    shape = (len(way.betas), REPLICATES)
    return Draws(torch.stack(kept).unflatten(1, shape), torch.stack(accepted).mean(0).unflatten(0, shape).mean(1))


def integral(way: Path, cost: Tensor, hard: bool) -> Integral:
    """Of U `(draws, T + 1, replicates)` over β, with the share inside at the end of a path to a hard event."""
    means = cost.mean(0)
    variances = (cost - means.mean(1, keepdim=True)).square().mean((0, 2))
    width = way.betas.diff()
    replicates = (width[:, None] * (means[1:] + means[:-1]) / 2).sum(0)
    correction = float((width.square() * variances.diff()).sum() / 12)
    nats = float(replicates.mean()) + correction
    if hard:
        inside = (cost[:, -1] <= 0).double().mean(0)
        share = inside.mean()
        if share > 0:
            replicates = replicates - inside / share
            nats -= math.log(share)
    return Integral(replicates, nats, correction)
