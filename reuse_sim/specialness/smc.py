"""Sequential Monte Carlo: a population goes from the reference to the consistent θ through reference · exp(−βC).

The default estimator. β rises by as much as half of the particles' effective number allows (Del Moral et al. 2006);
each time they are weighed, resampled and moved by Hamiltonian trajectories, or without gradients where C is not smooth,
and every state on the way counts (waste-free SMC, Dau & Chopin 2022). The means of the weights multiply to an
unbiased Z = E_μ exp(−βC). Soft problems end at β = strength. For the hard event β rises until half of the particles are
inside, and μ{C ≤ τ} = Z · E_β[1(C ≤ τ) exp(βC)].

Eight groups that never mix give the interval. What moves the particles is tuned between stages on all of them together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reuse_sim.specialness import moves
from reuse_sim.specialness.problem import LN2, LEVEL, Problem
from reuse_sim.specialness.space import Space, State
from reuse_sim.types import Estimate

GROUPS = 8
CHAINS, KEPT = 24, 4
"""At effort 1: chains in each group, and states that each adds per stage."""
ESS = 0.5
LENGTHS = (0.7, 1.0, 1.4)


@dataclass(frozen=True)
class Population:
    """Weighted equally: the states that `chains` of each group went through, `(kept · GROUPS · chains)` of them.

    `log_z` `(GROUPS,)` is each group's log Z at β in nats; `roots` `(GROUPS · chains,)` says which of the first
    chains each descends from.
    """

    members: State
    beta: float
    log_z: Tensor
    roots: Tensor

    @property
    def cost(self) -> Tensor:
        """C `(GROUPS, kept · chains)`."""
        return by_group(self.members.cost, self.chains)

    @property
    def chains(self) -> int:
        return len(self.roots) // GROUPS


@dataclass(frozen=True)
class Tuning:
    """Step size in units of the particles' spread, and how many steps make a trajectory, about."""

    step: float
    length: float


@dataclass(frozen=True)
class Info:
    """One stage: what was accepted, what of C and of the probes each chain still remembered, how C drifted `(GROUPS,)`."""

    beta: float
    acceptance: float
    memory_cost: float
    memory_probe: float
    drift: Tensor
    best: float
    tuning: Tuning


def by_group(t: Tensor, chains: int) -> Tensor:
    """`(kept · GROUPS · chains,)` as `(GROUPS, kept · chains)`."""
    return t.reshape(-1, GROUPS, chains).transpose(0, 1).flatten(1)


def init(space: Space, chains: int, kept: int, generator: torch.Generator) -> Population:
    """Draws of the reference."""
    members = space.state(space.draw(kept * GROUPS * chains, generator), slopes=space.problem.smooth)
    finite = by_group(members.cost, chains).isfinite()
    return Population(members, 0.0, finite.double().mean(1).log(), torch.arange(GROUPS * chains))


def raised(population: Population, problem: Problem) -> tuple[float, bool]:
    """The next β, and whether it is the last one."""
    cost = population.cost.flatten()
    cost = cost[cost.isfinite()]
    shifted, inside = cost - cost.min(), cost <= problem.tolerance

    def ess(rise: float) -> float:
        w = (-rise * shifted).exp()
        return float(w.sum() ** 2 / w.square().sum()) / len(w)

    def share(rise: float) -> float:
        w = (-rise * shifted).exp()
        return float(w[inside].sum() / w.sum())

    top = 1 / max(float(shifted.mean()), 1e-300)
    while ess(top) > ESS and top < 1e300:
        top *= 2
    rise = _root(lambda r: ess(r) < ESS, top)
    if problem.strength is not None:
        left = problem.strength - population.beta
        return (problem.strength, True) if left <= rise else (population.beta + rise, False)
    if share(0.0) >= 0.5:
        return population.beta, True
    if share(rise) < 0.5:
        return population.beta + rise, False
    return population.beta + _root(lambda r: share(r) >= 0.5, rise), True


def _root(beyond, top: float) -> float:
    low, high = 0.0, top
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return high


