"""Annealed importance sampling, forwards and back: specialness between two stochastic bounds (Grosse et al. 2015).

Forwards, chains start at the reference and are carried to the answer; each ends with a weight w of mean Z = 2^−S, so
w is seldom much above Z, and S seldom much above what w says. Backwards, chains start at a draw of the answer and are
carried to the reference; the mean of 1/w is at most 1/Z, so S is seldom much below. Nothing but Markov's inequality is
used: a limit holds however badly chains mixed. How badly shows in how far the two are apart.

The second half holds only where the start is an exact draw of the answer (`reuse_sim.specialness.planted` makes some).
That is the caller's claim, made by asking `FromExact(draws)` in place of `estimate`. A trained human is no exact draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness import bridge, path
from reuse_sim.specialness.bounds import Weights
from reuse_sim.specialness.path import Path, Pilot
from reuse_sim.specialness.problem import LEVEL, LN2, Problem
from reuse_sim.specialness.space import State
from reuse_sim.types import Estimate

CHAINS = 16
"""Each way."""
FORWARD_SHARE = 0.1
"""Of the chance to be wrong: the forward limit's. Its independent chains make it cheap, one exact start does not."""
GAP_BITS, GAP_SHARE = 1.0, 0.05
"""A gap between the passes beyond both is wide."""


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """One side: `high` is a bound. The pass back from `start` `(d,)` is shown in diagnostics and counts for nothing."""
    plan = path.pilot(problem, generator)
    way = plan.path(plan.temperatures(effort))
    up, back = forward(plan, way, generator), None
    if start is not None and bool(problem.cost(start[None]).isfinite()):
        back = backward(plan, way, start[None], generator)
    return _upper(problem, plan, up, back, level)


@dataclass(frozen=True)
class FromExact:
    """The method that goes both ways, back from `draws` `(d,)` or independent `(m, d)`, exact by the caller's word.

    Exact: drawn from the reference weighed by exp(−strength C), or restricted to the event; being inside of it is not
    enough. `specialness.estimate(problem, FromExact(draws), generator=g)`.
    """

    draws: Tensor

    def __call__(
        self, problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None,
        level: float = LEVEL,
    ) -> Estimate:
        """Two sides. `start` is left alone. Raises InputError where a draw is outside of the event: it is not exact."""
        draws = torch.atleast_2d(self.draws)
        cost = problem.cost(draws)
        beyond = problem.tolerance + 1e-9 * abs(problem.tolerance) if problem.hard else torch.finfo(cost.dtype).max
        if bool((cost > beyond).any()):
            raise InputError("FromExact.draws", f"C = {float(cost.max()):g}", "exact draws, within the tolerance",
                             "without one, take method annealed: one side")
        plan = path.pilot(problem, generator)
        way = plan.path(plan.temperatures(effort))
        up, back = forward(plan, way, generator), backward(plan, way, draws, generator)
        return _two_sided(problem, plan, up, back, level)


# The passes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pass:
    """One pass over T temperatures: log weights in nats, `(m, k)` from m independent starts, and acceptance `(T,)`.

    Backwards they are those of 1/w. `inside` `(m, k)` is false where a forward chain ended outside of a hard event.
    """

    log_weight: Tensor
    inside: Tensor
    accept: Tensor

    @property
    def weights(self) -> Weights:
        return Weights(self.log_weight)

    @property
    def counted(self) -> Weights:
        """The same, with 0 for those outside."""
        return Weights(self.log_weight.where(self.inside, -torch.inf))

    @property
    def slowest(self) -> float:
        return path.slowest(self.accept)


def forward(plan: Pilot, way: Path, generator: torch.Generator, chains: int = CHAINS) -> Pass:
    """From the reference to the answer: the mean of w is Z, if chains that end outside of a hard event count as 0."""
    state = plan.space.state(plan.space.draw(chains, generator), slopes=plan.space.problem.smooth)
    return _carry(plan, way, state, chains, generator)


