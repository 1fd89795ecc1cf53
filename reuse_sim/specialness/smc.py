"""Sequential Monte Carlo: particles go from the reference to the consistent θ through densities reference · exp(−βC).

The default estimator. β rises as far as leaves half of the particles' effective number (Del Moral et al. 2006); each
time they are weighed, resampled, and moved by Hamiltonian trajectories, or without gradients where C is not smooth.
Every state on the way counts (waste-free SMC, Dau & Chopin 2022). The mean weights multiply to Z = E_μ exp(−βC),
unbiased. Soft problems end at β = strength. For the hard event β rises until half of the particles are inside, and

    μ{C ≤ τ} = Z E_β[1(C ≤ τ) exp(βC)].

Groups that never mix give the interval. All tuning is common to them and comes from the stage before, except the scale
of a group's moves, which comes from the other groups: taken from the particles it moves, it is tied to their errors and
costs bits in 100 dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from reuse_sim.specialness import moves
from reuse_sim.specialness.problem import LEVEL, LN2, Problem
from reuse_sim.specialness.space import Space, State
from reuse_sim.types import Estimate

GROUPS = 8
CHAINS, KEPT = 10, 12
"""At effort 1: chains of a group, and moves, each of which leaves a particle, of a chain per stage."""
ESS = 0.5
ENOUGH = 20
"""Effective particles inside of the event that a group's last stage is continued for, eightfold at most."""
STAGES = 3000
MEMORY, PROBE_MEMORY = 0.5, 0.8
"""Correlations over a stage beyond which a figure is not called converged: of C on average, of any probe at any time."""
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


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """Temper, weigh and count; `effort` scales chains and moves by its root. `start` is not used: no draw is special."""
    space = Space(problem)
    chains, kept = (max(2, round(n * effort**0.5)) for n in (CHAINS, KEPT))
    population, infos = init(space, chains, kept, generator), []
    if not bool(population.log_z.isfinite().all()):
        return _barred(problem, population, level)
    tuning, last, lost = first_tuning(problem), False, False
    while not last and not lost:
        beta, last = raised(population, problem)
        if beta > population.beta:
            population, info = step(space, population, beta, tuning, kept, generator)
            tuning = info.tuning
            infos.append(info)
        lost = not last and (len(infos) >= STAGES or hopeless(infos, problem))
    if problem.hard and lost:
        return _unreached(problem, population, infos, level)
    log_p = population.log_z
    effective = math.inf
    if problem.hard:
        costs = [population.cost]
        while (effective := _effective(population.beta, problem, costs)) < ENOUGH and len(costs) < 8 and infos:
            population, info = step(space, population, population.beta, tuning, kept, generator)
            costs.append(population.cost)
        log_w = _inside(population.beta, problem, costs)
        log_p = log_p + population.beta * problem.tolerance + log_w.logsumexp(1) - math.log(log_w.shape[1])
    return _judged(problem, population, infos, log_p, effective, level)


def init(space: Space, chains: int, kept: int, generator: torch.Generator) -> Population:
    """Draws of the reference; Z at β = 0 is the share of those whose cost is finite."""
    members = space.state(space.draw(kept * GROUPS * chains, generator), slopes=space.problem.smooth)
    population = Population(members, 0.0, torch.zeros(GROUPS), torch.arange(GROUPS * chains))
    share = population.cost.isfinite().to(members.z.dtype).mean(1)
    return Population(members, 0.0, share.log(), population.roots)


def first_tuning(problem: Problem) -> Tuning:
    """A quarter turn in steps that suit a normal of this dimension; without gradients two steps of size .7."""
    size = problem.dim**-0.25
    return Tuning(size, 1.5 / size) if problem.smooth else Tuning(0.7, 2.0)


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

    top = 1 / max(float(above.mean()), 1e-100)
    for _ in range(30):  # no more where half of them lie lowest
        top *= 1 if scarce(top) else 2
    rise = _least(scarce, top)
    if problem.strength is not None:
        left = problem.strength - population.beta
        return (problem.strength, True) if left <= rise else (population.beta + rise, False)
    if half_inside(0.0):
        return population.beta, True
    return (population.beta + _least(half_inside, rise), True) if half_inside(rise) else (population.beta + rise, False)


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
    """Whether C levels off above the tolerance.

    dE[C]/dβ = −Var C. Where Var C falls like β^−q, q > 1, as about a minimum, what is left to fall is β Var C/(q − 1).
    """
    if not infos or not problem.hard:
        return False
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


def _inside(beta: float, problem: Problem, costs: Sequence[Tensor]) -> Tensor:
    """log of 1(C ≤ τ) exp(β(C − τ)), `(GROUPS, n)`."""
    cost = torch.cat(list(costs), 1)
    return torch.where(cost <= problem.tolerance, beta * (cost - problem.tolerance), -torch.inf)


def _effective(beta: float, problem: Problem, costs: Sequence[Tensor]) -> float:
    """Effective number of particles per group in the event."""
    log_w = _inside(beta, problem, costs)
    if not bool((log_w > -torch.inf).any()):
        return 0.0
    return float((2 * log_w.logsumexp((0, 1)) - (2 * log_w).logsumexp((0, 1))).exp()) / GROUPS


