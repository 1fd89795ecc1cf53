"""Humans who are the best of many: of R descents from other starts, the one with the fewest errors on-distribution.

A learner with one descent's budget reaches what one start in many reaches only by luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.humans import descent
from reuse_sim.humans.descent import Descent
from reuse_sim.nets import Mlp
from reuse_sim.rng import children
from reuse_sim.types import Fit, World


@dataclass(frozen=True)
class Selected:
    each: Descent
    restarts: int
    exam: int

    @property
    def networks(self) -> int:
        """Networks trained for one human."""
        return self.restarts

    def net(self, world: World) -> Mlp:
        return self.each.net(world)

    def init(self, world: World, generators: Sequence[torch.Generator]) -> Tensor:
        """Where the first of the restarts begins."""
        return self.each.init(world, generators)

    def train(
        self,
        world: World,
        theta_0: Tensor,
        theta_teacher: Tensor,
        generators: Sequence[torch.Generator],
        off_share: float = 0.0,
    ) -> Fit:
        """All N × R at once; one that broke is never chosen while another did not."""
        if off_share:
            return self.each.train(world, theta_0, theta_teacher, generators, off_share)
        many = self.candidates(world, theta_0, theta_teacher, generators)
        errors = self.errors(world, many.theta.unflatten(0, (-1, self.restarts)), theta_teacher, generators)
        best = torch.arange(len(theta_0)) * self.restarts + errors.argmin(1)
        broken = {i: many.broken[k] for i, k in enumerate(best.tolist()) if k in many.broken}
        return Fit(many.theta[best], many.loss[best], broken, engine=many.engine)

    def candidates(
        self, world: World, theta_0: Tensor, theta_teacher: Tensor, generators: Sequence[torch.Generator]
    ) -> Fit:
        """R humans for each, `(N·R, p2)`; the first begins at θ_0, the others at starts of their own."""
        own = children(generators, self.restarts)
        starts = self.each.init(world, own).to(theta_0).unflatten(0, (-1, self.restarts))
        starts[:, 0] = theta_0
        return self.each.train(world, starts.flatten(0, 1), theta_teacher.repeat_interleave(self.restarts, 0), own)

    def errors(
        self, world: World, theta: Tensor, theta_teacher: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Mean (H − f)² of candidates `(N, R, p2)` on `exam` fresh on-distribution questions: `(N, R)`."""
        x = world.on_distribution(theta_teacher, self.exam, generators)
        answers = world.human_answer(self.net(world), theta, x.unsqueeze(1))
        errors = (answers - world.answer(theta_teacher, x).unsqueeze(1)).square().mean(-1)
        return errors.nan_to_num(torch.inf)

    def train_flops(self, world: World) -> float:
        """All descents, and the answers in the exam."""
        return self.restarts * (self.each.train_flops(world) + 2.0 * self.net(world).p * self.exam)


def build(
    width: Annotated[int, Field(gt=0, le=4096, description="hidden units")] = 24,
    steps: Annotated[int, Field(gt=0, le=1_000_000, description="steps of Adam of each restart, cosine rate")] = 1500,
    rate: Annotated[float, Field(gt=0, le=10, description="first learning rate")] = 0.02,
    batch: Annotated[int, Field(gt=0, le=65_536, description="questions per step")] = 32,
    restarts: Annotated[int, Field(ge=1, le=10_000, description="descents of which the best is the human")] = 16,
    exam: Annotated[int, Field(gt=0, le=100_000, description="fresh questions that decide which is the best")] = 1000,
) -> Selected:
    """The best of many humans trained by Adam."""
    return Selected(descent.build(width, steps, rate, batch), restarts, exam)
