"""Posterior by Pyro's No-U-Turn sampler, and the evidence in bits from its draws by bridge sampling.

Chains start from independent draws of the reference that descended on their own, so that agreement
between them says something. Where a network has copies (hidden units in another order), chains end
in different copies: they are compared on functions that all copies share, and their draws are moved
into one cell before a Gaussian is fitted. The figure counts all copies: it is global.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pyro
import torch
from pydantic import BaseModel, ConfigDict, Field
from pyro.infer import MCMC, NUTS
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.rng import global_state
from reuse_sim.specialness import bridge
from reuse_sim.specialness.problem import LEVEL, Problem, limits
from reuse_sim.types import Estimate

R_HAT, ESS, ERROR_BITS = 1.05, 100.0, 1.0
"""Beyond these a figure is not called converged."""


class Plan(BaseModel):
    """How much is sampled: `chains` one after another, each of `warmup` and then `draws` trajectories."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    chains: int = Field(default=4, ge=2, le=64)
    warmup: int = Field(default=200, ge=20, le=100_000)
    draws: int = Field(default=250, ge=20, le=100_000)
    tree_depth: int = Field(default=7, ge=1, le=12, description="a trajectory has at most 2^tree_depth - 1 steps")


@dataclass(frozen=True)
class Chains:
    """Draws θ `(chains, draws, d)`, divergent transitions, gradients taken."""

    theta: Tensor
    divergent: int
    evaluations: int


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """Sample and weigh; `effort` scales warm-up and draws, the first chain starts at `start` `(d,)` where given."""
    if problem.hard:
        raise InputError("estimate", "the hard event", "a soft problem", "take problem.soft(strength), or method smc")
    plan = Plan()
    plan = plan.model_copy(update={k: max(20, round(effort * getattr(plan, k))) for k in ("warmup", "draws")})
    return weigh(problem, sample(problem, plan, generator, start), generator, level)


def sample(problem: Problem, plan: Plan, generator: torch.Generator, start: Tensor | None = None) -> Chains:
    """Posterior draws by NUTS with an adapted diagonal metric, in coordinates z = θ / sd of the reference."""
    sd = problem.reference.sd
    starts = problem.descents(plan.chains, generator)
    if start is not None:
        starts[0] = start.to(starts.dtype)
    evaluations = 0

    def potential(site: Mapping[str, Tensor]) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        z = site["theta"]
        return z @ z / 2 - problem.log_likelihood(z * sd)  # minus the log joint, up to a constant

    draws, divergent = [], 0
    for z in starts / sd:
        # Pyro's checks of arguments cost a tenth of the time; the arguments here are ours.
        with global_state(generator), pyro.validation_enabled(False):
            kernel = NUTS(potential_fn=potential, max_tree_depth=plan.tree_depth)
            chain = MCMC(kernel, num_samples=plan.draws, warmup_steps=plan.warmup,
                         initial_params={"theta": z.clone()}, disable_progbar=True)
            chain.run()
        draws.append(chain.get_samples()["theta"] * sd)
        divergent += len(chain.diagnostics()["divergences"]["chain 0"])
    return Chains(torch.stack(draws), divergent, evaluations)


def weigh(problem: Problem, chains: Chains, generator: torch.Generator, level: float = LEVEL) -> Estimate:
    """The evidence in bits from the draws, its interval, and whether the chains agree."""
    evidence = bridge.bits(problem, chains.theta, generator)
    agreement, effective = mixing(problem, chains.theta)
    low, high = limits(evidence.bits, evidence.error, level)
    share = chains.divergent / chains.theta[..., 0].numel()
    return Estimate(
        bits=evidence.bits, low=low, high=high, bound="two-sided", kind="global", level=level,
        status=_status(agreement, effective, share, evidence.error),
        diagnostics={"rhat_max": agreement, "ess_min": effective, "divergent_share": share,
                     "error_bits": evidence.error, "inside_share": evidence.inside,
                     "evaluations": chains.evaluations, **problem.report},
    )


def mixing(problem: Problem, theta: Tensor) -> tuple[float, float]:
    """Largest split R-hat and smallest effective number of draws of the problem's probes and of C.

    θ `(chains, draws, d)`. A function that one chain never moves gives infinity and 0.
    """
    flat = theta.flatten(0, 1)
    functions = torch.cat([problem.probe(flat), problem.cost(flat).unsqueeze(-1)], -1).unflatten(0, theta.shape[:2])
    agreement = split_gelman_rubin(functions).nan_to_num(math.inf)
    effective = effective_sample_size(functions).nan_to_num(0.0)
    return float(agreement.max()), float(effective.min())


def _status(agreement: float, effective: float, divergent: float, error: float) -> str:
    wrong = []
    if agreement > R_HAT:
        wrong.append(f"chains disagree (R-hat {agreement:.2f} > {R_HAT}): take more warm-up, or a higher tolerance")
    if effective < ESS:
        wrong.append(f"only {effective:.0f} effective draws (< {ESS:.0f}): take more draws")
    if divergent > 0.01:
        wrong.append(f"{divergent:.0%} of transitions diverged: take more warm-up")
    if not error <= ERROR_BITS:  # not a number, where the Gaussian never met the cell
        wrong.append(f"the bridge's standard error is {error:.1f} bits (> {ERROR_BITS:.0f}): take more draws")
    return "; ".join(wrong) or "converged"