def backward(plan: Pilot, way: Path, draws: Tensor, generator: torch.Generator) -> Pass:
    """From θ `(m, d)` to the reference: the mean of 1/w is at most 1/Z for exact θ. As many chains from each.

    Chains from one θ share its luck, so only different θ count as independent.
    """
    way, many = way.reversed(), max(1, CHAINS // len(draws))
    z = plan.space.z(draws).repeat_interleave(many, 0)
    state = plan.space.state(z, slopes=plan.space.problem.smooth)
    for _ in range(path.TRAJECTORIES):
        state, _ = path.move(plan.space, state, float(way.betas[0]), float(way.steps[0]), generator, plan.scale)
    return _carry(plan, way, state, len(draws), generator)


def _carry(plan: Pilot, way: Path, state: State, independent: int, generator: torch.Generator) -> Pass:
    """Weigh and move at each further β of the path."""
    log_weight, accepted = torch.zeros_like(state.cost), []
    betas, steps = way.betas.tolist(), way.steps.tolist()
    for before, beta, step in zip(betas, betas[1:], steps[1:], strict=False):
        log_weight = log_weight - (beta - before) * state.cost
        state, accept = path.move(plan.space, state, beta, step, generator, plan.scale)
        accepted.append(accept.mean())
    inside = state.cost <= 0 if plan.space.problem.hard else torch.ones_like(state.cost, dtype=torch.bool)
    groups = (independent, -1)
    return Pass(log_weight.unflatten(0, groups), inside.unflatten(0, groups), torch.stack(accepted))


# What they say ---------------------------------------------------------------------------------------


def _upper(problem: Problem, plan: Pilot, up: Pass, back: Pass | None, level: float) -> Estimate:
    hit = bool(up.inside.any())
    weights = up.counted if hit else up.weights
    bits, deviations = max(-weights.log_mean / LN2, 0.0), NormalDist().inv_cdf((1 + level) / 2)
    low = -max(weights.guess(deviations), weights.log_mean + deviations * weights.error) / LN2
    said = ["one-sided, only high is a bound: for the other take an exact draw, as planted humans of this size have"]
    if back is not None:
        said.append("start is not known to be an exact draw, so the pass back from it (reverse_bits) proves nothing")
    return Estimate(
        bits=bits, low=min(bits, max(low, 0.0)), high=max(bits, -weights.limit(1 - level) / LN2),
        bound="upper" if hit else "none", kind="global", level=level,
        status="; ".join(said + _faults(problem, plan, up)),
        diagnostics={**_diagnostics(plan, up, back), "error_bits": weights.error / LN2, "start_exact": False,
                     **problem.report},
    )


def _two_sided(problem: Problem, plan: Pilot, up: Pass, back: Pass, level: float) -> Estimate:
    alpha = 1 - level
    low = max(back.weights.limit(alpha * (1 - FORWARD_SHARE)) / LN2, 0.0)
    faults, found = _faults(problem, plan, up), _diagnostics(plan, up, back)
    if not bool(up.inside.any()):
        bits, high, error, bound = back.weights.log_mean / LN2, -up.weights.limit(alpha) / LN2, math.inf, "lower"
    else:
        high, bound = max(-up.counted.limit(alpha * FORWARD_SHARE) / LN2, 0.0), "two-sided"
        log_z, error = bridge.iterate(-back.log_weight.reshape(1, -1), up.counted.log_weight.flatten())
        bits, error = -log_z / LN2, error / LN2
        gap = found["gap_bits"]
        if gap > max(GAP_BITS, GAP_SHARE * bits):
            faults.append(f"the two passes are {gap:.1f} bits apart (> {max(GAP_BITS, GAP_SHARE * bits):.1f}): "
                          "take more effort")
        if low > high:
            faults.append("the limits contradict each other: the start is no exact draw, or this was the one case in "
                          f"{1 / alpha:.0f}")
            bound = "none"
            low, high = high, low
    bits = min(max(bits, low), max(high, low))
    return Estimate(
        bits=bits, low=low, high=max(high, bits), bound=bound, kind="global", level=level,
        status="; ".join(faults) or "converged",
        diagnostics={**found, "error_bits": error, "start_exact": True, **problem.report},
    )


def _diagnostics(plan: Pilot, up: Pass, back: Pass | None) -> dict[str, Any]:
    shown = up.counted if bool(up.inside.any()) else up.weights
    found = {"forward_bits": -shown.log_mean / LN2, "temperatures": len(up.accept), "length": float(plan.length[-1]),
             "acceptance": up.slowest, "effective_chains": up.counted.effective, "limits": "Markov's inequality"}
    if back is None:
        return found
    reverse = back.weights.log_mean / LN2
    return {**found, "acceptance": min(up.slowest, back.slowest), "reverse_bits": reverse,
            "gap_bits": found["forward_bits"] - reverse}


def _faults(problem: Problem, plan: Pilot, up: Pass) -> list[str]:
    wrong = []
    if not bool(up.inside.any()):
        wrong.append("no chain ended inside of the event, and forward_bits is that of a softer one: "
                     "take more effort or a higher tolerance")
    elif up.counted.effective < 2:
        wrong.append(f"one of {CHAINS} chains has nearly all the weight: take more effort")
    if not plan.reached:
        wrong.append("the pilot did not reach the event: take a higher tolerance")
    least = path.target(problem) / 3
    if up.slowest < least:
        wrong.append(f"only {up.slowest:.0%} of moves were accepted on part of the path (< {least:.0%}): "
                     "take more effort")
    return wrong
