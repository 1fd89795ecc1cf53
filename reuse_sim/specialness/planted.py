"""Planted humans: θ* drawn from the reference, answers simulated from it, so that θ* is an exact draw of the posterior.

The two-sided certificate of `annealed` for problems of that size. With v fixed beforehand, over n questions:

- soft: y = H_θ*(x) + e, e normal of variance τ v. The density of y given θ is ∝ exp(−n C(θ)/(2τ)) with
  C = mean (H_θ − y)²/v, so θ* given y has density μ · exp(−strength C).
- hard: e uniform in the ball mean e²/v ≤ τ. The density of y given θ is one constant where C(θ) ≤ τ and 0 elsewhere, so
  θ* given y is μ restricted to the event.

In general a hard event has an exact draw where errors are uniform over all that the tolerance allows. Without errors θ*
sits in the middle of its own event, C = 0, and is no draw of it: a pass back from there proves nothing.

v, the unit of the tolerance, must not be computed from y: how much answers vary depends on θ*.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp, first_output
from reuse_sim.specialness import symmetry
from reuse_sim.specialness.annealed import FromExact
from reuse_sim.specialness.human import squared_gradient, words
from reuse_sim.specialness.problem import Problem
from reuse_sim.specialness.reference import DiagonalNormal, Reference


class Planted(NamedTuple):
    """A problem and θ* `(d,)`, an exact draw of its answer."""

    problem: Problem
    start: Tensor

    @property
    def method(self) -> FromExact:
        """Both ways from it: `specialness.estimate(planted.problem, planted.method, generator=g)`."""
        return FromExact(self.start)


def planted_human(
    net: Mlp,
    x: Tensor,
    *,
    tolerance: float,
    generator: torch.Generator,
    soft: bool = False,
    variance: float | None = None,
    reference: Reference | None = None,
) -> Planted:
    """A planted human of architecture `net` who answers x `(n, d)` by its first output, with errors up to `tolerance`.

    Args:
        tolerance: τ, in units of `variance`.
        soft: normal errors and the soft form; otherwise errors uniform in a ball and the hard event.
        variance: v; the mean over humans of the reference of the variance of their answers to x where absent.
        reference: the initialisation prior where absent.

    Raises InputError where answers do not vary and no variance is given, or the tolerance is not above 0.
    """
    x, n = x.double(), len(x)
    if not tolerance > 0:
        raise InputError("planted_human: tolerance", tolerance, "a number above 0")
    mu = reference or DiagonalNormal(net.prior_sd(torch.float64), f"initialisation prior of a {words(net)} human")
    if variance is None:
        variance = float(first_output(net, mu.sample(256, generator).double(), x).var(-1, correction=0).mean())
    if not variance > 0:
        raise InputError("planted_human: variance", variance, "a number above 0", "give one, or other questions")
    (star,) = mu.sample(1, generator)
    noise = torch.randn(n, generator=generator, dtype=torch.float64) * math.sqrt(tolerance * variance)
    if not soft:  # direction of a normal, radius of a ball in n dimensions
        radius = torch.rand(1, generator=generator, dtype=torch.float64) ** (1 / n)
        noise = noise / noise.norm() * radius * math.sqrt(n * tolerance * variance)
    y = first_output(net, star, x) + noise

    def squared(theta: Tensor) -> Tensor:
        return (first_output(net, theta, x).reshape(len(theta), n) - y).square().mean(-1) / variance

    problem = Problem(
        dim=net.p, reference=mu, cost=squared, tolerance=tolerance,
        consistency=f"mean of (H - y)²/{variance:.3g} over {n} questions, y of a planted {words(net)} human",
        strength=n / (2 * tolerance) if soft else None,
        gradient=squared_gradient(first_output, net, x, y, variance),
        probe=lambda theta: first_output(net, theta, x), symmetry=symmetry.of_net(net),
    )  # fmt: skip
    return Planted(problem, star)
