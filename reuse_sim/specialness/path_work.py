"""What a descent could harvest of its own path: Jarzynski's equality over an annealed descent from the reference.

Walkers start as draws of the reference and take one trajectory of Hamiltonian Monte Carlo per step while β_t rises;
their work is W_t = Σ_{s ≤ t} (β_s − β_{s−1}) C(θ_{s−1}). For every t and every g, however fast the path,

    E[exp(−W_t) g(θ_t)] = ∫ μ(dθ) exp(−β_t C(θ)) g(θ)          (Jarzynski 1997; Neal 2001)

so that g = exp(β_t C) 1(C ≤ τ) gives the specialness of the hard event and g = 1 that of the soft form. All iterates of
the path's end count alike, not its last alone. What is descended on may be another cost than the event's (`along`):
the equality holds with `along` in place of C and the event as it is.

*A leak.* Coordinates that become known (`known.early`: within the first tenth of the steps, while β is next to 0) are
set to their values and held, which is no work. The path then estimates the specialness *given* those values, for
nothing on it knows how rare they were: with all of them known, 0 bits. The figure looks as good as any.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.rng import children
from reuse_sim.specialness import moves
from reuse_sim.specialness.known import Leak
from reuse_sim.specialness.problem import LEVEL, LN2, Problem, limits
from reuse_sim.specialness.space import Space, State
from reuse_sim.types import Estimate

ACCEPTANCE, GAIN, JITTER = 0.8, 0.15, 0.9
"""Of trajectories, which the scout tunes step sizes to; by how much at a time; by how much sizes vary about theirs."""
LARGEST = 0.5
"""Step size: longer trajectories of three come back to where they were."""
FIRST, GROWTH, LAST = 0.1, 1.06, 2.0**30
"""Where the scout's β starts, in units of 1/sd of C under the reference; its growth per step; when it gives up."""
ENOUGH = 0.25
"""The share of scouts in the event at which β is high enough."""
END = 0.2
"""The share of the path whose iterates count."""
FEWEST = 5.0
"""Effective walkers below which a figure is not believed."""

Hold = Callable[[State, float], tuple[State, Tensor | float]]


