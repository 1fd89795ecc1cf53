"""A population tempered from the reference towards the consistent θ: densities reference · exp(−βC), β rising.

β rises as far as leaves half of the particles' effective number (Del Moral et al. 2006); each time they are weighed,
resampled, and moved by Hamiltonian trajectories, or without gradients where C is not smooth. Every state on the way
counts (waste-free, Dau & Chopin 2022). The mean weights multiply to Z = E_μ exp(−βC), unbiased.

Groups of chains never mix. What moves them is tuned on all of them together, except the scale of a group's moves, which
comes from the other groups: taken from the particles it moves, it is tied to their errors and costs bits in 100
dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reuse_sim.specialness import moves
from reuse_sim.specialness.problem import Problem
from reuse_sim.specialness.space import Space, State

GROUPS = 8
ESS = 0.5
LENGTHS = (1.0, 0.8, 1.25)
"""Trajectories of these lengths, in turn; what did best sets the next stage's."""


@dataclass(frozen=True)
class Population:
    """Particles of equal weight: `members` `(kept · GROUPS · chains)`, kept states of every chain, at one β.

    `log_z` `(GROUPS,)` is log Z at β in nats; `roots` `(GROUPS · chains,)` the first ancestor of each chain.
    """

    members: State
    beta: float
    log_z: Tensor
    roots: Tensor

    @property
    def chains(self) -> int:
        return len(self.roots) // GROUPS

    @property
    def cost(self) -> Tensor:
        """C `(GROUPS, kept · chains)`."""
        return self.members.cost.reshape(-1, GROUPS, self.chains).transpose(0, 1).flatten(1)


@dataclass(frozen=True)
class Tuning:
    """Step size in units of the particles' spread, and steps per move; for moves without gradients, their size."""

    step: float
    length: float


@dataclass(frozen=True)
class Info:
    """How a stage went.

    Attributes:
        acceptance: mean acceptance probability.
        memory: correlation of C at the start and the end of the stage's moves.
        probe_memory: the same of the problem's probe that remembers most.
        drift: by how much C fell or rose in the moves, times the rise of β that led here, nats `(GROUPS,)`.
        mean, variance: of C.
        tuning: for the next stage.
    """

    beta: float
    acceptance: float
    memory: float
    probe_memory: float
    drift: Tensor
    mean: float
    variance: float
    tuning: Tuning


def init(space: Space, chains: int, kept: int, generator: torch.Generator) -> Population:
    """Draws of the reference; Z at β = 0 is the share of those whose cost is finite."""
    members = space.state(space.draw(kept * GROUPS * chains, generator), slopes=space.problem.smooth)
    population = Population(members, 0.0, torch.zeros(GROUPS), torch.arange(GROUPS * chains))
    share = population.cost.isfinite().to(members.z.dtype).mean(1)
    return Population(members, 0.0, share.log(), population.roots)


def first_tuning(problem: Problem) -> Tuning:
    """A quarter turn in steps that suit a normal of this dimension; without gradients five steps of size .7."""
    size = problem.dim**-0.25
    return Tuning(size, 1.5 / size) if problem.smooth else Tuning(0.7, 5.0)


def tuned(tuning: Tuning, acceptance: float, smooth: bool) -> Tuning:
    """Towards .9 of trajectories accepted, of the same length in time, or .3 of steps without gradients."""
    factor = math.exp((acceptance - 0.9) if smooth else (acceptance - 0.3) / 2)
    if smooth:
        return Tuning(tuning.step * factor, min(max(tuning.length / factor, 1.0), 64.0))
    return Tuning(min(tuning.step * factor, 1.0), tuning.length)


def raised(population: Population, problem: Problem) -> tuple[float, bool]:
    """The next β, and whether it is the last."""
    cost = population.cost.flatten()
    cost = cost[cost.isfinite()]
    above, inside = cost - cost.min(), cost <= problem.tolerance

    def weights(rise: float) -> Tensor:
        return (-rise * above).exp()

    def scarce(rise: float) -> bool:
        w = weights(rise)
        return float(w.sum() ** 2 / w.square().sum()) < ESS * len(w)

    def half_inside(rise: float) -> bool:
        w = weights(rise)
        return float(w[inside].sum()) >= float(w.sum()) / 2

    def mostly_lowest(rise: float) -> bool:
        w = weights(rise)
        return float(w[above == 0].sum()) >= 0.75 * float(w.sum())

    if problem.hard and half_inside(0.0):
        return population.beta, True
    if float(above.max()) > 0:
        top = 1 / float(above.mean())
        for _ in range(30):
            top *= 1 if scarce(top) else 2
        rise = _least(scarce if scarce(top) else mostly_lowest, top)  # the latter where C counts
    else:
        rise = 1 / max(abs(float(cost[0])), 1e-100) if problem.hard else math.inf
    if problem.strength is not None:
        last = population.beta + rise >= problem.strength
        return (problem.strength if last else population.beta + rise), last
    last = half_inside(rise)
    return population.beta + (_least(half_inside, rise) if last else rise), last


