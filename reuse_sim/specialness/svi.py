"""Evidence from below by stochastic variational inference: a guide is fitted, then weighed as an importance sampler.

The evidence lower bound is an upper bound of the bits. Importance weights of the fitted guide correct it; their
Pareto k̂ tells whether the correction is to be believed (Yao et al. 2018).

A hard event C ≤ τ is fitted at the strength at which the guide's mean of C is τ, the multiplier of that constraint,
and weighed as it is: P(C ≤ τ) = E_q[1(C ≤ τ) μ/q]. The guide is a proposal there; what it was fitted to drops out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from pyro.ops.stats import fit_generalized_pareto
from scipy.stats import chi2
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness import guides
from reuse_sim.specialness.guides import Family, Guide
from reuse_sim.specialness.problem import LEVEL, LN2, Problem, limits
from reuse_sim.specialness.space import Space
from reuse_sim.train import descend
from reuse_sim.types import Estimate

K_HAT, DRIFT_BITS, EFFECTIVE = 0.7, 0.5, 50.0
"""Beyond these, below the last, a figure is not called converged."""
ENOUGH = 50
"""Draws that a cell must hold to be weighed alone."""
WIDE, SHARE = 1.25, 0.1
"""Of the draws weighed, a share comes from the guide with its noise so many times as wide, for heavier tails."""
STARTS, DIP = 8, 3.0
RATE, LAST = 0.05, 0.01
"""Adam's rate, and the share of it that is left at the end."""


