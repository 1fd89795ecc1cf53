"""Humans brought up by elders: a small network that learns what larger ones would say, far beyond what they learned.

The elders each learn f on-distribution; the human learns their mean answer on- and off-distribution, and never sees f.
Off-distribution it therefore fails as the elders do, and all humans with such elders alike. A learner of f's
on-distribution answers would need elders of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.humans import descent
from reuse_sim.humans.descent import Descent
from reuse_sim.nets import Mlp
from reuse_sim.rng import children
from reuse_sim.types import Fit, World

AT_ONCE = 256
"""Questions that all elders are asked at once: their hidden units take memory."""


@dataclass(frozen=True)
class Distilled:
    human: Descent
    elder: Descent
    elders: int
    off: float

    @property
    def networks(self) -> int:
        """Networks trained for one human."""
        return self.elders + 1

    def net(self, world: World) -> Mlp:
        return self.human.net(world)

    def init(self, world: World, generators: Sequence[torch.Generator]) -> Tensor:
        return self.human.init(world, generators)

    def train(
        self,
        world: World,
        theta_0: Tensor,
        theta_teacher: Tensor,
        generators: Sequence[torch.Generator],
        off_share: float = 0.0,
    ) -> Fit:
        """First all elders, then all humans. A repaired one is told the truth itself, as any human."""
        if off_share:
            return self.human.train(world, theta_0, theta_teacher, generators, off_share)
        elders = self.raise_elders(world, theta_teacher, generators)
        family = cast(World, Family(world, self.elder.net(world), theta_teacher.shape[1]))
        told_by = torch.cat([theta_teacher, elders.theta.unflatten(0, (-1, self.elders)).flatten(1)], dim=1)
        fit = self.human.train(family, theta_0, told_by, generators, self.off)
        broken = {k // self.elders: f"elder {k % self.elders} of {why}" for k, why in elders.broken.items()}
        return Fit(fit.theta, fit.loss, {**broken, **fit.broken}, engine=fit.engine)

    def raise_elders(self, world: World, theta_teacher: Tensor, generators: Sequence[torch.Generator]) -> Fit:
        """The elders of each human, `(N·elders, p)`."""
        own = children(generators, self.elders)
        starts = self.elder.init(world, own).to(theta_teacher)
        return self.elder.train(world, starts, theta_teacher.repeat_interleave(self.elders, 0), own)

    def train_flops(self, world: World) -> float:
        """The elders' training, their answers to the human's questions, and the human's own training."""
        raised = self.elders * self.elder.train_flops(world)
        # Of both kinds of questions, so that a step asks two batches.
        answers = 2.0 * self.elders * self.elder.net(world).p * 2 * self.human.examples
        return raised + answers + 6.0 * self.net(world).p * 2 * self.human.batch * self.human.steps


@dataclass(frozen=True)
class Family:
    """A world as its youngest know it: its questions, answered by their elders. θ is `(θ1, θ of every elder)`.

    It has what descent on drawn questions asks of a world, and no exact loss.
    """

    world: World
    elder_net: Mlp
    p1: int

    @property
    def human_answer(self) -> Callable[[Mlp, Tensor, Tensor], Tensor]:
        return self.world.human_answer

    def human_net(self, width: int) -> Mlp:
        return self.world.human_net(width)

    def on_distribution(self, theta: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        return self.world.on_distribution(theta[:, : self.p1], n, generators)

    def off_distribution(
        self, theta: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        return self.world.off_distribution(theta[:, : self.p1], n, generators, strength)

    def answer(self, theta: Tensor, x: Tensor) -> Tensor:
        """The elders' mean answer, `(N, n)`."""
        elders = theta[:, self.p1 :].unflatten(1, (-1, self.elder_net.p))
        parts = x.unsqueeze(1).split(AT_ONCE, dim=2)
        return torch.cat([self.world.human_answer(self.elder_net, elders, part).mean(1) for part in parts], dim=1)


def build(
    width: Annotated[int, Field(gt=0, le=4096, description="hidden units of the human")] = 24,
    steps: Annotated[int, Field(gt=0, le=1_000_000, description="steps of Adam, cosine rate")] = 1500,
    rate: Annotated[float, Field(gt=0, le=10, description="first learning rate")] = 0.02,
    batch: Annotated[int, Field(gt=0, le=65_536, description="questions per step, the human's twice as many")] = 32,
    elders: Annotated[int, Field(ge=1, le=1000, description="larger networks whose mean answer it learns")] = 8,
    elder_width: Annotated[int, Field(gt=0, le=4096, description="hidden units of a layer of an elder")] = 64,
    elder_depth: Annotated[int, Field(ge=1, le=16, description="hidden layers of an elder")] = 1,
    elder_steps: Annotated[int, Field(gt=0, le=1_000_000, description="steps of Adam of an elder")] = 1500,
    elder_rate: Annotated[float, Field(gt=0, le=10, description="first learning rate of an elder")] = 0.01,
    examples: Annotated[int, Field(gt=0, le=1_000_000, description="half of the questions its elders answer")] = 2000,
    off: Annotated[float, Field(gt=0, lt=1, description="share of off-distribution questions among them")] = 0.5,
) -> Distilled:
    """A human distilled from an ensemble."""
    elder = descent.build(elder_width, elder_steps, elder_rate, batch, elder_depth)
    human = descent.build(width, steps, rate, batch, examples=examples)
    return Distilled(human, elder, elders, float(off))