def step(
    space: Space, population: Population, beta: float, tuning: Tuning, kept: int, generator: torch.Generator
) -> tuple[Population, Info]:
    """Weigh the particles for `beta`, choose each group's chains among them, and move those `kept` times."""
    problem, chains, n = space.problem, population.chains, len(population.roots)
    cost, rise = population.cost, beta - population.beta
    alive = cost.isfinite()
    log_w = torch.where(alive, -rise * cost, -torch.inf)
    total = log_w.logsumexp(1, keepdim=True)
    weights = (log_w - total).exp()
    chosen = systematic(weights, chains, generator)
    chain = (torch.arange(GROUPS).unsqueeze(1) * chains + chosen % chains).flatten()
    first = now = population.members.take((chosen // chains).flatten() * n + chain)
    scale = spread(population.members.z, weights, chains)

    variance = first.cost.var().clamp(min=1e-300)
    states, accepted, scores = [], [], torch.zeros(len(LENGTHS))
    for k in range(kept):
        before, turn = now, k % len(LENGTHS)
        length = max(1, round(tuning.length * LENGTHS[turn]))
        size = tuning.step * (0.8 + 0.4 * torch.rand(n, generator=generator, dtype=now.z.dtype))
        if problem.smooth:
            now, accept = moves.hmc(space, now, beta, size, length, generator, scale)
        else:
            for _ in range(length):
                now, accept = moves.walk(space, now, size.clamp(max=1.0), generator, beta, scale=scale)
        states.append(now)
        accepted.append(float(accept.mean()))
        # What of C and of z is forgotten, for the price: log Z asks for C, and C may forget sooner than z.
        forgot = (now.cost - before.cost).square().mean() / variance, ((now.z - before.z) / scale).square().mean()
        scores[turn] += float(forgot[0] * forgot[1]) ** 0.5 / (length + 1) / len(range(turn, kept, len(LENGTHS)))
        tuning = tuned(tuning, accepted[-1], problem.smooth)
    best = LENGTHS[int(scores.argmax())] ** 0.5
    tuning = replace(tuning, length=min(max(tuning.length * best, 1.0), 64.0))

    costs = torch.cat([s.cost for s in states])
    start, end = (problem.probe(space.theta(s.z)).flatten(1) for s in (first, now))
    info = Info(
        beta, sum(accepted) / kept, float(_memory(first.cost, now.cost)), float(_memory(start, end).max()),
        rise * (now.cost - first.cost).reshape(GROUPS, chains).mean(1), float(costs.mean()), float(costs.var()), tuning,
    )
    log_z = population.log_z + total.squeeze(1) - alive.sum(1).log()
    return Population(joined(states), beta, log_z, population.roots[chain]), info


def hopeless(infos: Sequence[Info], problem: Problem) -> bool:
    """Whether C levels off above the tolerance, or nothing moves any more.

    dE[C]/dβ = −Var C. Where Var C falls like β^−q, q > 1, as about a minimum, what is left to fall is β Var C/(q − 1).
    """
    if not infos or not problem.hard:
        return False
    if len(infos) >= 8 and min(i.memory for i in infos[-8:]) > 0.95:
        return True
    now = infos[-1]
    gap = now.mean - problem.tolerance
    earlier = [i for i in infos if i.beta <= now.beta / 4]
    if now.variance <= 1e-20 * gap**2:
        return gap > 0
    if not earlier or gap <= 0:
        return False
    q = math.log(max(earlier[-1].variance, 1e-300) / now.variance) / math.log(now.beta / earlier[-1].beta)
    return q > 1.3 and gap > 3 * now.beta * now.variance / (q - 1)


def systematic(weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n positions `(g, n)` in each row of weights `(g, m)` that sum to 1, by one uniform per row."""
    offset = torch.rand(len(weights), 1, generator=generator, dtype=weights.dtype)
    points = (torch.arange(n, dtype=weights.dtype) + offset) / n
    ends = weights.cumsum(1)
    return torch.searchsorted(ends, points * ends[:, -1:]).clamp(max=weights.shape[1] - 1)


def spread(z: Tensor, weights: Tensor, chains: int) -> Tensor:
    """For each chain the standard deviations of the other groups' particles, `(GROUPS · chains, d)`."""
    w = weights.reshape(GROUPS, -1, chains).transpose(0, 1)  # as z lies: kept, group, chain
    z = z.reshape(*w.shape, -1)
    centred = z - torch.einsum("kgc,kgcd->d", w, z) / GROUPS
    moments = (torch.einsum("kgc,kgcd->gd", w, m) for m in (centred, centred.square()))
    mean, square = ((m.sum(0) - m) / (GROUPS - 1) for m in moments)
    return (square - mean.square()).clamp(min=1e-24).sqrt().repeat_interleave(chains, 0)


def joined(states: Sequence[State]) -> State:
    """One population of all members."""
    parts = ([getattr(s, name) for s in states] for name in State.__dataclass_fields__)
    return State(*(None if p[0] is None else torch.cat(p) for p in parts))  # type: ignore[arg-type]


def _least(holds: Callable[[float], bool], top: float) -> float:
    """About the least number up to `top` for which `holds`, which is true from there on."""
    low = 0.0
    for _ in range(40):
        middle = (low + top) / 2
        low, top = (low, middle) if holds(middle) else (middle, top)
    return top


def _memory(first: Tensor, last: Tensor) -> Tensor:
    """Correlation over the first dimension; 0 where one does not vary."""
    a, b = first - first.mean(0), last - last.mean(0)
    norm = (a.square().sum(0) * b.square().sum(0)).sqrt()
    return torch.where(norm > 0, (a * b).sum(0) / norm, 0.0)
