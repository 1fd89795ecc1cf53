"""A human: one that reads the same few examples over and over. Copy this file and change it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.nets import Mlp
from reuse_sim.train import descend
from reuse_sim.types import Fit, World


@dataclass(frozen=True)
class Reader:
    width: int
    steps: int
    examples: int

    # The world knows how its humans are read; how large they are is theirs.
    def net(self, world: World) -> Mlp:
        return world.human_net(self.width)

    def init(self, world: World, generators: Sequence[torch.Generator]) -> Tensor:
        return self.net(world).init(generators)

    # N humans side by side, row i from start i, teacher i and generator i; none may touch another.
    def train(
        self,
        world: World,
        theta_0: Tensor,
        theta_teacher: Tensor,
        generators: Sequence[torch.Generator],
        off_share: float = 0.0,
    ) -> Fit:
        net = self.net(world)
        # Everything is drawn here, once: descent itself is not random.
        on = world.on_distribution(theta_teacher, self.examples, generators)
        off = world.off_distribution(theta_teacher, self.examples, generators)

        def error(theta: Tensor, x: Tensor) -> Tensor:
            return (world.human_answer(net, theta, x) - world.answer(theta_teacher, x)).square().mean(-1)

        def loss(theta: Tensor, _step: int) -> Tensor:
            if off_share == 0:
                return error(theta, on)
            # Above 0 a *repaired* human is asked for: one that saw off-distribution truth as well.
            return (1 - off_share) * error(theta, on) + off_share * error(theta, off)

        return descend(loss, theta_0, steps=self.steps, rate=0.02)


def build(
    width: Annotated[int, Field(gt=0, le=4096, description="hidden units")] = 8,
    steps: Annotated[int, Field(gt=0, le=1_000_000, description="steps of Adam")] = 500,
    examples: Annotated[int, Field(gt=0, le=100_000, description="examples it ever sees")] = 64,
) -> Reader:
    """A human with few examples."""
    return Reader(width, steps, examples)
