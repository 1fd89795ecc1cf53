"""Sequential Monte Carlo, the default estimator: a tempered population, weighed and counted.

Soft problems end at β = strength with log Z. For the hard event β rises until half of the particles are inside, and

    μ{C ≤ τ} = Z E_β[1(C ≤ τ) exp(βC)],   Z = E_μ exp(−βC).

Groups of particles that never mix give the interval; how they moved decides whether it is believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from reuse_sim.specialness.problem import LEVEL, LN2, Problem
from reuse_sim.specialness.space import Space
from reuse_sim.specialness.tempering import GROUPS, Info, Population, first_tuning, hopeless, init, raised, step
from reuse_sim.types import Estimate

CHAINS, KEPT = 10, 12
"""At effort 1: chains of a group, and moves of a chain per stage, four times as many where they follow no gradients.
Each leaves a particle."""
ENOUGH = 20
"""Effective particles inside of the event that a group's last stage is continued for, eightfold at most."""
STAGES = 3000
MEMORY, PROBE_MEMORY = 0.5, 0.8
"""Correlations over a stage beyond which no figure is called converged: of C on average, of any probe at any time."""


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """Temper, weigh and count; `effort` scales chains and moves, each by its root; `start` is not used."""
    space = Space(problem)
    chains, kept = (max(2, round(n * effort**0.5)) for n in (CHAINS, KEPT if problem.smooth else 4 * KEPT))
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
    if problem.hard:
        bits, low = max(bits, 0.0), max(low, 0.0)
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
        f"only {k} of {n} draws of the reference have a finite cost: at least these bits; take a cost that says how "
        "far a θ is from possible, or more effort",
        {"error_bits": 0.0, **_diagnostics(problem, population, [])}, level,
    )  # fmt: skip


def _diagnostics(problem: Problem, population: Population, infos: Sequence[Info]) -> dict[str, Any]:
    def mean(name: str, nothing: float) -> float:
        return sum(getattr(i, name) for i in infos) / len(infos) if infos else nothing

    drift = torch.stack([torch.zeros(GROUPS), *(i.drift for i in infos)]).sum(0)
    return {
        "stages": len(infos), "strength": population.beta, "acceptance": mean("acceptance", 1.0),
        "memory": mean("memory", 0.0), "probe_memory": max((i.probe_memory for i in infos), default=0.0),
        "drift_bits": float(drift.mean()) / LN2, "ancestors": len(population.roots.unique()), **problem.report,
    }  # fmt: skip
