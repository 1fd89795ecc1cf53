"""Subset simulation (Au & Beck 2001): the rare event by way of ever rarer ones, each as a share of the one before.

A population drawn from the reference inside of C ≤ level is thinned to its lowest fifth, filled up again from those,
and moved inside of the new level until it has forgotten where it came from. No gradient is asked for: this is the
method for counts and exact matches. Levels exclude ties: survivors lie *strictly* below the level that cuts, so that
the product of shares is without bias for discrete costs as for others. A soft problem is summed up on the way: what
each cut leaves behind counts with its weights.

The population is made of replicates that share levels and step sizes but no ancestor: their spread is the error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import t as student
from torch import Tensor

from reuse_sim.specialness import moves, space
from reuse_sim.specialness.problem import LEVEL, LN2, Problem
from reuse_sim.specialness.space import Space
from reuse_sim.types import Estimate

ACCEPTANCE = 0.35
"""What step sizes are tuned to."""
SPREAD, ACCEPTED, REMEMBERED, CROSSED = 3.0, 1.0, 0.6, 0.05
"""Variance of a replicate in nats², accepted moves per member and level, correlation, crossings: beyond these a figure
is not called converged."""


class Plan(BaseModel):
    """`replicates` of `particles` each; `share` of them pass a cut; `moves` to `most` steps each level.

    Where fewer than `seeds` of a replicate pass on average, the level is sampled again, up to `rounds` times.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    replicates: int = Field(default=8, ge=4, le=256)
    particles: int = Field(default=400, ge=20, le=100_000)
    share: float = Field(default=0.2, gt=0, lt=1)
    moves: int = Field(default=10, ge=1, le=10_000)
    most: int = Field(default=30, ge=1, le=10_000)
    seeds: int = Field(default=20, ge=1, le=100_000)
    rounds: int = Field(default=20, ge=1, le=10_000)
    levels: int = Field(default=500, ge=1, le=100_000)


@dataclass(frozen=True)
class State:
    """A population `(replicates · particles,)` inside of C ≤ `level`, replicate by replicate.

    `log_p` `(replicates,)` is the log share of the reference inside of the level, `log_left` the log of what was left
    behind of the soft form's evidence. `origin` is z when the level began, `size` the step of the last move.
    """

    members: space.State
    level: float
    log_p: Tensor
    log_left: Tensor
    origin: Tensor | None
    ancestor: Tensor
    size: float


@dataclass(frozen=True)
class Info:
    """One level: the share that passed, over how many rounds, how often moves were accepted, how much is remembered.

    `variance` is Au & Beck's δ², (1 − P)(1 + γ)/(N P), γ from the likeness of members with one ancestor; `correlation`
    is that of C before and after the moves.
    """

    share: float
    rounds: int
    acceptance: float
    correlation: float
    moves: int
    variance: float


@dataclass(frozen=True)
class Run:
    """Where the levels ended, and what happened at each; `stopped` says why where the tolerance was not reached."""

    state: State
    infos: list[Info] = field(default_factory=list)
    stopped: str = ""


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


def run(problem: Problem, plan: Plan, generator: torch.Generator) -> Run:
    """Levels until enough of the population is inside of the tolerance, or there is no way on."""
    here, infos, levels = Space(problem), [], [math.inf]
    state = init(here, plan, generator)
    while not arrived(problem, state, plan):
        following = step(here, state, plan, generator)
        if following is None:
            return Run(state, infos, f"no way was found below C = {float(state.members.cost.min()):.4g}")
        state, info = following
        infos.append(info)
        levels.append(state.level)
        if len(infos) >= plan.levels or hopeless(problem, levels):
            return Run(state, infos, f"C fell to {state.level:.4g} only, in {len(infos)} levels")
    return Run(state, infos)


def init(here: Space, plan: Plan, generator: torch.Generator) -> State:
    """Draws of the reference."""
    n, nothing = plan.replicates * plan.particles, torch.zeros(plan.replicates, dtype=torch.float64)
    members = here.state(here.draw(n, generator))
    size = min(1.0, 2.4 / here.problem.dim**0.5)
    return State(members, math.inf, nothing, nothing - math.inf, None, torch.arange(n), size)


def arrived(problem: Problem, state: State, plan: Plan) -> bool:
    """Whether a share of the population is consistent, or, softly, half of it carries the evidence."""
    log_weights = _log_weights(problem, state.members.cost)
    weights = (log_weights - log_weights.max()).exp()  # not a number where none is consistent
    carried = float(weights.sum() ** 2 / weights.square().sum()) / len(weights)
    return carried >= (plan.share if problem.hard else 0.5)


