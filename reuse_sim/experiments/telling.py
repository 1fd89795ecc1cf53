"""How a human is told to whoever has a teacher: by fresh humans of it, by its own parameters, or not at all.

Answers are compared on named questions, and mean squares are shares of var f there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from reuse_sim.experiments.balls import aligner, answers, ball
from reuse_sim.joint import fresh
from reuse_sim.ledger.shortest import shortest
from reuse_sim.nets import Mlp
from reuse_sim.types import World

Told = Literal["none", "outright", "nearest", "corrected", "other", "random"]
"""`nearest`: the fresh human that answers most like this one; `other`: the same of another teacher's fresh humans."""
LEAST = 1e-6
"""The least distance that a message of θ2 outright is asked to keep."""


class Speech:
    """How people are told, on questions x `(n, d)` where squares are shares of `variance`; `name` is of streams."""

    def __init__(self, world: World, net: Mlp, x: Tensor, variance: float, correction: float, name: str) -> None:
        self.world, self.net, self.x, self.variance, self.correction = world, net, x, variance, correction
        self.align, self.name = aligner(net), name

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
        return float(shortest(theta.double(), sd, self._ball(theta), max(tolerance, LEAST), self.name).bits)

    def _corrected(self, theta: Tensor, pool: Tensor, index: int) -> fresh.Correction:
        return fresh.correct(self.net, theta.double(), pool[index].double(), index, self.align,
                             partial(shortest, name=f"{self.name}/{index}"), self._ball(theta), self.correction)

    def _ball(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """How far networks are from what one, `(p,)`, says."""
        return ball(self.world, self.net, self.x, self._said(theta[None])[0], self.variance, self.correction, "").cost
