"""Three figures that a descent offers for nothing and that are no specialness, kept so that it can be seen why not.

- *Share*: −log₂ of the share of iterates within the tolerance. A descent steers; whatever is asked, at most log₂ of the
  number of iterates.
- *Cosine*: a step that follows the gradient with cosine c is one that a random direction betters with probability
  ½ I_{1−c²}((d − 1)/2, ½); −log₂ of it, summed over the steps. Twice the steps for the same way, twice the bits.
- *Gaussian*: KL divergence of a normal about the later iterates from the reference, coordinate by coordinate in z. A
  descent that has come to rest is as narrow as one likes.

Each reads the iterates of plain descents on C; in the soft form, too, the tolerance says what is consistent.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy import special
from torch import Tensor

from reuse_sim.specialness import plain_descent
from reuse_sim.specialness.plain_descent import Iterates
from reuse_sim.specialness.problem import LEVEL, LN2, Problem, limits
from reuse_sim.types import Estimate

LATE = 0.5
"""The share of the iterates that come before those of the Gaussian."""
SMALL = 1e-9
AT_ONCE = 50
"""Iterates whose C is computed together."""


def share(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """−log₂ of the share of iterates that are consistent."""
    return _estimate(problem, effort, generator, level, share_bits, "the share of consistent iterates")


def cosine(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """How unlikely it is that random steps had followed the gradient as well."""
    return _estimate(problem, effort, generator, level, cosine_bits, "how unlikely random steps are to follow C down")


def gaussian(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """KL divergence of a normal about the later iterates from the reference."""
    return _estimate(problem, effort, generator, level, gaussian_bits, "the width of a normal about the iterates")


def share_bits(problem: Problem, path: Iterates) -> Tensor:
    """Bits `(K,)` of each descent; one iterate is counted as consistent where none is."""
    theta = path.theta
    cost = torch.cat([problem.cost(some.flatten(0, 1)).unflatten(0, some.shape[:2]) for some in theta.split(AT_ONCE)])
    return -(cost <= problem.tolerance).double().mean(0).clamp(min=1 / len(theta)).log2()


def cosine_bits(problem: Problem, path: Iterates) -> Tensor:
    """Bits `(K,)` of each descent, over the steps that moved; a coordinate that is held has no step."""
    step, down = path.z.diff(dim=0), -path.slope[:-1]
    c = ((step * down).sum(-1) / (step.norm(dim=-1) * down.norm(dim=-1)).clamp(min=1e-300)).clamp(-1, 1 - SMALL)
    tail = torch.from_numpy(special.betainc((problem.dim - 1) / 2, 0.5, (1 - c.square()).numpy())) / 2
    better = torch.where(c > 0, tail, 1 - tail).clamp(min=1e-300)
    return torch.where(step.norm(dim=-1) > 0, -better.log2(), 0.0).sum(0)


def gaussian_bits(problem: Problem, path: Iterates) -> Tensor:
    """Bits `(K,)` of each descent: ½ Σ (σ² + m² − 1 − ln σ²) / ln 2 over the later iterates' mean and variance."""
    late = path.z[int(LATE * len(path.z)) :]
    mean, variance = late.mean(0), late.var(0).clamp(min=SMALL**2)
    return (variance + mean.square() - 1 - variance.log()).sum(-1) / 2 / LN2


def _estimate(
    problem: Problem, effort: float, generator: torch.Generator, level: float,
    bits_of: Callable[[Problem, Iterates], Tensor], what: str,
) -> Estimate:
    path = plain_descent.iterates(problem, generator, steps=max(50, round(effort * 400)))
    each = bits_of(problem, path)
    bits, error = float(each.mean()), float(each.std()) / math.sqrt(len(each))
    low, high = limits(bits, error, level)
    return Estimate(
        bits=bits, low=low, high=high, bound="none", kind="local", level=level, quantity=what,
        status=f"no definition of specialness, but {what}: take path_work or smc",
        diagnostics={"error_bits": error, "iterates": len(path.z), **problem.report},
    )  # fmt: skip
