"""The way from the reference to the answer: μ · exp(−βU) with β from 0 up, planned on a few chains of their own.

Soft: U = C, up to β = strength. Hard: U = (C − tolerance)₊, which nothing inside of the event feels, up to where most
of μ · exp(−βU) is inside; what is left is one factor, the share that is.

The pilot's draws are used for nothing but the plan, so what follows the plan is as valid as if someone had told it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reuse_sim.specialness import moves
from reuse_sim.specialness.problem import Problem
from reuse_sim.specialness.space import Space, State

CHAINS = 24
"""Of the pilot."""
STRIDE = 0.5
"""Length of a pilot's step in β, in standard deviations of the log weight."""
TRAJECTORIES = 3
"""Of each pilot chain at each β."""
LEAPFROGS = 8
"""At most, of a trajectory; and walking steps in its place."""
TURN = 1.5
"""Length of a trajectory where steps are long: about a quarter of the period of a standard normal."""
INSIDE = 0.75
"""Share inside of the event at which the path to a hard one may end."""
LONGEST, STUCK = 400, 1e-3
"""The event is given up on after so many steps of the pilot, or when all chains have the same U > 0 to that share."""


@dataclass(frozen=True)
class Path:
    """β from 0 to the end and step sizes, `(T + 1,)` each."""

    betas: Tensor
    steps: Tensor

    def reversed(self) -> Path:
        return Path(self.betas.flip(0), self.steps.flip(0))


@dataclass(frozen=True)
class Pilot:
    """What a short run saw on its way through J levels.

    Attributes:
        betas: `(J,)`, 0 first.
        steps: sizes found for each, `(J,)`.
        length: from the reference to each level `(J,)`, in standard deviations of the log weight; its square is about
            how many temperatures make the passes agree to a nat when chains mix at once.
        z: the chains at each level `(J, chains, d)`.
        space: the problem with U for its cost, in its sampler's coordinates.
        scale: of the coordinates, `(d,)` or 1.
        reached: whether the last level is the end, and not where the pilot gave up.
    """

    betas: Tensor
    steps: Tensor
    length: Tensor
    z: Tensor
    space: Space
    scale: Tensor | float
    reached: bool

    def path(self, temperatures: int) -> Path:
        """As many further β at equal distances on the pilot's length."""
        at = torch.linspace(0, float(self.length[-1]), temperatures + 1, dtype=self.length.dtype)
        # β is nearly exponential in the length, except next to 0.
        small = float(self.betas[1]) / 2
        betas = small * torch.sinh(interpolated(at, self.length, torch.asinh(self.betas / small)))
        betas[0], betas[-1] = 0.0, self.betas[-1]
        return Path(betas, interpolated(at, self.length, self.steps.log()).exp())

    def temperatures(self, effort: float) -> int:
        """How many β there are at that effort: four times the squared length, and some."""
        return max(4, min(40_000, math.ceil(effort * (40 + 4 * float(self.length[-1]) ** 2))))


def potential(problem: Problem) -> Problem:
    """The problem with U in place of C."""
    if not problem.hard:
        return problem
    cost, gradient, level = problem.cost, problem.gradient, problem.tolerance

    def excess(theta: Tensor) -> Tensor:
        return (cost(theta) - level).clamp(min=0)

    def with_gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
        assert gradient is not None
        value, slope = gradient(theta)
        return (value - level).clamp(min=0), torch.where((value > level).unsqueeze(-1), slope, 0.0)

    return replace(problem, cost=excess, gradient=gradient and with_gradient)


def pilot(problem: Problem, generator: torch.Generator) -> Pilot:
    """Walk a few chains up in β, in steps of equal length, with step sizes that are accepted often enough."""
    space = Space(potential(problem))
    draws = space.draw(CHAINS, generator)
    scale = 1.0 if space.normal else problem.reference.sample(1000, generator).std(0)
    state = space.state(draws, slopes=problem.smooth)
    end = problem.strength or math.inf
    beta, step, length, reached = 0.0, 0.3, 0.0, False
    levels: list[tuple[float, float, float, Tensor]] = []
    while True:
        for _ in range(TRAJECTORIES):
            state, accept = move(space, state, beta, step, generator, scale)
            step = min(step * math.exp(float(accept.mean()) - target(problem)), TURN if problem.smooth else 1.0)
        levels.append((beta, step, length, state.z))
        inside = float((state.cost <= 0).double().mean())
        reached = beta >= end or (problem.hard and beta > 0 and inside >= INSIDE)
        stuck = problem.hard and float(state.cost.std()) < STUCK * float(state.cost.mean())
        if reached or stuck or len(levels) > LONGEST:
            break
        ahead = min(_stride(state.cost, beta), end - beta)
        weights = torch.softmax(-ahead * state.cost, 0)
        length += math.sqrt(max(-math.log(_effective(weights)), 1e-12))
        beta += ahead
        state = state.take(systematic(weights, generator))
    betas, steps, lengths = torch.tensor([numbers for *numbers, _ in levels], dtype=torch.float64).T.contiguous()
    return Pilot(betas, steps, lengths, torch.stack([z for *_, z in levels]), space, scale, reached)


def target(problem: Problem) -> float:
    """The acceptance that step sizes aim at."""
    return 0.8 if problem.smooth else 0.3


def move(
    space: Space, state: State, beta: Tensor | float, step: Tensor | float, generator: torch.Generator,
    scale: Tensor | float = 1.0,
) -> tuple[State, Tensor]:
    """One trajectory, or as many walking steps, for μ · exp(−βU); β and step are one number or one per member `(n,)`.

    Returns the population after it and what share of each member's moves was accepted, in expectation `(n,)`.
    """
    n, like = len(state.z), state.z
    step = torch.as_tensor(step, dtype=like.dtype)
    if space.problem.smooth:
        leapfrogs = max(1, min(LEAPFROGS, math.ceil(TURN / float(step.min()))))
        jitter = 0.7 + 0.6 * torch.rand(n, generator=generator, dtype=like.dtype)
        return moves.hmc(space, state, beta, step * jitter, leapfrogs, generator, scale)
    total = torch.zeros(n, dtype=like.dtype)
    for _ in range(LEAPFROGS):
        state, accept = moves.walk(space, state, step, generator, beta, scale=scale)
        total = total + accept
    return state, total / LEAPFROGS


def slowest(accept: Tensor) -> float:
    """The lowest mean acceptance of a twentieth of the path, of those of each β."""
    return min(float(part.mean()) for part in accept.chunk(20))


def systematic(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Indices `(n,)` of a resampling by weights `(n,)` that sum to 1, each taken n w times up to rounding."""
    n = len(weights)
    at = (torch.arange(n, dtype=weights.dtype) + torch.rand(1, generator=generator, dtype=weights.dtype)) / n
    return torch.searchsorted(weights.cumsum(0), at).clamp(max=n - 1)


def interpolated(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """y at `at` on the broken line through (x, y), x growing."""
    k = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    share = ((at - x[k - 1]) / (x[k] - x[k - 1])).clamp(0, 1)
    return y[k - 1] + share * (y[k] - y[k - 1])


def _effective(weights: Tensor) -> float:
    """Effective share of weights that sum to 1."""
    return 1 / (len(weights) * float(weights.square().sum()))


def _stride(cost: Tensor, beta: float) -> float:
    """How much further in β makes log weights spread by STRIDE; at least a thousandth of what there is."""
    share, low, high = math.exp(-(STRIDE**2)), -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        weights = torch.softmax(-math.exp(middle) * cost, 0)
        low, high = (middle, high) if _effective(weights) > share else (low, middle)
    return max(math.exp(low), beta / 1000)
