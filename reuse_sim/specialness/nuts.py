"""Posterior by Pyro's No-U-Turn sampler, and the evidence in bits from its draws by bridge sampling.

Chains start from independent draws of the reference that descended on their own, so that agreement
between them says something. Where a network has copies (hidden units in another order), chains end
in different copies: they are compared on functions that all copies share, and their draws are moved
into one cell before a Gaussian is fitted. The figure counts all copies: it is global. A hard event is
reached through a soft posterior that straddles it (`posterior`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyro
import torch
from pydantic import BaseModel, ConfigDict, Field
from pyro.infer import MCMC, NUTS
from torch import Tensor

from reuse_sim.rng import global_state
from reuse_sim.specialness import posterior
from reuse_sim.specialness.problem import LEVEL, Problem
from reuse_sim.specialness.space import Space
from reuse_sim.types import Estimate


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
    plan = Plan()
    plan = plan.model_copy(update={k: max(20, round(effort * getattr(plan, k))) for k in ("warmup", "draws")})
    soft, starts = posterior.soften(problem, generator) if problem.hard else (problem, None)
    if starts is not None and start is None:
        start = Space(soft).theta(starts[: plan.chains])
    return weigh(problem, sample(soft, plan, generator, start), generator, level, soft)


def sample(problem: Problem, plan: Plan, generator: torch.Generator, start: Tensor | None = None) -> Chains:
    """Posterior draws by NUTS with an adapted diagonal metric, in the coordinates z of `Space`.

    The first chains begin at `start` `(d,)` or `(m, d)`, the others where draws of the reference descended to.
    """
    space, first = Space(problem), torch.empty(0, problem.dim)
    if start is not None:
        first = space.z(torch.atleast_2d(start).double())[: plan.chains]
    starts = space.descents(plan.chains, generator) if len(first) < plan.chains else first
    starts = torch.cat([first.to(starts.dtype), starts[len(first) :]])
    evaluations = 0

    def potential(site: Mapping[str, Tensor]) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return -space.log_joint(site["theta"][None])[0]

    draws, divergent = [], 0
    for z in starts:
        # Pyro's checks of arguments cost a tenth of the time; the arguments here are ours.
        with global_state(generator), pyro.validation_enabled(False):
            kernel = NUTS(potential_fn=potential, max_tree_depth=plan.tree_depth)
            chain = MCMC(kernel, num_samples=plan.draws, warmup_steps=plan.warmup,
                         initial_params={"theta": z.clone()}, disable_progbar=True)
            chain.run()
        draws.append(space.theta(chain.get_samples()["theta"]))
        divergent += len(chain.diagnostics()["divergences"]["chain 0"])
    return Chains(torch.stack(draws), divergent, evaluations)


def weigh(
    problem: Problem, chains: Chains, generator: torch.Generator, level: float = LEVEL, soft: Problem | None = None
) -> Estimate:
    """The bits from the draws, which are those of `soft` where `problem` is the hard event."""
    share = chains.divergent / chains.theta[..., 0].numel()
    return posterior.weigh(problem, soft or problem, chains.theta, share, generator, level,
                           evaluations=chains.evaluations)
