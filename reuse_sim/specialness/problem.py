"""What specialness is asked about: a reference measure, a consistency, a tolerance. Without all three it means nothing.

Hard form, the default: S = −log₂ μ{θ : C(θ) ≤ tolerance}.

Soft form, where `strength` is given: every θ counts by exp(−strength C(θ)), so that
S_soft = −log₂ ∫ μ(dθ) exp(−strength C(θ)), the evidence in bits of a Gibbs posterior. With C the mean over n questions
and strength = n / (2 tolerance), answers are allowed normal noise of variance tolerance · var f.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import pyro
import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness.reference import as_reference
from reuse_sim.specialness.symmetry import Symmetry

LN2 = math.log(2)
LEVEL = 0.9
"""Of the intervals of estimates."""
_MISSING: Any = None
"""So that a forgotten argument is answered by an InputError that says what it is for."""


@dataclass(frozen=True)
class Problem:
    """One specialness to be estimated.

    Attributes:
        dim: number of parameters d.
        reference: the measure μ: `standard_normal(d)`, `DiagonalNormal`, `UniformBox`, a torch or Pyro distribution,
            or any object with `sample(n, generator)` and `log_prob(theta)`.
        cost: C, θ `(n, d)` -> `(n,)`, batched; infinity where a θ is out of the question.
        tolerance: the largest C that counts as consistent.
        consistency: C in words: which divergence on which questions; the function's name where absent.
        strength: nats per unit of C in the soft form; None is the hard event.
        smooth: whether C has a gradient worth following. Exact matches and counts have none.
        gradient: θ `(n, d)` -> C `(n,)` and its gradient `(n, d)`, where something faster than autograd is known.
        probe: θ `(n, d)` -> `(n, k)`, functions that all copies share; convergence is judged on them.
            θ itself where there are no copies.
        symmetry: the copies, if any.

    Raises InputError where an argument is missing or cannot be.
    """

    dim: int
    reference: Any = _MISSING
    cost: Callable[[Tensor], Tensor] = _MISSING
    tolerance: float = _MISSING
    consistency: str = ""
    strength: float | None = None
    smooth: bool = True
    gradient: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    probe: Callable[[Tensor], Tensor] = lambda theta: theta
    symmetry: Symmetry | None = None

    def __post_init__(self) -> None:
        whole = isinstance(self.dim, int) and self.dim >= 1
        _need(whole, "dim", self.dim, "a whole number, at least 1")
        object.__setattr__(self, "reference", as_reference(self.reference))
        size = getattr(self.reference, "dim", self.dim)
        _need(size == self.dim, "reference", f"a measure over {size} parameters", f"one over {self.dim}, as dim says")
        _need(callable(self.cost), "cost", repr(self.cost), "a function of θ (n, d) giving (n,)")
        number = isinstance(self.tolerance, (int, float)) and math.isfinite(self.tolerance)
        _need(number, "tolerance", self.tolerance, "a finite number, the largest C that counts as consistent")
        soft = self.strength is None or (math.isfinite(self.strength) and self.strength > 0)
        _need(soft, "strength", self.strength, "a finite number above 0, or None for the hard event")
        if not self.consistency:
            object.__setattr__(self, "consistency", getattr(self.cost, "__name__", "cost"))
        theta = self.reference.sample(3, torch.Generator().manual_seed(0))
        _need(theta.shape == (3, self.dim), "reference", f"draws {tuple(theta.shape)}", f"(n, {self.dim})")
        checked(self.cost, theta)

    @staticmethod
    def for_human(world: Any, theta_teacher: Tensor, net: Any, x: Tensor, **options: Any) -> Problem:
        """Humans of architecture `net` consistent with one teacher: `reuse_sim.specialness.human.problem`."""
        from reuse_sim.specialness import human

        return human.problem(world, theta_teacher, net, x, **options)

    @staticmethod
    def from_pyro(
        model: Callable[..., Any], *args: Any, consistency: str | None = None, tolerance: float | None = None
    ) -> Problem:
        """A Pyro model's prior and a deterministic site, or its evidence: `reuse_sim.specialness.from_pyro.problem`."""
        from reuse_sim.specialness import from_pyro

        return from_pyro.problem(model, *args, consistency=consistency, tolerance=tolerance)

    @property
    def hard(self) -> bool:
        """Whether the event C ≤ tolerance is asked about, not its soft form."""
        return self.strength is None

    @property
    def symmetry_bits(self) -> float:
        """log₂ of the number of copies of one network; 0 where there are none."""
        return self.symmetry.log2_copies if self.symmetry else 0.0

    @property
    def report(self) -> dict[str, Any]:
        """What must stand beside every figure."""
        form = "hard" if self.hard else f"soft, {self.strength:g} nats per unit of C"
        return {"reference": getattr(self.reference, "name", type(self.reference).__name__),
                "consistency": self.consistency, "tolerance": self.tolerance, "form": form,
                "parameters": self.dim, "symmetry_bits": self.symmetry_bits}

    def soft(self, strength: float) -> Problem:
        """The same in the soft form."""
        return replace(self, strength=strength)

    def model(self) -> None:
        """The Pyro model of the soft form: site `theta` from the reference, factor `consistency`."""
        theta = pyro.sample("theta", self.reference.distribution())
        pyro.factor("consistency", self.log_likelihood(theta))

    def log_likelihood(self, theta: Tensor) -> Tensor:
        """−strength C in nats for θ `(…, d)`: `(…,)`. Raises InputError on a hard problem."""
        if self.strength is None:
            raise InputError("Problem", "the hard event", "a soft problem here", "Take problem.soft(strength).")
        return -self.strength * self.cost(theta.reshape(-1, self.dim)).reshape(theta.shape[:-1])

    def log_joint(self, theta: Tensor) -> Tensor:
        """Log of reference density times exp(−strength C) for θ `(…, d)`: `(…,)`."""
        return self.reference.log_prob(theta) + self.log_likelihood(theta)

    def cost_bits(self, consistency: float) -> float:
        """strength C/ln 2: what a θ of this C costs; the bits it gives back are S less this."""
        return (self.strength or 0.0) * consistency / LN2

    def descents(self, count: int, generator: torch.Generator, steps: int = 300, rate: float = 0.05) -> Tensor:
        """`count` draws of the reference, each brought down on −log joint: independent starts θ `(count, d)`."""
        from reuse_sim.specialness.space import Space

        space = Space(self)
        return space.theta(space.descents(count, generator, steps, rate))


def checked(cost: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
    """C of θ `(n, d)`, `(n,)`. Raises InputError where the cost gives another shape or NaN."""
    value = cost(theta)
    got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    _need(got == (len(theta),), "cost", f"{got} for {len(theta)} θ", "one number per θ, (n, d) -> (n,)")
    bad = int(value.isnan().sum())
    _need(bad == 0, "cost", f"NaN for {bad} of {len(theta)} θ", "numbers, or infinity where a θ is out of the question")
    return value


def limits(bits: float, error: float, level: float = LEVEL) -> tuple[float, float]:
    """The limits of an estimate with a normal standard error."""
    half = NormalDist().inv_cdf((1 + level) / 2) * error
    return bits - half, bits + half


def _need(holds: bool, name: str, got: object, expected: str) -> None:
    if not holds:
        raise InputError(f"Problem.{name}", got, expected, "a specialness needs all its arguments")
