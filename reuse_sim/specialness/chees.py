"""Posterior by many chains at once, and the bits from their draws: `nuts` with all chains in one batch.

Chains start where draws of the reference descended to; for a hard event, from the annealing that found its strength.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness import hmc, posterior
from reuse_sim.specialness.problem import LEVEL, Problem
from reuse_sim.specialness.space import Space
from reuse_sim.types import Estimate

CHAINS, WARMUP, DRAWS = 64, 150, 150


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """Sample and weigh; the first chain starts at `start` `(d,)` where given.

    `effort` scales warm-up and draws; below 1 chains instead of draws, for of short chains R-hat says nothing.
    """
    if not problem.smooth:
        raise InputError("estimate", "a consistency without a gradient", "one that is smooth", "take method smc")
    chains, warmup, draws = round(CHAINS * min(effort, 1)), round(WARMUP * effort), round(DRAWS * max(effort, 1))
    chains, warmup = max(8, chains), max(50, warmup)
    if problem.hard:
        soft, z = posterior.soften(problem, generator, chains)
    else:
        soft, z = problem, Space(problem).descents(chains, generator)
    space = Space(soft)
    if start is not None:
        z = torch.cat([space.z(start.to(z.dtype)[None]), z[1:]])
    found = hmc.run(space.potential, z, warmup=warmup, draws=draws, generator=generator)
    theta = space.theta(found.z)
    return posterior.weigh(problem, soft, theta, found.divergent, generator, level,
                           acceptance=found.acceptance, step=found.tuning.step, trajectory=found.tuning.length)
