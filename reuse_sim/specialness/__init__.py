"""Specialness: −log₂ of the fraction of a reference measure that is as consistent with a teacher as a tolerance allows.

    problem = Problem(dim=d, reference=..., cost=..., tolerance=..., consistency="...", questions=n)
    estimate(problem, method="nuts", generator=g).bits
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from reuse_sim.errors import InputError, nearest
from reuse_sim.specialness import nuts, svi
from reuse_sim.specialness.problem import DiagonalNormal, Problem
from reuse_sim.types import Estimate

METHODS: Mapping[str, Callable[[Problem, float, torch.Generator, Tensor | None], Estimate]] = {
    "svi": svi.estimate,
    "nuts": nuts.estimate,
}


def estimate(
    problem: Problem,
    method: str = "nuts",
    effort: float = 1.0,
    *,
    generator: torch.Generator,
    start: Tensor | None = None,
) -> Estimate:
    """The specialness of `problem` in bits by one of `METHODS`.

    Args:
        effort: scales steps and draws; 2 costs about twice as much.
        start: a θ `(d,)` that the method may start from, such as a trained human.

    Raises InputError for a method that does not exist or an effort that is not above 0.
    """
    if method not in METHODS:
        raise InputError("method", repr(method), f"one of {', '.join(METHODS)}", nearest(method, METHODS))
    if not 0 < effort <= 1000:
        raise InputError("effort", effort, "a number above 0, up to 1000")
    return METHODS[method](problem, effort, generator, start)


__all__ = ["METHODS", "DiagonalNormal", "Estimate", "Problem", "estimate"]
