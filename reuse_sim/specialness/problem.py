"""What specialness is asked about: a reference measure, a consistency, a tolerance. Without all three it means nothing.

Soft form: the fraction exp(−nβC(θ)) of each θ counts, with C the mean over n questions and
β = 1 / (2 tolerance), as if answers carried normal noise of variance tolerance · var f. Then
S_soft = −log₂ ∫ μ(dθ) exp(−nβC(θ)), the evidence in bits of a Gibbs posterior.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import pyro
import torch
from pyro.distributions import Normal
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.specialness import symmetry
from reuse_sim.specialness.symmetry import Symmetry
from reuse_sim.stats import LEVEL
from reuse_sim.train import descend
from reuse_sim.types import World

LN2 = math.log(2)
_MISSING: Any = None
"""So that a forgotten argument is answered by an InputError that says what it is for."""


@dataclass(frozen=True)
class DiagonalNormal:
    """The reference measure N(0, diag(sd²)), `sd` `(d,)`; `name` says what it is in the report."""

    sd: Tensor
    name: str

    def distribution(self) -> Any:
        """As a Pyro distribution over one θ `(d,)`."""
        return Normal(torch.zeros_like(self.sd), self.sd).to_event(1)

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log density in nats of θ `(…, d)`: `(…,)`."""
        return -((theta / self.sd) ** 2 + math.log(2 * math.pi)).sum(-1) / 2 - self.sd.log().sum()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws `(n, d)`."""
        return torch.randn(n, len(self.sd), generator=generator, dtype=self.sd.dtype) * self.sd


@dataclass(frozen=True)
class Problem:
    """One specialness to be estimated.

    Attributes:
        dim: number of parameters d.
        reference: the measure μ.
        cost: C, θ `(n, d)` -> `(n,)`, batched and differentiable, at least 0.
        tolerance: noise variance as a share of var f.
        consistency: C in words: which divergence on which questions.
        questions: n, the number of questions C is the mean over.
        probe: θ `(n, d)` -> `(n, k)`, functions that all copies share; convergence is judged on them.
            θ itself where there are no copies.
        symmetry: the copies, if any.

    Raises InputError where reference, consistency or tolerance is missing or cannot be.
    """

    dim: int
    reference: DiagonalNormal = _MISSING
    cost: Callable[[Tensor], Tensor] = _MISSING
    tolerance: float = _MISSING
    consistency: str = _MISSING
    questions: int = _MISSING
    probe: Callable[[Tensor], Tensor] = lambda theta: theta
    symmetry: Symmetry | None = None

    def __post_init__(self) -> None:
        _need(getattr(self.reference, "name", None), "reference", "a named reference measure, such as DiagonalNormal")
        _need(len(self.reference.sd) == self.dim, "reference", f"a measure over {self.dim} parameters")
        _need(callable(self.cost), "cost", "a function of θ (n, d) giving (n,)")
        _need(self.consistency, "consistency", "the divergence and its questions in words")
        number = isinstance(self.tolerance, (int, float)) and math.isfinite(self.tolerance)
        _need(number and self.tolerance > 0, "tolerance", "a finite number above 0, a share of var f")
        _need(isinstance(self.questions, int) and self.questions > 0, "questions", "how many questions C averages over")
        two = self.cost(torch.stack([torch.zeros_like(self.reference.sd), self.reference.sd]))
        _need(two.shape == (2,) and two.isfinite().all(), "cost", "one finite number per θ, (n, d) -> (n,)")

    @staticmethod
    def for_human(
        world: World, net: Mlp, theta_teacher: Tensor, x: Tensor, held: Tensor, *, tolerance: float, questions: str
    ) -> Problem:
        """How special are the humans of architecture `net` that are consistent with one teacher?

        Args:
            theta_teacher: θ1 `(p1,)`.
            x: the questions `(n, d)` on which consistency is measured.
            held: other questions `(m, d)`; the answers to them are the functions convergence is judged on.
            questions: what x is, in words.

        C(θ) is the mean of (H_θ − f)² / var f over x, var f the variance of f over x; reference is the
        initialisation prior. Computed in float64.
        """
        theta_1, x, held = theta_teacher.double(), x.double(), held.double()
        f = world.answer(theta_1[None], x[None])[0]
        variance = f.var(correction=0)

        def cost(theta: Tensor) -> Tensor:
            # One θ, as samplers ask for it, without its leading dimension: plain products, half the time.
            answers = world.human_answer(net, theta[0] if len(theta) == 1 else theta, x)
            return (answers - f).square().mean(-1).reshape(len(theta)) / variance

        return Problem(
            dim=net.p,
            reference=DiagonalNormal(net.prior_sd(torch.float64), f"initialisation prior of a {_words(net)} human"),
            cost=cost,
            tolerance=tolerance,
            consistency=f"mean of (H - f)²/var f over {questions}",
            questions=len(x),
            probe=lambda theta: world.human_answer(net, theta, held),
            symmetry=symmetry.of_net(net),
        )

    @property
    def strength(self) -> float:
        """nβ: what one unit of C costs, in nats."""
        return self.questions / (2 * self.tolerance)

    @property
    def symmetry_bits(self) -> float:
        """log₂ of the number of copies of one network; 0 where there are none."""
        return self.symmetry.log2_copies if self.symmetry else 0.0

    @property
    def report(self) -> dict[str, Any]:
        """What must stand beside every figure."""
        return {"reference": self.reference.name, "consistency": self.consistency, "tolerance": self.tolerance,
                "questions": self.questions, "parameters": self.dim, "symmetry_bits": self.symmetry_bits}

    def model(self) -> None:
        """The Pyro model: site `theta` from the reference, factor `consistency`."""
        theta = pyro.sample("theta", self.reference.distribution())
        pyro.factor("consistency", self.log_likelihood(theta))

    def log_likelihood(self, theta: Tensor) -> Tensor:
        """−nβC in nats for θ `(…, d)`: `(…,)`."""
        return -self.strength * self.cost(theta.reshape(-1, self.dim)).reshape(theta.shape[:-1])

    def log_joint(self, theta: Tensor) -> Tensor:
        """Log of reference density times exp(−nβC) for θ `(…, d)`: `(…,)`."""
        return self.reference.log_prob(theta) + self.log_likelihood(theta)

    def cost_bits(self, consistency: float) -> float:
        """nβC/ln 2: what a θ of this C costs; the bits it gives back are S less this."""
        return self.strength * consistency / LN2

    def descents(self, count: int, generator: torch.Generator, steps: int = 300, rate: float = 0.05) -> Tensor:
        """`count` draws of the reference, each brought down on −log joint: independent starts `(count, d)`."""
        sd = self.reference.sd
        start = self.reference.sample(count, generator) / sd
        return descend(lambda z, _: -self.log_joint(z * sd), start, steps=steps, rate=rate).theta * sd


def limits(bits: float, error: float) -> tuple[float, float]:
    """The 95 % limits of an estimate with a normal standard error."""
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * error
    return bits - half, bits + half


def _need(given: Any, name: str, expected: str) -> None:
    if not given:
        raise InputError(f"Problem.{name}", "none that can be used", expected, "a specialness needs all its arguments")


def _words(net: Mlp) -> str:
    return f"{'linear' if len(net.sizes) == 2 else net.activation} {'-'.join(map(str, net.sizes))}"