class Plan(BaseModel):
    """`walkers` at once, `steps` trajectories of `leapfrogs` each."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    walkers: int = Field(default=16, ge=2, le=4096)
    steps: int = Field(default=1500, ge=20, le=1_000_000)
    leapfrogs: int = Field(default=3, ge=1, le=100)


@dataclass(frozen=True)
class Schedule:
    """What a quick path found: the β to end at, and step sizes `(s,)` by log β `(s,)`.

    Where `reached` is false no β brought enough walkers into the event; `nearest` is the smallest C of the last.
    """

    beta: float
    log_betas: Tensor
    sizes: Tensor
    reached: bool
    nearest: float

    def size(self, beta: float) -> float:
        """The step size at β."""
        at = int(torch.searchsorted(self.log_betas, math.log(beta)).clamp(max=len(self.sizes) - 1))
        return float(self.sizes[at])


@dataclass(frozen=True)
class Path:
    """`log_weights` `(e, K)` in nats of the e iterates that count, −inf outside of the event.

    `theta` `(s, K, d)` are s iterates from the whole of the path, the last included.
    """

    log_weights: Tensor
    theta: Tensor
    acceptance: float
    schedule: Schedule


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """One annealed descent of sixteen walkers; `effort` scales its steps. Paths start at draws, whatever `start`.

    Raises InputError where C has no gradient.
    """
    plan = Plan()
    plan = plan.model_copy(update={"steps": max(20, round(effort * plan.steps))})
    return weigh(problem, descend(problem, plan, generator), level)


def descend(
    problem: Problem,
    plan: Plan,
    generator: torch.Generator,
    leak: Leak | None = None,
    along: Problem | None = None,
    schedule: Schedule | None = None,
    keep: int = 2,
) -> Path:
    """One path of all walkers.

    Args:
        leak: what becomes known on the way.
        along: whose cost is descended on, where it is not that of `problem`.
        schedule: of another path, to do the same again; found by a quick path with all of the leak where absent.
        keep: how many iterates to keep.
    """
    if not (along or problem).smooth:
        raise InputError("path_work", "a cost without a gradient", "a smooth one", "take method smc")
    space, (own,) = Space(along or problem), children([generator], 1)
    hold = _holding(space, leak)

    def event_cost(state: State) -> Tensor:
        return state.cost if along is None else problem.cost(space.theta(state.z))

    schedule = schedule or _scout(problem, space, plan, hold, event_cost, own)
    if not schedule.reached:
        nothing = torch.full((1, plan.walkers), -torch.inf, dtype=torch.float64)
        return Path(nothing, torch.empty(0, plan.walkers, problem.dim), 0.0, schedule)
    betas = (schedule.beta * (torch.arange(plan.steps + 1, dtype=torch.float64) / plan.steps) ** 4).tolist()
    kept = set(torch.linspace(0, plan.steps, keep).round().long().tolist())
    state, scale = hold(space.state(space.draw(plan.walkers, generator), slopes=True), 0.0)
    work, log_weights, thetas, acceptance = torch.zeros_like(state.cost), [], [space.theta(state.z)], 0.0
    for t in range(1, plan.steps + 1):
        work = work + (betas[t] - betas[t - 1]) * state.cost
        size = _jittered(schedule.size(betas[t]), plan.walkers, generator)
        if bool(torch.as_tensor(scale).any()):  # nothing moves where all is held
            state, accept = moves.hmc(space, state, betas[t], size, plan.leapfrogs, generator, scale)
            acceptance += float(accept.mean()) / plan.steps
        if t > (1 - END) * plan.steps:
            # E[exp(−W_t + β_t C_t) g(θ_t)] = ∫ g dμ, with g the event or its soft form.
            asked = event_cost(state)
            soft = 0.0 if problem.strength is None else problem.strength * asked
            inside = asked <= problem.tolerance if problem.hard else asked.isfinite()
            log_weights.append(torch.where(inside, betas[t] * state.cost - work - soft, -torch.inf))
        if t in kept:
            thetas.append(space.theta(state.z))
        state, scale = hold(state, t / plan.steps)
    return Path(torch.stack(log_weights), torch.stack(thetas), acceptance, schedule)


def weigh(problem: Problem, path: Path, level: float = LEVEL, quantity: str = "specialness") -> Estimate:
    """The bits of a path, with the standard error of the mean over its walkers.

    The logarithm of a mean of few walkers is too low on average: too many bits where walkers differ. Whatever the
    path, S is at most bits + log₂ 1/(1 − level) with a probability of `level` (Markov's inequality).
    """
    walkers, top = path.log_weights.shape[1], float(path.log_weights.max())
    told = {"walkers": walkers, "acceptance": path.acceptance, "beta": path.schedule.beta, **problem.report}
    if top == -math.inf:
        status = (f"no walker came into the event, the nearest to C = {path.schedule.nearest:.3g} of "
                  f"{problem.tolerance:.3g}: no result; take more effort or a higher tolerance")
        return Estimate(0.0, 0.0, 0.0, "lower", "global", status,
                        {"error_bits": 0.0, "effective_walkers": 0.0, **told}, level, quantity)  # fmt: skip
    each = (path.log_weights - top).exp().mean(0)
    bits = -(math.log(float(each.mean())) + top) / LN2
    error = float(each.std() / each.mean()) / walkers**0.5 / LN2
    effective = float(each.sum() ** 2 / each.square().sum())
    believed = effective >= min(FEWEST, walkers / 2)
    low, high = limits(bits, error, level)
    return Estimate(
        bits=bits, low=low, high=high if believed else max(high, bits - math.log2(1 - level)),
        bound="two-sided" if believed else "upper", kind="global", level=level, quantity=quantity,
        status="converged" if believed else
        f"{effective:.1f} of {walkers} walkers carry the figure: rather too many bits; take more effort",
        diagnostics={"error_bits": error, "effective_walkers": effective, **told},
    )  # fmt: skip


def _scout(
    problem: Problem, space: Space, plan: Plan, hold: Hold, event_cost: Callable[[State], Tensor],
    generator: torch.Generator,
) -> Schedule:
    """A path with β growing by a fixed factor, step sizes following the acceptance.

    It ends at β = strength in the soft form, unless on another cost; otherwise where enough are in the event.
    """  # fmt: skip
    state, scale = hold(space.state(space.draw(plan.walkers, generator), slopes=True), 1.0)
    finite = state.cost[state.cost.isfinite()]
    spread = float(finite.std(correction=0)) if len(finite) else 0.0
    beta, size, log_betas, sizes = FIRST / (spread or 1.0), LARGEST, [], []
    goal = problem.strength if space.problem is problem else None
    last = goal or beta * LAST
    while True:
        beta = min(beta, last)
        jittered = _jittered(size, plan.walkers, generator)
        state, accept = moves.hmc(space, state, beta, jittered, plan.leapfrogs, generator, scale)
        size = min(LARGEST, size * math.exp(GAIN * (float(accept.mean()) - ACCEPTANCE)))
        log_betas.append(math.log(beta))
        sizes.append(size)
        asked = event_cost(state)
        reached = beta == goal or (goal is None and float((asked <= problem.tolerance).double().mean()) >= ENOUGH)
        if reached or beta == last:
            break
        beta *= GROWTH
    betas, steps = (torch.tensor(values, dtype=torch.float64) for values in (log_betas, sizes))
    return Schedule(beta, betas, steps, reached, float(asked.min()))


def _holding(space: Space, leak: Leak | None) -> Hold:
    """A function of a population and the share of the path behind it: the population with what is known set, and the
    scales `(d,)` of its further moves, 0 for what is held."""
    if leak is None:
        return lambda state, share: (state, 1.0)
    known = space.z(leak.theta)

    def hold(state: State, share: float) -> tuple[State, Tensor]:
        held = leak.held(share)
        z = torch.where(held, known, state.z)
        state = state if torch.equal(z, state.z) else space.state(z, slopes=True)
        return state, (~held).to(z.dtype)

    return hold


def _jittered(size: float, n: int, generator: torch.Generator) -> Tensor:
    """Step sizes `(n,)` about `size`, so that no trajectory resonates."""
    return size * (1 + JITTER * (2 * torch.rand(n, generator=generator, dtype=torch.float64) - 1))
