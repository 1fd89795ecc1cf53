"""Evidence from below by Pyro's stochastic variational inference with a full-rank normal guide.

The evidence lower bound is an upper bound of the bits. Importance weights of the fitted guide
correct it; their Pareto k̂ tells whether the correction is to be believed (Yao et al. 2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pyro
import torch
from pydantic import BaseModel, ConfigDict, Field
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal, init_to_value
from pyro.infer.reparam import LocScaleReparam
from pyro.ops.stats import fit_generalized_pareto
from pyro.optim import ClippedAdam
from pyro.poutine import reparam
from scipy.stats import chi2
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.rng import global_state
from reuse_sim.specialness.problem import LEVEL, LN2, Problem, limits
from reuse_sim.types import Estimate

K_HAT, DRIFT_BITS = 0.7, 0.5
"""Beyond these a figure is not called converged."""
ENOUGH = 50
"""Draws that a cell must hold to be weighed alone."""


class Plan(BaseModel):
    """How much is spent: Adam `steps` of `particles` draws of the guide each, then `draws` importance weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    steps: int = Field(default=1000, ge=100, le=1_000_000)
    particles: int = Field(default=16, ge=2, le=4096)
    draws: int = Field(default=4000, ge=100, le=1_000_000)


@dataclass(frozen=True)
class Guide:
    """The fitted normal: mean `(d,)`, Cholesky factor of the covariance `(d, d)`, each step's ELBO in bits.

    `starts` `(s, d)` are the ends of descents from the reference, of which the lowest was the start.
    """

    mean: Tensor
    factor: Tensor
    elbo_bits: Tensor
    starts: Tensor


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """Fit and weigh; `effort` scales steps and draws, the guide starts at `start` `(d,)` where that is lower."""
    if problem.hard:
        raise InputError("estimate", "the hard event", "a soft problem", "take problem.soft(strength), or method smc")
    plan = Plan()
    plan = plan.model_copy(update={k: max(100, round(effort * getattr(plan, k))) for k in ("steps", "draws")})
    return weigh(problem, fit(problem, plan, generator, start), plan, generator, level)


def fit(problem: Problem, plan: Plan, generator: torch.Generator, start: Tensor | None = None) -> Guide:
    """SVI with Adam, its rate falling from .05 to .0005, from the lowest of eight descents (and of `start`)."""
    sd, starts = problem.reference.sd, problem.descents(8, generator)
    if start is not None:
        starts = torch.cat([starts, start.to(starts.dtype)[None]])
    lowest = starts[problem.log_joint(starts).argmax()]
    # Whitened, z = θ / sd, so that one learning rate suits every parameter.
    model = reparam(problem.model, config={"theta": LocScaleReparam(0.0)})
    with global_state(generator), pyro.get_param_store().scope():
        at = init_to_value(values={"theta": lowest})
        guide = AutoMultivariateNormal(model, init_loc_fn=at, init_scale=0.1)
        optimiser = ClippedAdam({"lr": 0.05, "lrd": 0.01 ** (1 / plan.steps), "clip_norm": 100.0})
        loss = Trace_ELBO(num_particles=plan.particles, vectorize_particles=True, max_plate_nesting=0)
        svi = SVI(model, guide, optimiser, loss)
        losses = [svi.step() for _ in range(plan.steps)]
        normal = guide.get_posterior()
    mean, factor = sd * normal.loc.detach(), sd[:, None] * normal.scale_tril.detach()
    return Guide(mean, factor, torch.tensor(losses) / LN2, starts)


def weigh(
    problem: Problem, guide: Guide, plan: Plan, generator: torch.Generator, level: float = LEVEL
) -> Estimate:
    """Bits by importance sampling from the guide, with the bound from the ELBO beside them.

    Only weights inside the cell around the guide's mean count, times the number of copies: one Gaussian
    can then stand for all of them. With p the joint, q the guide and G copies, the evidence is
    G E_q[1_cell p/q], and −log₂ of it is at most −log₂ G − log₂ q(cell) − E_q[log₂ p/q | cell].
    """
    sd = problem.reference.sd
    normal = torch.distributions.MultivariateNormal(guide.mean, scale_tril=guide.factor)
    noise = torch.randn(plan.draws, problem.dim, generator=generator, dtype=sd.dtype)
    theta = guide.mean + noise @ guide.factor.T
    log_w = problem.log_joint(theta) - normal.log_prob(theta)
    inside, copies_bits = torch.ones(plan.draws, dtype=torch.bool), 0.0
    if problem.symmetry:
        near = problem.symmetry.inside(theta / sd, guide.mean / sd)
        if near.sum() >= ENOUGH:  # a guide spread over many cells is weighed as it is: one cell, no copies
            inside, copies_bits = near, problem.symmetry_bits
    share = float(inside.double().mean())
    within = log_w[inside]
    bound = -(float(within.mean()) + math.log(share)) / LN2 - copies_bits
    weights = torch.where(inside, (log_w - within.max()).exp(), 0.0)
    bits = -float(weights.mean().log() + within.max()) / LN2 - copies_bits
    error = float(weights.std() / weights.mean()) / plan.draws**0.5 / LN2
    bound_error = float(within.std()) / len(within) ** 0.5 / LN2

    k, drift, elsewhere = pareto_k(within, plan.draws), _drift(guide.elbo_bits), _elsewhere(problem, guide)
    doubts = [f"Pareto k-hat {k:.2f} > {K_HAT}"] * (k > K_HAT)
    doubts += [f"{elsewhere} of {len(guide.starts)} descents ended outside of it"] * (elsewhere > 0)
    believed = not doubts
    wrong = [] if believed else [f"the guide is not the posterior ({', '.join(doubts)}): an upper bound only; try nuts"]
    if drift > DRIFT_BITS:
        wrong.append(f"the ELBO still moved by {drift:.1f} bits over the last tenth: take more steps")
    low, high = limits(bits, error, level)
    if not believed:
        low, high = min(0.0, bits), max(bits, limits(bound, bound_error, level)[1])
    return Estimate(
        bits=bits, low=low, high=high, bound="two-sided" if believed else "upper", kind="global", level=level,
        status="; ".join(wrong) or "converged",
        diagnostics={"pareto_k": k, "elbo_bits": bound, "elbo_drift_bits": drift, "error_bits": error,
                     "descents_elsewhere": elsewhere, "inside_share": share,
                     "evaluations": len(guide.elbo_bits) * plan.particles + plan.draws,
                     **problem.report},
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


def _elsewhere(problem: Problem, guide: Guide) -> int:
    """How many descents ended outside of the guide though about as low: what one normal leaves out.

    Outside: beyond the guide's 99.9 % ellipsoid, copies moved next to its mean. As low: within d nats of the lowest,
    for a narrow basin may lie lower than a wide one that holds more.
    """
    sd, ends = problem.reference.sd, guide.starts
    if problem.symmetry:
        ends = problem.symmetry.align(ends / sd, guide.mean / sd) * sd
    away = torch.linalg.solve_triangular(guide.factor, (ends - guide.mean).T, upper=False).square().sum(0)
    height = problem.log_joint(ends)
    outside = away > chi2.ppf(0.999, problem.dim)
    return int((outside & (height > height.max() - problem.dim)).sum())
