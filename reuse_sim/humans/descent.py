"""Humans made by gradient descent on the teacher's answers, limited in width and effort.

Where the world knows its exact expected loss the human descends on that; elsewhere on fresh
on-distribution questions of its own at every step. A *repaired* human does the same with a share of
off-distribution truth in its loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.train import descend
from reuse_sim.types import Fit, World

BLOCK = 50  # steps whose questions are drawn at once: one draw per network, not one per step


@dataclass(frozen=True)
class Descent:
    width: int
    steps: int
    rate: float
    batch: int

    def init(self, world: World, generators: Sequence[torch.Generator]) -> Tensor:
        return world.human_net(self.width).init(generators)

    def train(
        self,
        world: World,
        theta_0: Tensor,
        theta_teacher: Tensor,
        generators: Sequence[torch.Generator],
        off_share: float = 0.0,
    ) -> Fit:
        net = world.human_net(self.width)
        exact = getattr(world, "human_loss", None)
        blocks: dict[str, tuple[Tensor, Tensor]] = {}

        def error(theta: Tensor, step: int, draw_name: str) -> Tensor:
            """Mean squared error `(N,)` on this step's questions of the named distribution."""
            if step % BLOCK == 0:
                draw = getattr(world, draw_name)
                x = draw(theta_teacher, self.batch * BLOCK, generators)
                blocks[draw_name] = x, world.answer(theta_teacher, x)
            rows = slice(step % BLOCK * self.batch, (step % BLOCK + 1) * self.batch)
            x, y = (t[:, rows] for t in blocks[draw_name])
            return (world.human_answer(net, theta, x) - y).square().mean(-1)

        def loss(theta: Tensor, step: int) -> Tensor:
            on = exact(net, theta, theta_teacher) if exact else error(theta, step, "on_distribution")
            if off_share == 0:
                return on
            return (1 - off_share) * on + off_share * error(theta, step, "off_distribution")

        return descend(loss, theta_0, steps=self.steps, rate=self.rate)


def build(
    width: Annotated[int, Field(gt=0, le=4096, description="hidden units")] = 24,
    steps: Annotated[int, Field(gt=0, le=1_000_000, description="steps of Adam, cosine rate")] = 1500,
    rate: Annotated[float, Field(gt=0, le=10, description="first learning rate")] = 0.02,
    batch: Annotated[int, Field(gt=0, le=65_536, description="fresh questions per step")] = 32,
) -> Descent:
    """A human of one hidden layer, trained by Adam."""
    return Descent(width, steps, float(rate), batch)