def step(
    space: Space, population: Population, beta: float, tuning: Tuning, kept: int, generator: torch.Generator
) -> tuple[Population, Info]:
    """Weigh for β, resample, move."""
    chains, rise = population.chains, beta - population.beta
    log_w = torch.where(population.cost.isfinite(), -rise * population.cost, -torch.inf)
    log_mean = log_w.logsumexp(1) - population.cost.isfinite().sum(1).log()
    w = (log_w - log_w.logsumexp(1, keepdim=True)).exp()
    chosen = _systematic(w, chains, generator)  # (GROUPS, chains), position among kept · chains
    group = torch.arange(GROUPS).unsqueeze(1)
    chain = group * chains + chosen % chains
    now = population.members.take(((chosen // chains) * GROUPS * chains + chain).flatten())
    scale = _spread(population.members.z, w, chains)
    first, states, acceptance, best = now, [], [], []
    for k in range(kept):
        length = max(1, round(tuning.length * LENGTHS[k % len(LENGTHS)]))
        jitter = 0.8 + 0.4 * torch.rand(GROUPS * chains, generator=generator, dtype=now.z.dtype)
        before = now
        if space.problem.smooth:
            now, accept = moves.hmc(space, now, beta, tuning.step * jitter, length, generator, scale)
        else:
            for _ in range(length):
                size = (tuning.step * jitter).clamp(max=1.0)
                now, accept = moves.walk(space, now, size, generator, beta, scale=scale)
        acceptance.append(float(accept.mean()))
        jump = ((now.z - before.z) / scale).square().mean() / 2
        jump_c = (now.cost - before.cost).square().mean() / (2 * before.cost.var()).clamp(min=1e-300)
        best.append((float((jump * jump_c).sqrt()) / (length + 1), length))
        states.append(now)
    probes = [space.problem.probe(space.theta(s.z)) for s in (first, now)]
    info = Info(beta, sum(acceptance) / kept, _memory(first.cost[:, None], now.cost[:, None]), _memory(*probes),
                (now.cost - first.cost).reshape(GROUPS, chains).mean(1), max(best)[1], tuning)
    members = State(*(torch.cat([getattr(s, f) for s in states]) if getattr(now, f) is not None else None
                      for f in State.__dataclass_fields__))
    roots = population.roots[chain.flatten()]
    return Population(members, beta, population.log_z + log_mean, roots), info


def tuned(tuning: Tuning, info: Info, smooth: bool) -> Tuning:
    """Towards the acceptance that suits the moves, and the length of trajectory that forgot most for its price."""
    target = 0.8 if smooth else 0.3
    factor = math.exp(1.5 * (info.acceptance - target))
    factor = min(max(factor, 0.5), 1.5)
    length = tuning.length * (info.best / tuning.length) ** 0.5 / (factor if smooth else 1.0)
    return Tuning(tuning.step * factor if smooth else min(1.0, tuning.step * factor), min(max(length, 1.0), 64.0))


def _memory(first: Tensor, last: Tensor) -> float:
    """Correlation of first and last."""
    a, b = first - first.mean(0), last - last.mean(0)
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt().clamp(min=1e-300))


def _spread(z: Tensor, w: Tensor, chains: int) -> Tensor:
    """Standard deviations `(GROUPS · chains, d)` under weights `(GROUPS, kept · chains)`, of all groups but one's own.

    A scale taken from the particles it moves is tied to their errors: in 100 dimensions that alone costs bits.
    """
    w = w.reshape(GROUPS, -1, chains).transpose(0, 1)  # (kept, GROUPS, chains), as z lies
    z = z.reshape(*w.shape, -1)
    centred = z - torch.einsum("kgc,kgcd->d", w, z) / GROUPS
    first = torch.einsum("kgc,kgcd->gd", w, centred)
    second = torch.einsum("kgc,kgcd->gd", w, centred.square())
    mean, square = ((t.sum(0) - t) / (GROUPS - 1) for t in (first, second))
    return (square - mean.square()).sqrt().clamp(min=1e-12).repeat_interleave(chains, 0)


def _systematic(w: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n positions per row of weights `(g, m)`: `(g, n)`."""
    offset = torch.rand(len(w), 1, generator=generator, dtype=w.dtype)
    points = (torch.arange(n, dtype=w.dtype) + offset) / n
    return torch.searchsorted(w.cumsum(1), points).clamp(max=w.shape[1] - 1)


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    space, chains = Space(problem), max(4, round(CHAINS * effort))
    population = init(space, chains, KEPT, generator)
    tuning = Tuning(1.1 * problem.dim**-0.25, 1.5 / (1.1 * problem.dim**-0.25)) if problem.smooth else Tuning(0.7, 2)
    infos = []
    last = False
    while not last:
        beta, last = raised(population, problem)
        if beta > population.beta:
            population, info = step(space, population, beta, tuning, KEPT, generator)
            infos.append(info)
            tuning = tuned(tuning, info, problem.smooth)
        if len(infos) > 1000:
            break
    log_p = population.log_z
    if problem.hard:
        inside = population.cost <= problem.tolerance
        over = torch.where(inside, population.beta * (population.cost - problem.tolerance), -torch.inf)
        log_p = log_p + population.beta * problem.tolerance + over.logsumexp(1) - math.log(over.shape[1])
    mean, var = float(log_p.mean()), float(log_p.var())
    bits = -(mean + var / 2) / LN2
    error = math.sqrt(var / GROUPS + var**2 / (2 * (GROUPS - 1))) / LN2
    return Estimate(bits, bits - error, bits + error, "two-sided", "global", "converged",
                    {"error_bits": error, "infos": infos, "population": population, **problem.report}, level)
