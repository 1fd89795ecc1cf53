"""The coordinates samplers move in: standard normal z where the reference has a map from it, otherwise θ itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness.problem import Problem, checked
from reuse_sim.train import descend


@dataclass(frozen=True)
class State:
    """A population: z `(n, d)`, log reference density of z up to a constant `(n,)`, C `(n,)`, and their gradients.

    Gradients `(n, d)` are None where they were not asked for.
    """

    z: Tensor
    base: Tensor
    cost: Tensor
    base_slope: Tensor | None = None
    cost_slope: Tensor | None = None

    def where(self, chosen: Tensor, other: State) -> State:
        """`other` where `chosen` `(n,)`, else self."""
        def pick(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            if a is None or b is None:
                return None
            return torch.where(chosen.unsqueeze(-1) if a.ndim == 2 else chosen, b, a)

        return State(*(pick(getattr(self, k), getattr(other, k)) for k in self.__dataclass_fields__))  # type: ignore[arg-type]

    def take(self, index: Tensor) -> State:
        """The members `index` `(m,)`."""
        parts = (getattr(self, k) for k in self.__dataclass_fields__)
        return State(*(None if t is None else t[index] for t in parts))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Space:
    """One problem in its sampler's coordinates.

    Without a map from the normal, base and its gradient are the reference's own log density at z = θ.
    """

    problem: Problem

    @property
    def normal(self) -> bool:
        """Whether z is standard normal under the reference."""
        return hasattr(self.problem.reference, "from_normal")

    def theta(self, z: Tensor) -> Tensor:
        """θ of z `(n, d)`."""
        return self.problem.reference.from_normal(z) if self.normal else z

    def z(self, theta: Tensor) -> Tensor:
        """z of θ `(n, d)`."""
        return self.problem.reference.to_normal(theta) if self.normal else theta

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """z `(n, d)` of n draws of the reference."""
        return self.z(self.problem.reference.sample(n, generator))

    def state(self, z: Tensor, slopes: bool = False) -> State:
        """The population at z, with gradients where `slopes`. Raises InputError where the cost is NaN or misshapen."""
        z = z.detach()
        base = -z.square().sum(-1) / 2 if self.normal else self.problem.reference.log_prob(z)
        if not slopes:
            with torch.no_grad():
                return State(z, base, checked(self.problem.cost, self.theta(z)))
        with torch.enable_grad():
            cost, slope = self._cost(z)
            if self.normal:
                base_slope = -z
            else:
                leaf = z.clone().requires_grad_(True)
                (base_slope,) = torch.autograd.grad(self.problem.reference.log_prob(leaf).sum(), leaf)
        return State(z, base, cost, base_slope, slope)

    def _cost(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """C `(n,)` at z `(n, d)` and its gradient `(n, d)` there. Raises InputError where it has none."""
        if self.problem.gradient is not None:
            cost, upper = self.problem.gradient(self.theta(z))
            return cost.detach(), self._pulled(upper, z)
        leaf = z.clone().requires_grad_(True)
        cost = checked(self.problem.cost, self.theta(leaf))
        if not cost.requires_grad:
            raise InputError("Problem.cost", "a cost without a gradient", "one that autograd can follow",
                             "say smooth=False, and take method subset or smc")
        return cost.detach(), torch.autograd.grad(cost.sum(), leaf)[0]

    def _pulled(self, slope: Tensor, z: Tensor) -> Tensor:
        """A gradient in θ `(n, d)` as one in z `(n, d)`."""
        if hasattr(self.problem.reference, "pulled"):
            return self.problem.reference.pulled(slope, z)  # type: ignore[attr-defined]
        leaf = z.clone().requires_grad_(True)
        return torch.autograd.grad(self.theta(leaf), leaf, slope)[0]

    def log_joint(self, z: Tensor) -> Tensor:
        """Log of the reference's density of z times exp(−strength C), z `(n, d)`: `(n,)`; for autograd, unchecked.

        Raises InputError on a hard problem.
        """
        normal = math.log(2 * math.pi) * self.problem.dim
        base = -(z.square().sum(-1) + normal) / 2 if self.normal else self.problem.reference.log_prob(z)
        return base + self.problem.log_likelihood(self.theta(z))

    def combined(self, at: State) -> tuple[Tensor, Tensor]:
        """−log joint up to a constant `(n,)` and its gradient `(n, d)` of a population with slopes; soft problems."""
        beta = self.problem.strength
        assert at.base_slope is not None and at.cost_slope is not None and beta is not None
        return beta * at.cost - at.base, beta * at.cost_slope - at.base_slope

    def potential(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The same at z `(n, d)`."""
        return self.combined(self.state(z, slopes=True))

    def descents(self, count: int, generator: torch.Generator, steps: int = 300, rate: float = 0.05) -> Tensor:
        """`count` draws of the reference, each brought down on −log joint: independent starts z `(count, d)`."""
        return descend(lambda z, _: -self.log_joint(z), self.draw(count, generator), steps=steps, rate=rate).theta
