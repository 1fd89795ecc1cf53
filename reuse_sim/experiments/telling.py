"""How a human is told to whoever has a teacher: by fresh humans of it, by its own parameters, or not at all.

Answers are compared on named questions, and mean squares are shares of var f there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from reuse_sim.experiments import teacher_codes
from reuse_sim.experiments.balls import aligner, answers, ball
from reuse_sim.joint import fresh
from reuse_sim.ledger import quantised
from reuse_sim.nets import Mlp
from reuse_sim.types import World

Told = Literal["none", "outright", "nearest", "corrected", "other", "random"]
"""`nearest`: the fresh human that answers most like this one; `other`: the same of another teacher's fresh humans."""
FAMILY = 256
"""Teachers that say how the free coordinates of one are spread, for its code."""
LEAST = 1e-6
"""The least distance that a message of θ2 outright is asked to keep."""


class Speech:
    """How people are told, on questions x `(n, d)` where squares are shares of `variance`."""

    def __init__(self, world: World, net: Mlp, x: Tensor, variance: float, correction: float) -> None:
        self.world, self.net, self.x, self.variance, self.correction = world, net, x, variance, correction
        self.align = aligner(net)

    def place(self, told: Told, everyone: Tensor, pool: Tensor, g: torch.Generator) -> tuple[Tensor, float]:
        """Those of `everyone` `(K, p)` as they are told by a pool `(N, p)`, and the bits of the first of them."""
        if told == "none":
            return torch.zeros_like(everyone), 0.0
        if told == "random":
            return pool[torch.randint(len(pool), (len(everyone),), generator=g)], 0.0
        index = self.nearest(everyone, pool)
        if told == "outright":
            return everyone, self._bits(everyone[0], self.distance(pool[index[:1]], everyone[:1]))
        if told == "corrected":
            said = [self._corrected(theta, pool, int(i)) for theta, i in zip(everyone, index, strict=True)]
            return torch.stack([c.theta for c in said]).to(everyone.dtype), float(said[0].bits)
        return pool[index], math.log2(len(pool))

    def nearest(self, everyone: Tensor, pool: Tensor) -> Tensor:
        """Which of a pool `(N, p)` answers most like each of `(K, p)`: `(K,)`."""
        return torch.cdist(self._said(everyone), self._said(pool)).argmin(-1)

    def distance(self, theta: Tensor, other: Tensor) -> float:
        """Mean square between the answers of one and another `(1, p)`, as share of the variance."""
        return float((self._said(theta) - self._said(other)).square().mean() / self.variance)

    def _said(self, theta: Tensor) -> Tensor:
        return answers(self.world, self.net, theta.double(), self.x)

    def _bits(self, theta: Tensor, tolerance: float) -> float:
        sd = self.net.prior_sd(torch.float64)
        return float(quantised.shortest(theta.double(), sd, self._ball(theta), max(tolerance, LEAST)).bits)

    def _corrected(self, theta: Tensor, pool: Tensor, index: int) -> fresh.Correction:
        return fresh.correct(self.net, theta.double(), pool[index].double(), index, self.align, quantised.shortest,
                             self._ball(theta), self.correction)  # fmt: skip

    def _ball(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """How far networks are from what one, `(p,)`, says."""
        return ball(self.world, self.net, self.x, self._said(theta[None])[0], self.variance, self.correction, "").cost


def decoded_teacher(world: World, theta_1: Tensor, x: Tensor, tolerance: float) -> tuple[Tensor, int]:
    """f `(1, p1)` as decoded from its shortest message within a mean square of tolerance · var f on x, and its bits."""
    chart = teacher_codes.chart(world)
    mean, sd = teacher_codes.spread(world, FAMILY)
    f = world.answer(theta_1.double(), x[None])

    def distortion(free: Tensor) -> Tensor:
        said = world.answer(chart.theta(mean + free), x.expand(len(free), *x.shape))
        return (said - f).square().mean(-1) / f.var(correction=0)

    code = quantised.shortest(chart.free(theta_1)[0] - mean, sd, distortion, tolerance)
    return chart.theta(mean + code.theta)[None].to(theta_1.dtype), code.bits
