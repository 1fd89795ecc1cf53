"""Learning coefficient and WBIC: how fast the loss of a tempered posterior falls with the number of questions.

With L the loss per question in nats, nβ = n/log n and E the mean over reference · exp(−nβ L), localised about a start
w* by exp(−γ|w − w*|²/2) where asked,

    λ̂ = nβ (E[L] − L(w*))          (Watanabe 2013; Lau et al. 2023, arXiv 2308.12108),
    WBIC = E[n L], an approximation of −log evidence.

λ̂ is d/2 where the loss is quadratic in all of d directions and less where it is singular. At finite n it is not the
real log canonical threshold that it tends to: 4 w₁²w₂² on [−1, 1]² gives .380 at n = 1000, its threshold is ½.

Chains are Langevin trajectories with Metropolis's correction, so that steps leave no bias; `langevin_bias` is what
steps and localisation do to λ̂ in a quadratic direction without it, and localisation's part is put back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness import curvature, moves
from reuse_sim.specialness.problem import LEVEL, LN2, Problem, limits
from reuse_sim.specialness.reference import DiagonalNormal
from reuse_sim.specialness.space import Space
from reuse_sim.types import Estimate

CHAINS, STEPS, LEAPFROGS, ACCEPT, R_HAT = 64, 300, 6, 0.8, 1.05


@dataclass(frozen=True)
class Coefficient:
    """λ̂ with limits at `level`, `status` as an `Estimate`'s.

    `raw` is λ̂ before what localisation takes from directions that are stiffer than it was put back; `at` is L(w*).
    """

    value: float
    low: float
    high: float
    raw: float
    at: float
    status: str
    level: float = LEVEL


@dataclass(frozen=True)
class Chains:
    """C of each draw `(chains, draws)`, the mean acceptance, the largest R̂ and the standard error of C's mean."""

    cost: Tensor
    accept: float
    r_hat: float
    error: float


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """WBIC in bits, strength C being n L and n the number of questions 2 · tolerance · strength (`Problem`).

    Where the posterior is one normal, few questions make evidence too large, bits too few (Friel et al. 2017); networks
    can err to the other side. Raises InputError for a hard event and for fewer than three questions.
    """
    if problem.strength is None:
        raise InputError("estimate", "the hard event", "a soft problem", "take problem.soft(strength), or method smc")
    n = 2 * problem.tolerance * problem.strength
    if not n >= 3:
        raise InputError("wbic: n = 2 · tolerance · strength", f"{n:.3g}", "at least 3 questions",
                         "WBIC needs log n above 1")
    space = Space(problem)
    curvature.need_smooth(space, "wbic")
    starts = _starts(space, generator)
    if start is not None:
        starts[0] = space.z(start.to(starts.dtype)[None])[0]
    found = sample(space, problem.strength / math.log(n), starts, effort, generator)
    bits, error = (problem.strength * v / LN2 for v in (float(found.cost.mean()), found.error))
    wrong = [_mixing(found)] if found.r_hat > R_HAT else []
    wrong.append(f"WBIC is an approximation with no bound, right only as questions become many (n = {n:.0f}): "
                 "hold it against smc")
    low, high = limits(bits, error, level)
    return Estimate(
        bits=bits, low=low, high=high, bound="none", kind="global", level=level, status="; ".join(wrong),
        diagnostics={"error_bits": error, "r_hat": found.r_hat, "accept": found.accept, "questions": n,
                     **problem.report},
    )