def _judged(
    problem: Problem, population: Population, infos: Sequence[Info], log_p: Tensor, effective: float, level: float
) -> Estimate:
    """The groups' log P are about normal, so that log of the mean P is mean + variance/2 (Cox's interval).

    However badly particles mix, the mean P is too large by 1/(1 − level) with a probability below 1 − level (Markov):
    where the interval is not believed, an upper limit is left.
    """
    diagnostics, n = _diagnostics(problem, population, infos), population.cost.numel()
    together = -float(log_p.logsumexp(0) - math.log(GROUPS)) / LN2
    empty = int(log_p.isinf().sum())
    if empty:
        share = (log_p - log_p.max()).exp()
        bits, error = together, float(share.std() / share.mean()) / GROUPS**0.5 / LN2
    else:
        variance = float(log_p.var()) + 1 / n**2  # never quite certain
        bits = -(float(log_p.mean()) + variance / 2) / LN2
        error = (variance / GROUPS + variance**2 / (2 * (GROUPS - 1))) ** 0.5 / LN2
    low, high = (bits + sign * float(stats.t.ppf((1 + level) / 2, GROUPS - 1)) * error for sign in (-1, 1))
    wrong = _doubts(problem, diagnostics, bits, error)
    if empty:
        wrong.insert(0, f"{empty} of {GROUPS} groups have no particle inside: take more effort")
    believed = not wrong
    if problem.hard and effective < ENOUGH / 4:
        wrong.append(f"only {effective:.1f} effective particles per group are inside: take more effort")
    return Estimate(
        bits, low, high if believed else max(high, together - math.log2(1 - level)),
        "two-sided" if believed else "upper", "global", "; ".join(wrong) or "converged",
        {"error_bits": error, "group_bits": (-log_p / LN2).tolist(), "effective": effective, **diagnostics}, level,
    )  # fmt: skip


def _doubts(problem: Problem, diagnostics: Mapping[str, Any], bits: float, error: float) -> list[str]:
    """What is wrong with how the particles moved, if anything."""
    wrong, seen = [], diagnostics
    if seen["acceptance"] < (0.5 if problem.smooth else 0.05):
        wrong.append(f"only {seen['acceptance']:.0%} of moves were accepted: "
                     + ("the cost may not be smooth" if problem.smooth else "take method subset"))
    if seen["memory"] > MEMORY:
        wrong.append(f"particles hardly move between stages (correlation of C {seen['memory']:.2f}): take more effort")
    if abs(seen["drift_bits"]) > max(3.0, 0.03 * abs(bits)):
        wrong.append(f"C still drifted by {seen['drift_bits']:.1f} bits within stages: take more effort")
    if error > max(1.0, 0.005 * abs(bits)):
        wrong.append(f"the groups differ, standard error {error:.1f} bits: take more effort")
    if seen["probe_memory"] > PROBE_MEMORY:
        wrong.append(f"particles cross no more between basins (correlation {seen['probe_memory']:.2f} over a stage): "
                     "basins that no group found are not in the figure; compare with twice the effort")
    return wrong


def _unreached(
    problem: Problem, population: Population, infos: Sequence[Info], level: float
) -> Estimate:
    """μ{C ≤ τ} ≤ Z exp(βτ) (Chernoff): at least so many bits, as far as Z is right."""
    bits = -(population.log_z + population.beta * problem.tolerance) / LN2
    mean, error = float(bits.mean()), float(bits.std()) / GROUPS**0.5
    low = mean - float(stats.t.ppf(level, GROUPS - 1)) * error
    diagnostics = _diagnostics(problem, population, infos)
    wrong = _doubts(problem, diagnostics, mean, error)
    least = float(population.cost.min())
    why = f"no way down to the tolerance {problem.tolerance:g} was found, C levels off at {infos[-1].mean:.4g} " \
          f"(least {least:.4g}): at least these bits; take a higher tolerance"
    return Estimate(
        max(mean, 0.0), max(low, 0.0), max(mean, 0.0), "none" if wrong else "lower", "global",
        "; ".join([why, *wrong]), {"error_bits": error, "least_cost": least, **diagnostics}, level,
    )  # fmt: skip


def _barred(problem: Problem, population: Population, level: float) -> Estimate:
    """Where too few draws have a finite cost to go on from: at least the bits of their share's upper limit."""
    n, k = population.cost.numel(), int(population.cost.isfinite().sum())
    bits = -math.log2(float(stats.beta.ppf(level, k + 1, n - k)))
    return Estimate(
        bits, bits, bits, "lower", "global",
        f"only {k} of {n} draws of the reference have a finite cost: at least these bits; take a cost that says how far "
        "a θ is from possible, or more effort",
        {"error_bits": 0.0, **_diagnostics(problem, population, [])}, level,
    )  # fmt: skip


def _diagnostics(problem: Problem, population: Population, infos: Sequence[Info]) -> dict[str, Any]:
    def mean(name: str, nothing: float) -> float:
        return sum(getattr(i, name) for i in infos) / len(infos) if infos else nothing

    drift = sum((i.drift for i in infos), torch.zeros(GROUPS))
    return {
        "stages": len(infos), "strength": population.beta, "acceptance": mean("acceptance", 1.0),
        "memory": mean("memory", 0.0), "probe_memory": max((i.probe_memory for i in infos), default=0.0),
        "drift_bits": float(drift.mean()) / LN2, "ancestors": len(population.roots.unique()), **problem.report,
    }  # fmt: skip
