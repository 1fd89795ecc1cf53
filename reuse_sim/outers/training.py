"""How every outer model is trained: truth on-distribution, the human's answers wherever asked.

Arms of a cell are stacked and see the same humans, questions and starts; they differ in what they are
handed (`Access`) and in two dials: off-distribution truth, and how hard predicting the human pulls on
what both heads share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.nets import Mlp
from reuse_sim.outers import examples
from reuse_sim.train import descend
from reuse_sim.types import Access, Fit, Leaked, Outer, World

Told = Callable[[int], Leaked]
"""What each arm is shown of each human before a training step, `(A, H, p2)`."""

Rival = Callable[[Tensor, Tensor], Tensor]
"""Answers `(A, H, n)` to x `(H, n, d)` of the humans at the given positions `(H,)`; zeros where an arm has none."""


@dataclass(frozen=True)
class Classroom:
    """The humans an outer is trained on: θ2 `(H, p2)`, their teachers `(H, p1)`, and the rival, if any.

    `theta_shown` `(A, H, p2)` are those whose answers each arm sees as examples: the humans themselves where None.
    """

    world: World
    net: Mlp
    theta_human: Tensor
    theta_teacher: Tensor
    rival: Rival | None = None
    theta_shown: Tensor | None = None


def train(
    outers: Sequence[Outer],
    room: Classroom,
    told: Told,
    start: Sequence[torch.Generator],
    questions: torch.Generator,
) -> Fit:
    """Train A arms side by side on mean (M − f)² on-distribution + (M − f)² off-distribution where the arm has
    that truth + (P − H)² on both, P being the predicted human answer.

    Args:
        outers: one per arm, equal but for `off_labels` and `behaviour_weight`.
        told: what each arm is shown of the humans, step by step.
        start: one generator per arm for the starts (seeded alike for equal starts).
        questions: draws humans and questions, the same for all arms.
    """
    outer, world = outers[0], room.world
    pressure = torch.tensor([o.behaviour_weight for o in outers])
    off_truth = torch.tensor([float(o.off_labels == "teacher") for o in outers])
    count, per_step, half = len(room.theta_human), outer.humans_per_step, outer.batch
    shown = room.theta_human.expand(len(outers), -1, -1) if room.theta_shown is None else room.theta_shown

    def loss(theta: Tensor, step: int) -> Tensor:
        chosen = (
            torch.randperm(count, generator=questions)[:per_step] if count > 1 else torch.zeros(1, dtype=torch.long)
        )
        teachers, humans = room.theta_teacher[chosen], room.theta_human[chosen]
        same = [questions] * len(chosen)
        x = torch.cat(
            [world.on_distribution(teachers, half, same), world.off_distribution(teachers, outer.off_batch, same)],
            dim=1,
        )
        truth, behaviour = world.answer(teachers, x), world.human_answer(room.net, humans, x)
        rival = room.rival(x, chosen) if room.rival else None
        leaked = told(step)
        bits = Leaked(leaked.value[:, chosen], leaked.known[:, chosen], leaked.slack[:, chosen])
        context = examples.shown(outer, world, room.net, shown[:, chosen], teachers, same)
        access = Access(bits, rival, context)
        answer, human = outer.answer(world, room.net, theta, x.unsqueeze(0), access, pressure)
        error = (answer - truth).square()
        on, off = error[..., :half].mean((1, 2)), error[..., half:].mean((1, 2))
        return on + off_truth * off + (human - behaviour).square().mean((1, 2))

    theta_0 = outer.init(room.net, start)
    return descend(loss, theta_0, steps=outer.steps, rate=outer.rate, clip=10.0)