def coefficient(
    problem: Problem, n: int, generator: torch.Generator, start: Tensor, gamma: float = 0.0, effort: float = 1.0,
    level: float = LEVEL,
) -> Coefficient:
    """λ̂ at w* = `start` `(d,)` after n questions, C (times strength/n, where there is one) being the loss per question.

    Args:
        gamma: with 0 the chains see all of the reference. Above, a normal of variance 1/γ about the start takes the
            reference's place, and each direction of curvature h with nβ h > γ is given back γ/(nβ h + γ)/2.
    """
    if n < 3:
        raise InputError("n", n, "at least 3 questions")
    if not (math.isfinite(gamma) and gamma >= 0):
        raise InputError("gamma", gamma, "a finite number, 0 or more")
    one = 1.0 if problem.strength is None else problem.strength / n
    n_beta, start = n / math.log(n), start.double()
    if gamma > 0:
        near = DiagonalNormal(torch.full_like(start, gamma**-0.5), f"normal about the start, gamma {gamma:g}", start)
        problem = replace(problem, reference=near)
    space = Space(problem)
    curvature.need_smooth(space, "coefficient")
    at = one * float(space.state(space.z(start[None])).cost[0])
    if not math.isfinite(at):
        raise InputError("start", f"a loss of {at}", "a start of finite loss")
    found = sample(space, n_beta * one, _starts(space, generator), effort, generator)
    raw, error = n_beta * (one * float(found.cost.mean()) - at), n_beta * one * found.error
    given = 0.0
    if gamma > 0:
        h = one * torch.linalg.eigvalsh(curvature.hessian(problem.cost, start)[1])
        stiff = h[n_beta * h > gamma]
        given = float((0.5 * (1 - langevin_bias(n_beta, gamma, 0.0, stiff))).sum())
    low, high = limits(raw + given, error, level)
    status = _mixing(found) if found.r_hat > R_HAT else "converged"
    if raw < -2 * error:
        status = "the chains found lower losses than the start's: take a start at the bottom"
    return Coefficient(raw + given, low, high, raw, at, status, level)


def langevin_bias(n_beta: float, gamma: float, rate: float, curvature: Tensor | float = 1.0) -> Tensor:
    """By what w' = w − rate/2 · (nβ h + γ) w + √rate ξ multiplies λ̂ = ½ of a direction with L = ½ h w².

    The stationary variance is 1/(a (1 − rate a/4)), a = nβ h + γ, so that λ̂ = ½ · nβ h/a / (1 − rate a/4).
    """
    h = torch.as_tensor(curvature, dtype=torch.float64)
    a = n_beta * h + gamma
    return n_beta * h / a / (1 - rate * a / 4)


def sample(space: Space, beta: float, starts: Tensor, effort: float, generator: torch.Generator) -> Chains:
    """Chains from z `(chains, d)` on reference · exp(−β C): as many steps to warm up as are kept.

    In the first half of the warm-up β rises from a ten thousandth, so that chains that start high come down together
    and not where each happens to be; step sizes adapt to an acceptance of .8 throughout.
    """
    steps = max(20, round(STEPS * effort))
    state, size, costs, accepts = space.state(starts, slopes=True), 0.1 * len(starts[0]) ** -0.25, [], []
    for k in range(2 * steps):
        # Steps spread over a factor of ten: near a singularity one size is never right for all chains.
        jitter = 1.5 * 10 ** -torch.rand(len(starts), generator=generator, dtype=starts.dtype)
        now = beta * 10 ** -max(0.0, 4 * (1 - 2 * k / steps))
        state, accept = moves.hmc(space, state, now, size * jitter, LEAPFROGS, generator)
        if k < steps:  # Robbins and Monro: ever smaller corrections
            size *= math.exp((float(accept.mean()) - ACCEPT) * 3 / (1 + k) ** 0.6)
        else:
            costs.append(state.cost)
            accepts.append(float(accept.mean()))
    cost = torch.stack(costs, 1)
    if float(cost.std()) == 0:
        return Chains(cost, sum(accepts) / len(accepts), 1.0, 0.0)
    effective = float(effective_sample_size(cost[..., None]).clamp(max=cost.numel())[0])
    r_hat = float(split_gelman_rubin(cost[..., None])[0])
    # Chains that disagree are as many observations as there are chains.
    error = max(float(cost.std()) / effective**0.5, float(cost.mean(1).std()) / len(cost) ** 0.5)
    return Chains(cost, sum(accepts) / len(accepts), r_hat, error)


def _starts(space: Space, generator: torch.Generator) -> Tensor:
    """z `(chains, d)`: draws of the reference of finite cost, repeated where there are fewer."""
    drawn = space.draw(16 * CHAINS, generator)
    whole = drawn[space.state(drawn).cost.isfinite()][:CHAINS]
    if len(whole) == 0:
        raise InputError("reference", f"{len(drawn)} draws of infinite cost", "some of finite cost",
                         "take method subset")
    return whole.repeat(-(-CHAINS // len(whole)), 1)[:CHAINS]


def _mixing(found: Chains) -> str:
    return f"chains disagree (R-hat {found.r_hat:.2f} > {R_HAT}): take more effort"
