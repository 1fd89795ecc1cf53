"""Levels of subset simulation (Au & Beck 2001): a population thinned, filled up and moved, until enough is consistent.

Levels exclude ties: survivors lie *strictly* below the level that cuts, so that the product of shares is without bias
for discrete costs as for others. A soft problem is summed up on the way: what each cut leaves behind counts with its
weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from reuse_sim.specialness import moves, space
from reuse_sim.specialness.problem import Problem
from reuse_sim.specialness.space import Space

ACCEPTANCE = 0.35
"""What step sizes are tuned to."""
ACCEPTED = 1.0
"""Accepted moves per member and level that are asked for."""


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
    logs = log_weights(problem, state.members.cost)
    weights = (logs - logs.max()).exp()  # not a number where none is consistent
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
    inside = cost < cut
    left = torch.where(inside, -math.inf, log_weights(here.problem, cost)).reshape(-1, groups, plan.particles)
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


def log_weights(problem: Problem, cost: Tensor) -> Tensor:
    """What members of cost `(n,)` count, in nats: all or nothing where hard, −λ C where soft."""
    if problem.strength is None:
        return torch.where(cost <= problem.tolerance, 0.0, -math.inf).double()
    return -problem.strength * cost.double()


def _joined(states: list[space.State]) -> space.State:
    return space.State(*(torch.cat([getattr(s, k) for s in states]) for k in ("z", "base", "cost")))
