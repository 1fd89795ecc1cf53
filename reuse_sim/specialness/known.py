"""Coordinates of θ that are known: what is left to ask about the others, and when a descent comes to know them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness.problem import Problem
from reuse_sim.specialness.reference import DiagonalNormal, Reference, UniformBox

EARLY = 0.1
"""The share of a descent within which an early leak is over, where nothing else is said."""


@dataclass(frozen=True)
class Leak:
    """Known values θ `(d,)`, or `(n, d)` where each of n walkers is told its own; the share `(d,)` of a descent after
    which each coordinate is known and held, infinity for never."""

    theta: Tensor
    when: Tensor

    def held(self, share: float) -> Tensor:
        """Which coordinates `(d,)` are held when that share of the descent is over."""
        return self.when <= share + 1e-9


def early(theta: Tensor, known: Tensor, within: float = EARLY) -> Leak:
    """The coordinates `known` `(d,)` are told one after another within that share of a descent."""
    place = torch.cumsum(known.double(), 0) / known.sum().clamp(min=1)
    return Leak(theta, torch.where(known, within * place, torch.inf))


def given(problem: Problem, theta: Tensor, known: Tensor) -> Problem:
    """The same about the other coordinates, where those that are `known` `(d,)` have the values of θ `(d,)`.

    Its specialness is −log₂ Pr[C ≤ τ | known coordinates]. Copies of a network are no longer copies, so it has no
    symmetry. Raises InputError where all are known, and for a reference that is not independent in its coordinates.
    """
    rest = ~known
    dim, reference = int(rest.sum()), problem.reference
    if dim == 0:
        raise InputError("given: known", "all coordinates", "some left to ask about", "C of that θ says all")
    name = f"{getattr(reference, 'name', 'reference')}, given {problem.dim - dim} of {problem.dim} coordinates"
    left: Reference
    if isinstance(reference, DiagonalNormal):
        mean = torch.as_tensor(reference.mean, dtype=reference.sd.dtype).expand(problem.dim)
        left = DiagonalNormal(reference.sd[rest], name, mean[rest])
    elif isinstance(reference, UniformBox):
        left = UniformBox(reference.low[rest], reference.high[rest], name)
    else:
        raise InputError("given: reference", type(reference).__name__, "DiagonalNormal or UniformBox",
                         "of others the conditional law is not known")  # fmt: skip

    def whole(part: Tensor) -> Tensor:
        full = theta.to(part.dtype).expand(len(part), -1).clone()
        full[:, rest] = part
        return full

    def gradient(part: Tensor) -> tuple[Tensor, Tensor]:
        assert problem.gradient is not None
        cost, slope = problem.gradient(whole(part))
        return cost, slope[:, rest]

    return replace(
        problem, dim=dim, reference=left, symmetry=None, gradient=problem.gradient and gradient,
        cost=lambda part: problem.cost(whole(part)), probe=lambda part: problem.probe(whole(part)),
    )  # fmt: skip