def step(here: Space, state: State, plan: Plan, generator: torch.Generator) -> tuple[State, Info] | None:
    """Cut, fill up and move; None where nobody gets below the level in all rounds."""
    groups, cut = plan.replicates, threshold(state.members.cost, plan.share)
    members, costs, passed, size = state.members, [], [], state.size
    for again in range(plan.rounds):
        if again:
            members, size, *_ = refresh(here, members, state.level, size, plan, generator)
        costs.append(members.cost)
        cut = threshold(members.cost, plan.share) if cut is None else cut
        if cut is not None:
            passed.append(members)
            # Counted over all replicates: stopping here favours the share by no more than one in seeds · replicates.
            if sum(int((c < cut).sum()) for c in costs) >= plan.seeds * groups:
                break
    if cut is None:
        return None
    cost = torch.stack(costs)
    inside, log_weights = cost < cut, _log_weights(here.problem, cost)
    left = torch.where(inside, -math.inf, log_weights).reshape(-1, groups, plan.particles)
    log_left = torch.logsumexp(left, (0, 2)) - math.log(len(costs) * plan.particles)
    share = inside.reshape(-1, groups, plan.particles).double().mean((0, 2))

    pool = _joined([m.take((m.cost < cut).nonzero()[:, 0]) for m in passed])
    group = torch.cat([(m.cost < cut).nonzero()[:, 0] // plan.particles for m in passed])
    chosen = fill(group, groups, plan.particles, generator)
    members, level = pool.take(chosen), math.nextafter(cut, -math.inf)
    moved, size, acceptance, correlation, count = refresh(here, members, level, size, plan, generator)
    after = State(moved, level, state.log_p + share.log(), torch.logaddexp(state.log_left, state.log_p + log_left),
                  members.z, chosen, size)
    variance = spread(inside, state.ancestor)
    return after, Info(float(share.mean()), len(costs), acceptance, correlation, count, variance)


def threshold(cost: Tensor, share: float) -> float | None:
    """The value that cuts: about `share` of C `(n,)` lie strictly below it. None where all are equal.

    Where ties would leave nobody, the next value above the lowest.
    """
    ordered = cost.sort().values
    cut = ordered[math.ceil(share * len(cost))]
    if cut == ordered[0]:
        above = ordered[ordered > cut]
        return float(above[0]) if len(above) else None
    return float(cut)


def fill(group: Tensor, groups: int, size: int, generator: torch.Generator) -> Tensor:
    """Which survivor, of which `group` `(k,)` says the replicate, each of groups · size places is filled from.

    Systematically: every survivor of a replicate fills as many of its places as another, or one more. A replicate
    without survivors, whose share is 0, is filled from all.
    """
    order, count = group.argsort(stable=True), torch.bincount(group, minlength=groups)
    first = count.cumsum(0) - count
    alive = count > 0
    first, count = torch.where(alive, first, 0), torch.where(alive, count, len(group))
    at = (torch.arange(size) + torch.rand(groups, 1, generator=generator, dtype=torch.float64)) * count[:, None] / size
    return order[(first[:, None] + at.long().clamp(max=count[:, None] - 1)).flatten()]


def refresh(
    here: Space, members: space.State, level: float, size: float, plan: Plan, generator: torch.Generator
) -> tuple[space.State, float, float, float, int]:
    """Move inside of `level` until each has moved and C has forgotten where it began, from `moves` to `most` steps.

    Returns the population, step size, mean acceptance of the last steps, correlation of C, steps. The whole reference
    is drawn anew instead.
    """
    if level == math.inf:
        return here.state(here.draw(len(members.cost), generator)), size, 1.0, 0.0, 0
    before, accepted, correlation = members.cost, [], 0.0
    largest = 1.0 if hasattr(here.problem.reference, "propose") else 4.0
    # Each coordinate's own spread, so that what is tied down does not slow what is free: that of the other half of the
    # replicates, for by its own a population would creep together.
    half = len(before) // 2
    scale = members.z[half:].std(0).repeat(len(before), 1)
    scale[half:] = members.z[:half].std(0)
    for k in range(plan.most):
        octave = torch.rand(len(before), generator=generator, dtype=torch.float64) * 2 - 1
        sizes = (size * 2**octave).clamp(max=largest)
        members, accept = moves.walk(here, members, sizes, generator, level=level, scale=scale)
        accepted.append(float(accept.mean()))
        size = min(largest, max(1e-6, size * math.exp(accepted[-1] - ACCEPTANCE)))
        correlation = float(torch.corrcoef(torch.stack([before, members.cost]))[0, 1].nan_to_num(0.0))
        if k + 1 >= plan.moves and correlation < 0.2 and sum(accepted) >= 2 * ACCEPTED:
            break
    recent = accepted[len(accepted) // 2 :]
    return members, size, sum(recent) / len(recent), correlation, len(accepted)


def spread(inside: Tensor, ancestor: Tensor) -> float:
    """Relative variance δ² of the share of `inside` `(rounds, n)` where those with one ancestor are alike."""
    share = inside.double().mean()
    whole = torch.zeros(int(ancestor.max()) + 1, dtype=torch.float64)
    sums = whole.index_add(0, ancestor, (inside.double() - share).sum(0))
    return float(sums.square().sum() / (inside.numel() * share) ** 2)


def hopeless(problem: Problem, levels: list[float]) -> bool:
    """Whether the tolerance lies over a thousand levels away at the pace of the last twenty."""
    if not problem.hard or len(levels) < 40:
        return False
    return levels[-1] - problem.tolerance > 50 * (levels[-20] - levels[-1])


def weigh(problem: Problem, found: Run, plan: Plan, level: float = LEVEL) -> Estimate:
    """Bits, their interval from the replicates, and whether to believe them."""
    state, infos = found.state, found.infos
    log_weights = _log_weights(problem, state.members.cost).reshape(plan.replicates, -1)
    last = torch.logsumexp(log_weights, 1) - math.log(plan.particles)
    log_z = state.log_p if found.stopped else torch.logaddexp(state.log_left, state.log_p + last)
    log_mean, error, variance = combined(log_z)
    bits, half = -log_mean / LN2, float(student.ppf((1 + level) / 2, plan.replicates - 1)) * error / LN2
    crossings, dead = crossed(problem, state), int((log_z == -math.inf).sum())
    # Where the last cut was the tolerance itself, nothing rests on the moves after it.
    wrong = doubts(infos[:-1] if bool((log_weights == 0).all()) else infos, variance, dead, plan)
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


def _log_weights(problem: Problem, cost: Tensor) -> Tensor:
    if problem.strength is None:
        return torch.where(cost <= problem.tolerance, 0.0, -math.inf).double()
    return -problem.strength * cost.double()


def _joined(states: list[space.State]) -> space.State:
    return space.State(*(torch.cat([getattr(s, k) for s in states]) for k in ("z", "base", "cost")))
