"""Subset simulation (Au & Beck 2001): the rare event by way of ever rarer ones, each as a share of the one before.

A population drawn from the reference inside of C ≤ level is thinned to its lowest fifth, filled up again from those,
and moved inside of the new level until it has forgotten where it came from. No gradient is asked for: this is the
method for counts and exact matches. What the levels come to is weighed here.

The population is made of replicates that share levels and step sizes but no ancestor: their spread is the error.
"""

from __future__ import annotations

import math

import torch
from scipy.stats import t as student
from torch import Tensor

from reuse_sim.specialness.levels import ACCEPTED, Info, Plan, Run, State, log_weights, run
from reuse_sim.specialness.problem import LEVEL, LN2, Problem
from reuse_sim.specialness.space import Space
from reuse_sim.types import Estimate

SPREAD, REMEMBERED, CROSSED = 3.0, 0.6, 0.05
"""Variance of a replicate in nats², correlation of C over a level, crossings: beyond these a figure is not called
converged."""


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """Run to the tolerance and weigh; `effort` scales particles and moves each by its root. `start` is not used."""
    plan, root = Plan(), effort**0.5
    plan = plan.model_copy(update={
        "particles": max(20, round(root * plan.particles)), "moves": max(1, round(root * plan.moves)),
        "most": max(1, round(root * plan.most)), "seeds": max(1, round(root * plan.seeds)),
    })  # fmt: skip
    return weigh(problem, run(problem, plan, generator), plan, level)


def weigh(problem: Problem, found: Run, plan: Plan, level: float = LEVEL) -> Estimate:
    """Bits, their interval from the replicates, and whether to believe them."""
    state, infos = found.state, found.infos
    logs = log_weights(problem, state.members.cost).reshape(plan.replicates, -1)
    last = torch.logsumexp(logs, 1) - math.log(plan.particles)
    log_z = state.log_p if found.stopped else torch.logaddexp(state.log_left, state.log_p + last)
    log_mean, error, variance = combined(log_z)
    bits, half = -log_mean / LN2, float(student.ppf((1 + level) / 2, plan.replicates - 1)) * error / LN2
    crossings, dead = crossed(problem, state), int((log_z == -math.inf).sum())
    # Where the last cut was the tolerance itself, nothing rests on the moves after it.
    wrong = doubts(infos[:-1] if bool((logs == 0).all()) else infos, variance, dead, plan)
    report = {
        "error_bits": error / LN2,
        "levels": len(infos),
        "au_beck_bits": math.fsum(i.variance for i in infos) ** 0.5 / LN2,
        "replicate_variance": variance,
        "acceptance_min": min((i.acceptance for i in infos), default=1.0),
        "correlation_max": max((i.correlation for i in infos), default=0.0),
        "moves": sum(i.moves for i in infos),
        "crossings": crossings,
        "consistent": int((state.members.cost <= problem.tolerance).sum()),
        **problem.report,
    }
    if found.stopped:
        return _stopped(found, bits - half, report, plan, level)
    parts = ""
    if crossings < CROSSED:
        parts = "what is consistent lies in parts between which no move goes, others may be missed: an upper bound only"
        wrong.append(parts + "; compare with another method")
    return Estimate(
        bits=bits, low=max(0.0, bits - half), high=max(0.0, bits + half), bound="upper" if parts else "two-sided",
        kind="global", level=level, status="; ".join(wrong) or "converged", diagnostics=report,
    )


def combined(log_z: Tensor) -> tuple[float, float, float]:
    """Log mean of what replicates' logs `(g,)` stand for, its standard error, and their variance v, in nats.

    Each is without bias before the logarithm and about lognormal, so the log mean is mean + v/2 with squared error
    v/g + v²/(2(g − 1)). Where some are zero, the plain mean.
    """
    g = len(log_z)
    if bool((log_z > -math.inf).all()):
        v = float(log_z.var())
        return float(log_z.mean()) + v / 2, (v / g + v**2 / (2 * (g - 1))) ** 0.5, v
    mean = float(torch.logsumexp(log_z, 0)) - math.log(g)
    v = float((log_z - mean).exp().var())
    return mean, (v / g) ** 0.5, v


def crossed(problem: Problem, state: State) -> float:
    """How much goes on between the two sides of the widest gap in any of the problem's probes; 0 is nothing.

    Of members inside of the tolerance: those who changed sides during the last level, over twice the smaller side. Gaps
    of less than half a standard deviation, or with less than a hundredth on one side, do not count: 1.
    """
    chosen = state.members.cost <= problem.tolerance if problem.hard else torch.ones(len(state.ancestor)).bool()
    if state.origin is None or int(chosen.sum()) < 100:
        return 1.0
    here = Space(problem)
    with torch.no_grad():
        before, after = (problem.probe(here.theta(z[chosen])) for z in (state.origin, state.members.z))
    ordered, edge = after.sort(0).values, max(10, math.ceil(len(after) / 100))
    inner = ordered[edge - 1 : len(after) - edge + 1]
    gap, at = (inner[1:] - inner[:-1]).max(0)
    middle = (inner.gather(0, at[None]) + gap / 2)[0]
    sides = torch.minimum((after < middle).sum(0), (after >= middle).sum(0))
    changes = ((after < middle) != (before < middle)).sum(0)
    wide = (gap > 0) & (gap > after.std(0) / 2)
    return float(torch.where(wide, changes / (2 * sides), 1.0).min())


def doubts(infos: list[Info], variance: float, dead: int, plan: Plan) -> list[str]:
    """What is wrong, each with what to change."""
    wrong = []
    if variance > SPREAD:
        wrong.append(f"replicates disagree (variance {variance:.1f} nats² > {SPREAD:.0f}): take more effort")
    if dead:
        wrong.append(f"{dead} of {plan.replicates} replicates found no way: take more effort")
    if any(i.acceptance * i.moves < ACCEPTED for i in infos):
        wrong.append("at some level most of the population never moved: take more effort, or a higher tolerance")
    if any(i.correlation > REMEMBERED for i in infos):
        wrong.append("some level was left before it was forgotten where it began: take more effort")
    return wrong


def _stopped(found: Run, low: float, report: dict, plan: Plan, level: float) -> Estimate:
    """S is at least the bits of the last level, and more by what none of its population says: each at (1 + level)/2."""
    # The reference's own draws are independent; of a later population only so many as there were seeds at least.
    first, none = found.state.level == math.inf, report["consistent"] == 0
    draws = plan.replicates * (plan.particles * plan.rounds if first else plan.seeds)
    beyond = -math.log2(1 - ((1 - level) / 2) ** (1 / draws)) if none else 0.0
    bits = max(0.0, low) + beyond
    status = f"{found.stopped}: S is at least {bits:.1f} bits; take a higher tolerance, or more effort"
    return Estimate(bits, bits, bits, "lower", "global", status, report, level)
