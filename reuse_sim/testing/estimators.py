"""The contract of an estimator of specialness."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import torch

from reuse_sim.rng import stream
from reuse_sim.specialness import Method, exact
from reuse_sim.specialness.problem import LEVEL, Problem
from reuse_sim.testing.tools import SEED, claim, generators
from reuse_sim.types import Estimate
from reuse_sim.worlds import linear_gaussian

SIGMAS = 4.0
"""How many of its own standard errors an estimate may lie from the exact value."""


def check_estimator(estimate: Method, effort: float = 1.0) -> None:
    """An estimate of a specialness with a closed form: within its own error, repeatable, with its three arguments.

    The human is linear in three inputs and has no copies, its reference normal, n = 12 questions.

    Args:
        effort: handed to the estimator; take little where that suffices.
    """
    world: Any = linear_gaussian.build(d=3, active=2)
    net = world.human_net(1)
    (teacher,) = world.teacher(generators()[:1])
    (x,) = world.on_distribution(teacher[None], 12, generators("x")[:1])
    problem = Problem.for_human(
        world, teacher, net, x, tolerance=0.2, soft=True, questions="12 on-distribution questions"
    )
    sd = problem.reference.sd
    truth = exact.linear_gaussian(x.double(), world.answer(teacher[None], x[None])[0].double(), sd, 0.2).bits

    start = 0.5 * sd
    before, random_state = start.clone(), torch.get_rng_state()
    found = estimate(problem, effort, stream(SEED, "estimate"), start, LEVEL)
    once, again = (estimate(problem, effort / 10, stream(SEED, "estimate"), start, LEVEL) for _ in range(2))
    claim(isinstance(found, Estimate), f"estimate returned {type(found).__name__}, not an Estimate")
    claim(torch.equal(start, before), "estimate changed the start it was given")
    claim(torch.equal(random_state, torch.get_rng_state()), "estimate moved the global random state")
    claim((once.bits, once.low, once.high) == (again.bits, again.low, again.high), "equal generators, other bits")
    claim(found.low <= found.bits <= found.high, f"bits {found.bits} outside of {found.low} to {found.high}")
    claim(found.bound in ("two-sided", "lower", "upper", "none"), f"bound is '{found.bound}'")
    claim(found.kind in ("global", "local"), f"kind is '{found.kind}'")
    lacking = [k for k in ("reference", "consistency", "tolerance") if found.diagnostics.get(k) is None]
    claim(not lacking, f"diagnostics lack {', '.join(lacking)}: a specialness means nothing without")
    if found.status != "converged":
        claim(" " in found.status, f"status '{found.status}' is no sentence that tells what to change")
        return
    # Limits are so many standard errors either side. A hundredth of a bit for what they leave out.
    wide = SIGMAS / NormalDist().inv_cdf((1 + found.level) / 2)
    lowest = found.bits - wide * (found.bits - found.low) - 0.01
    highest = found.bits + wide * (found.high - found.bits) + 0.01
    above, below = found.bound in ("two-sided", "upper"), found.bound in ("two-sided", "lower")
    said = f"{found.bits:.3f} bits, {found.low:.3f} to {found.high:.3f}, bound {found.bound}; exact: {truth:.3f}"
    claim(not (above and truth > highest) and not (below and truth < lowest), f"converged, yet {said}")
