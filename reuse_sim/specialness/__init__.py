"""Specialness: −log₂ of the fraction of a reference measure that is as consistent with a teacher as a tolerance allows.

    problem = Problem(dim=d, reference=standard_normal(d), cost=fn, tolerance=eps)
    estimate(problem, generator=g).bits
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from reuse_sim.errors import InputError, nearest
from reuse_sim.specialness import laplace, learning, nuts, prior, smc, subset, svi, volume
from reuse_sim.specialness.problem import LEVEL, Problem, checked
from reuse_sim.specialness.reference import CountingMeasure, DiagonalNormal, Reference, UniformBox, standard_normal
from reuse_sim.types import Estimate

Method = Callable[[Problem, float, torch.Generator, Tensor | None, float], Estimate]
"""`method(problem, effort, generator, start, level)`."""

METHODS: Mapping[str, Method] = {
    "smc": smc.estimate,
    "svi": svi.estimate,
    "nuts": nuts.estimate,
    "laplace": laplace.estimate,
    "laplace_diagonal": laplace.estimate_diagonal,
    "volume": volume.estimate,
    "prior": prior.estimate,
    "subset": subset.estimate,
    "wbic": learning.estimate,
}


def estimate(
    problem: Problem,
    method: str | Method = "smc",
    effort: float = 1.0,
    *,
    generator: torch.Generator,
    start: Tensor | None = None,
    level: float = LEVEL,
) -> Estimate:
    """The specialness of `problem` in bits by one of `METHODS`, or by a function of the same form.

    Args:
        effort: scales steps and draws; 2 costs about twice as much. Twice the effort is the check of convergence.
        start: a θ `(d,)` that the method may start from, such as a trained human.
        level: of the interval from `low` to `high`.

    Raises InputError for a method that does not exist, an effort that is not above 0, a level outside of (0, 1), a
    start that is no θ of this problem, and a cost that is not one number per θ.
    """
    if isinstance(method, str) and method not in METHODS:
        raise InputError("method", repr(method), f"one of {', '.join(METHODS)}", nearest(method, METHODS))
    if not 0 < effort <= 1000:
        raise InputError("effort", effort, "a number above 0, up to 1000")
    if not 0 < level < 1:
        raise InputError("level", level, "a number between 0 and 1")
    if start is not None and (start.shape != (problem.dim,) or not bool(start.isfinite().all())):
        raise InputError("start", f"shape {tuple(start.shape)}", f"({problem.dim},), finite", "one θ, not a stack")
    run = METHODS[method] if isinstance(method, str) else method
    count, began = 0, time.process_time()

    def counted(theta: Tensor) -> Tensor:
        nonlocal count
        count += len(theta)
        return checked(problem.cost, theta)

    def with_gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal count
        count += len(theta)
        assert problem.gradient is not None
        return problem.gradient(theta)

    asked = replace(problem, cost=counted, gradient=problem.gradient and with_gradient)
    found = run(asked, effort, generator, start, level)
    return replace(found, evaluations=count, seconds=time.process_time() - began)


__all__ = ["METHODS", "CountingMeasure", "DiagonalNormal", "Estimate", "Method", "Problem", "Reference", "UniformBox",
           "estimate", "standard_normal"]