class Plan(BaseModel):
    """Which guide, and how much is spent: Adam `steps` of `particles` draws each, then `draws` importance weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    guide: Family = "full_rank"
    steps: int = Field(default=2000, ge=100, le=1_000_000)
    particles: int = Field(default=16, ge=2, le=4096)
    draws: int = Field(default=20_000, ge=100, le=1_000_000)


@dataclass(frozen=True)
class Fitted:
    """A guide over z, fitted to reference · exp(−strength C).

    `mean` `(d,)` and `factor` `(d, d)`, the Cholesky factor of the covariance, are moments of its draws; `elbo_bits`
    each step's loss: the negative ELBO, less strength · τ where the event is hard. `ends` `(s, d)` are the ends of
    descents from the reference.
    """

    guide: Guide
    strength: float
    mean: Tensor
    factor: Tensor
    elbo_bits: Tensor
    ends: Tensor


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL,
    guide: Family = "full_rank",
) -> Estimate:
    """Fit and weigh; `effort` scales steps and draws, the guide starts at `start` `(d,)` where that is lower."""
    plan = Plan(guide=guide)
    plan = plan.model_copy(update={k: max(100, round(effort * getattr(plan, k))) for k in ("steps", "draws")})
    return weigh(problem, fit(problem, plan, generator, start), plan, generator, level)


def fit(problem: Problem, plan: Plan, generator: torch.Generator, start: Tensor | None = None) -> Fitted:
    """Adam on the ELBO, its rate falling from .05 to .0005, from the lowest of eight descents (and of `start`).

    For a hard event log strength follows (mean C − τ)/sd C at the same rate. Raises InputError where C has no gradient
    or the reference no map from the standard normal.
    """
    space = Space(problem)
    if not space.normal:
        raise InputError("estimate", "a reference without a map from the normal", "one with from_normal and to_normal",
                         "take DiagonalNormal or UniformBox, or method smc")
    if not problem.smooth:
        raise InputError("estimate", "a C without a gradient", "a smooth problem", "take method smc")
    z = space.draw(STARTS, generator)
    if start is not None:
        z = torch.cat([z, space.z(start.to(z.dtype))[None]])
    ends, strength = _descents(space, z)
    guide = guides.start(plan.guide, ends[_log_joint(space, ends, strength).argmax()], 0.1, generator)
    optimiser = torch.optim.Adam(guide.groups(RATE))
    decay = torch.optim.lr_scheduler.ExponentialLR(optimiser, LAST ** (1 / plan.steps))
    target, losses = problem.tolerance if problem.hard else 0.0, []
    for step in range(plan.steps):
        noise = torch.randn(plan.particles, problem.dim, generator=generator, dtype=z.dtype)
        z, log_det = guide.push(noise)
        at = space.state(z, slopes=True)
        finite = at.cost.isfinite()  # draws where C is infinite count for what they are under the reference
        cost = at.cost[finite]
        assert at.cost_slope is not None
        slope = (z + strength * at.cost_slope).detach().nan_to_num(0.0, 0.0, 0.0)
        optimiser.zero_grad()
        ((slope * z).sum(-1) - log_det).mean().backward()
        optimiser.step()
        decay.step()
        if len(cost) == 0:
            cost = at.cost.new_full((1,), target)
        divergence = -at.base - noise.square().sum(-1) / 2 - log_det.detach()
        losses.append(float(divergence.mean() + strength * (cost.mean() - target)))
        if problem.hard and step > plan.steps // 10:  # not before the guide has found its width
            sd = float(cost.std(correction=0).clamp(min=1e-300))
            newton = (float(cost.mean()) - target) / sd / max(1.0, strength * sd)
            strength *= math.exp(RATE * LAST ** (step / plan.steps) * max(-1.0, min(1.0, newton)))
    guide = guide.detach()
    sample = guide.push(torch.randn(1000 + 20 * problem.dim, problem.dim, generator=generator, dtype=z.dtype))[0]
    factor = torch.linalg.cholesky(torch.cov(sample.T).reshape(problem.dim, problem.dim))
    if problem.hard:
        ends, _ = _descents(space, ends, strength)
    return Fitted(guide, strength, sample.mean(0), factor, torch.tensor(losses) / LN2, ends)


def weigh(
    problem: Problem, fitted: Fitted, plan: Plan, generator: torch.Generator, level: float = LEVEL
) -> Estimate:
    """Bits by importance sampling from the guide, with the bound from the ELBO beside them.

    Only draws inside count: inside the event, and inside the cell around the guide's mean, times the number of copies:
    one guide can then stand for all of them. With p the joint (the reference, for a hard event), q the guide and G
    copies, the evidence is G E_q[1_inside p/q], and −log₂ of it is at most
    −log₂ G − log₂ q(inside) − E_q[log₂ p/q | inside], whatever q is.
    """
    space, wide = Space(problem), round(SHARE * plan.draws)
    noise = torch.randn(plan.draws, problem.dim, generator=generator, dtype=fitted.mean.dtype)
    noise[:wide] *= WIDE
    z, log_det = fitted.guide.push(noise)
    state = space.state(z)
    strength = problem.strength or 0.0
    inside = state.cost <= problem.tolerance if problem.hard else state.cost < torch.inf
    square, d = noise.square().sum(-1), problem.dim
    log_narrow = -square / 2 - log_det  # as `base`, without (2π)^(−d/2)
    log_wide = -square / 2 / WIDE**2 - log_det - d * math.log(WIDE)
    log_q = torch.logaddexp(log_narrow + math.log(1 - wide / plan.draws), log_wide + math.log(wide / plan.draws))
    log_p = state.base - torch.where(inside, strength * state.cost, 0.0)
    copies_bits = 0.0
    if problem.symmetry:
        near = inside & problem.symmetry.inside(z, fitted.mean)
        if near.sum() >= ENOUGH:  # a guide spread over many cells is weighed as it is: one cell, no copies
            inside, copies_bits = near, problem.symmetry_bits
    log_w = torch.where(inside, log_p - log_q, -torch.inf)
    within, elbo = log_w[inside], (log_p - log_narrow)[wide:][inside[wide:]]
    if len(elbo) < 10:
        return _nothing(problem, fitted, level, len(elbo))
    share = len(elbo) / (plan.draws - wide)
    bound = -(float(elbo.mean()) + math.log(share)) / LN2 - copies_bits
    bound_error = math.sqrt(float(elbo.var()) / len(elbo) + (1 - share) / share / (plan.draws - wide)) / LN2
    weights = (log_w - within.max()).exp()
    bits = -float(weights.mean().log() + within.max()) / LN2 - copies_bits
    error = float(weights.std() / weights.mean()) / plan.draws**0.5 / LN2
    effective = float(weights.sum() ** 2 / weights.square().sum())

    k, drift, elsewhere = pareto_k(within, plan.draws), _drift(fitted.elbo_bits), _elsewhere(problem, fitted)
    doubts = [f"Pareto k-hat {k:.2f} > {K_HAT}"] * (k > K_HAT)
    doubts += [f"{elsewhere} of {len(fitted.ends)} descents ended outside of it"] * (elsewhere > 0)
    doubts += [f"only {effective:.0f} effective draws"] * (effective < EFFECTIVE)
    plain, plain_error = _plain(problem, plan.draws, generator)
    excess, noise_of = plain - 2**-bits, math.hypot(plain_error, 2**-bits * error * LN2)
    doubts += [f"draws of the reference alone give {-math.log2(max(plain, 1e-300)):.1f} bits"] * (excess > 4 * noise_of)
    believed = not doubts
    instead = "smc" if problem.hard else "nuts"
    wrong = [] if believed else [
        f"the guide is not the posterior ({', '.join(doubts)}): an upper bound only; try {instead}"]
    if drift > DRIFT_BITS:
        wrong.append(f"the ELBO still moved by {drift:.1f} bits over the last tenth: take more steps")
    low, high = limits(bits, error, level)
    if not believed:
        low, high = min(0.0, bits), max(bits, limits(bound, bound_error, level)[1])
    return Estimate(
        bits=bits, low=low, high=high, bound="two-sided" if believed else "upper", kind="global", level=level,
        status="; ".join(wrong) or "converged",
        diagnostics={"pareto_k": k, "elbo_bits": bound, "elbo_drift_bits": drift, "error_bits": error,
                     "descents_elsewhere": elsewhere, "inside_share": share, "ess": effective,
                     "strength": fitted.strength, **problem.report},
    )


def pareto_k(log_weights: Tensor, draws: int) -> float:
    """Tail index of importance weights, as in Pyro's `psis_diagnostic`; 0 where they are all equal.

    Weights of zero do not appear in `log_weights` but count among `draws`.
    """
    ordered = (log_weights - log_weights.max()).sort().values
    if float(-ordered[0]) < 1e-6:
        return 0.0
    tail = math.ceil(min(0.2 * draws, 3 * draws**0.5))
    cutoff = max(math.log(1e-15), float(ordered[-min(tail + 1, len(ordered))]))
    excess = ordered[ordered > cutoff].exp() - math.exp(cutoff)
    if len(excess) < 10:
        return math.inf
    return float(fit_generalized_pareto(excess)[0])


def _drift(elbo_bits: Tensor) -> float:
    """By how much the last tenth of the steps differs from the tenth before, less three standard errors."""
    tenth = len(elbo_bits) // 10
    last, before = elbo_bits[-tenth:], elbo_bits[-2 * tenth : -tenth]
    error = float((last.var() / tenth + before.var() / tenth).sqrt())
    return max(0.0, abs(float(last.mean() - before.mean())) - 3 * error)


def _descents(space: Space, z: Tensor, strength: float | None = None) -> tuple[Tensor, float]:
    """Each z `(n, d)` brought down on |z|²/2 + strength C, and the strength.

    For a hard event whose strength is not known yet each comes down on C while it is above the tolerance, and else on
    |z|². The ends are the points of the event nearest to 0; the strength is what balances both there, in the median,
    z + strength ∇C = 0, and at least one nat per sd of C.
    """
    problem = space.problem
    strength = strength if strength is not None else problem.strength

    def slope(at: Tensor) -> Tensor:
        state = space.state(at, slopes=True)
        assert state.cost_slope is not None
        if strength is not None:
            return at + strength * state.cost_slope
        outside = (state.cost > problem.tolerance).unsqueeze(-1)
        return torch.nn.functional.normalize(torch.where(outside, state.cost_slope, at), dim=-1)

    ends = descend(lambda at, _: (slope(at.detach()) * at).sum(-1), z, steps=500, rate=2 * RATE).theta
    if strength is not None:
        return ends, strength
    cost, down = space.state(z).cost, space.state(ends, slopes=True).cost_slope
    least = 1 / float(cost[cost.isfinite()].std().nan_to_num(1.0).clamp(min=1e-12))
    assert down is not None
    balance = -(ends * down).sum(-1) / down.square().sum(-1).clamp(min=1e-300)
    return ends, max(least, float(balance.nan_to_num(0.0, 0.0, 0.0).median()))


def _log_joint(space: Space, z: Tensor, strength: float) -> Tensor:
    """−|z|²/2 − strength C of z `(n, d)`: `(n,)`."""
    state = space.state(z)
    return state.base - strength * state.cost


def _elsewhere(problem: Problem, fitted: Fitted) -> int:
    """How many descents ended outside of the guide though about as low: what one normal leaves out.

    Outside: beyond the guide's 99.9 % ellipsoid, copies moved next to its mean, and past a dip of `DIP` nats on the
    straight way there. As low: within d nats of the lowest, for a narrow basin may lie lower than a wide one that
    holds more.
    """
    space, mean, ends = Space(problem), fitted.mean, fitted.ends
    if problem.symmetry:
        ends = problem.symmetry.align(ends, mean)
    away = torch.linalg.solve_triangular(fitted.factor, (ends - mean).T, upper=False).square().sum(0)
    share = torch.linspace(0, 1, 33, dtype=mean.dtype)[:, None, None]
    way = _log_joint(space, (mean + share * (ends - mean)).flatten(0, 1), fitted.strength).reshape(33, -1)
    apart = way.amin(0) < torch.minimum(way[0], way[-1]) - DIP
    as_low = way[-1] > way[-1].max() - problem.dim
    return int((apart & as_low & (away > chi2.ppf(0.999, problem.dim))).sum())


def _plain(problem: Problem, draws: int, generator: torch.Generator) -> tuple[float, float]:
    """The evidence as a mean over draws of the reference, and its standard error: it sees all humps of a wide event."""
    cost = Space(problem).state(Space(problem).draw(draws, generator)).cost
    weights = (cost <= problem.tolerance).double() if problem.hard else (-(problem.strength or 0.0) * cost).exp()
    return float(weights.mean()), float(weights.std()) / draws**0.5


def _nothing(problem: Problem, fitted: Fitted, level: float, hits: int) -> Estimate:
    """What is said where (almost) no draw of the guide lies inside: a figure to go by, no bound."""
    tenth = len(fitted.elbo_bits) // 10
    bits = max(0.0, float(fitted.elbo_bits[-tenth:].mean().nan_to_num(0.0)))
    return Estimate(
        bits=bits, low=0.0, high=bits, bound="none", kind="global", level=level,
        status=f"only {hits} draws of the guide lie inside: neither bound holds; raise effort or tolerance, or try smc",
        diagnostics={"inside_share": 0.0, "error_bits": bits, "strength": fitted.strength, **problem.report},
    )
