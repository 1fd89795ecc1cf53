"""Reference measures μ over θ: what "a fraction of all humans" is a fraction of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.rng import global_state

ROOT2 = math.sqrt(2)


@runtime_checkable
class Reference(Protocol):
    """A proper probability measure over θ `(d,)`. Any object with these two methods will do.

    One that also has `from_normal(z)` and `to_normal(theta)`, a smooth one-to-one map of standard normal z to θ,
    lets samplers work where the measure is N(0, I): the first two below do. `pulled(slope, z)`, a gradient in θ as one
    in z, saves them asking autograd for it, a quarter of their time for small networks. One that instead has
    `propose(theta, size, generator)`, as likely to go from θ to θ' as back, is walked on by that.
    """

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws `(n, d)`."""
        ...

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log density in nats of θ `(…, d)`, `(…,)`; −inf outside of the support."""
        ...


@dataclass(frozen=True)
class DiagonalNormal:
    """N(mean, diag(sd²)), `sd` `(d,)`, `mean` `(d,)` or 0; `name` says what it is in reports."""

    sd: Tensor
    name: str = "normal"
    mean: Tensor | float = 0.0

    @property
    def dim(self) -> int:
        return len(self.sd)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws `(n, d)`."""
        return self.from_normal(torch.randn(n, self.dim, generator=generator, dtype=self.sd.dtype))

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log density in nats of θ `(…, d)`: `(…,)`."""
        return -(self.to_normal(theta) ** 2 + math.log(2 * math.pi)).sum(-1) / 2 - self.sd.log().sum()

    def from_normal(self, z: Tensor) -> Tensor:
        """θ = mean + sd z."""
        return self.mean + self.sd * z

    def to_normal(self, theta: Tensor) -> Tensor:
        """z = (θ − mean) / sd."""
        return (theta - self.mean) / self.sd

    def pulled(self, slope: Tensor, z: Tensor) -> Tensor:
        """∇_z `(…, d)` of what has gradient `slope` `(…, d)` in θ, at z `(…, d)`: sd · slope."""
        return slope * self.sd

    def distribution(self) -> Any:
        """As a Pyro distribution over one θ `(d,)`."""
        from pyro.distributions import Normal

        return Normal(self.mean + torch.zeros_like(self.sd), self.sd).to_event(1)


def standard_normal(dim: int) -> DiagonalNormal:
    """N(0, I) in `dim` dimensions, float64. Raises InputError unless dim is at least 1."""
    if not (isinstance(dim, int) and dim >= 1):
        raise InputError("standard_normal: dim", dim, "a whole number, at least 1")
    return DiagonalNormal(torch.ones(dim, dtype=torch.float64), "standard normal")


@dataclass(frozen=True)
class UniformBox:
    """Uniform on the box from `low` `(d,)` to `high` `(d,)`."""

    low: Tensor
    high: Tensor
    name: str = "uniform on a box"

    def __post_init__(self) -> None:
        if not bool((self.high > self.low).all()):
            raise InputError("UniformBox", f"low {self.low.tolist()}, high {self.high.tolist()}", "low < high")

    @property
    def dim(self) -> int:
        return len(self.low)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws `(n, d)`."""
        unit = torch.rand(n, self.dim, generator=generator, dtype=self.low.dtype)
        return self.low + (self.high - self.low) * unit

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log density in nats of θ `(…, d)`: `(…,)`."""
        inside = ((theta >= self.low) & (theta <= self.high)).all(-1)
        return torch.where(inside, -(self.high - self.low).log().sum(), -torch.inf)

    def from_normal(self, z: Tensor) -> Tensor:
        """θ = low + (high − low) Φ(z)."""
        return self.low + (self.high - self.low) * torch.special.ndtr(z)

    def to_normal(self, theta: Tensor) -> Tensor:
        """z = Φ⁻¹((θ − low) / (high − low))."""
        return torch.special.ndtri((theta - self.low) / (self.high - self.low))


@dataclass(frozen=True)
class CountingMeasure:
    """Every θ in {0, 1}^m alike: answers to m yes-or-no questions, counted without regard to who would give them."""

    dim: int
    name: str = "counting measure on answers"

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws `(n, m)`, as 0. and 1. in float64."""
        return torch.randint(2, (n, self.dim), generator=generator).double()

    def log_prob(self, theta: Tensor) -> Tensor:
        """−m ln 2 for θ `(…, m)` of zeros and ones, −inf elsewhere: `(…,)`."""
        inside = ((theta == 0) | (theta == 1)).all(-1)
        return torch.where(inside, -self.dim * math.log(2), -torch.inf).double()

    def propose(self, theta: Tensor, size: Tensor | float, generator: torch.Generator) -> Tensor:
        """θ `(n, m)` with each bit turned with probability size/2, at least one of them: `size` ≤ 1 `(n, 1)` or one.

        Which bits are turned does not depend on θ, so that the way back is as likely.
        """
        turned = torch.rand(theta.shape, generator=generator, dtype=theta.dtype) < size / 2
        one = torch.randint(self.dim, (len(theta), 1), generator=generator)
        turned |= ~turned.any(-1, keepdim=True) & (torch.arange(self.dim) == one)
        return torch.where(turned, 1 - theta, theta)


@dataclass(frozen=True)
class OfDistribution:
    """A `torch.distributions` or Pyro distribution over θ `(d,)` as a reference; its draws use `generator` only."""

    distribution: Any

    @property
    def name(self) -> str:
        return type(self.distribution).__name__

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws `(n, d)`."""
        with global_state(generator):
            return self.distribution.sample((n,))

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log density in nats of θ `(…, d)`: `(…,)`."""
        density = self.distribution.log_prob(theta)
        return density if density.ndim < theta.ndim else density.sum(-1)


def as_reference(given: Any) -> Reference:
    """`given`, or `given` as a reference where it is a distribution. Raises InputError where it can be neither."""
    if isinstance(given, torch.distributions.Distribution):
        return OfDistribution(given)
    if isinstance(given, Reference):
        return given
    raise InputError("Problem.reference", repr(given), "standard_normal(d), DiagonalNormal, UniformBox, a distribution "
                     "or any object with sample(n, generator) and log_prob(theta)",
                     "a specialness needs all its arguments")
