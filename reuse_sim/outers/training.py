"""How outer models are taught: what is right where it is told, and what the human answers wherever asked.

Arms of a cell are stacked and see the same humans, questions and starts. They differ in what they are handed
(`Access`), and may differ in the dials of `Training` that `PER_ARM` names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.outers import examples, outputs, selection
from reuse_sim.train import descend
from reuse_sim.types import Access, Fit, Leaked, Outer, World

Told = Callable[[int], Leaked]
"""What each arm is shown of each human before a training step, `(A, H, p2)`."""

Rival = Callable[[Tensor, Tensor], Tensor]
"""Answers `(A, H, n)` to x `(H, n, d)` of the humans at the given positions `(H,)`; zeros where an arm has none."""

CLIP = 10.0
WARM_UP = 0.2
"""Largest gradient norm of an outer; the share of training over which its own confidence comes in."""


class Training(BaseModel):
    """Effort, labels and pressures of an outer's training."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    steps: Annotated[int, Field(gt=0, le=1_000_000, description="steps of Adam, cosine rate")] = 1500
    rate: Annotated[float, Field(gt=0, le=10, description="first learning rate")] = 0.005
    batch: Annotated[int, Field(gt=0, le=65_536, description="on-distribution questions per human and step")] = 64
    off_batch: Annotated[int, Field(gt=0, le=65_536, description="off-distribution questions, likewise")] = 64
    humans_per_step: Annotated[int, Field(gt=0, le=10_000, description="humans asked about in one step")] = 1
    begins: Annotated[
        float, Field(ge=0, le=1, description="when questions begin, as share of training; before, it only predicts")
    ] = 0.0
    labels: Annotated[
        Literal["teacher", "human"], Field(description="who says what is right on-distribution")
    ] = "teacher"
    labelled: Annotated[
        int, Field(ge=0, le=100_000, description="on-distribution questions with labels; 0: fresh ones at every step")
    ] = 0
    chosen: Annotated[
        selection.Policy, Field(description="which questions those are, of eight times as many")
    ] = "random"
    off_truth: Annotated[
        float, Field(ge=0, le=1, description="share of off-distribution questions whose right answer is told")
    ] = 0.0
    behaviour_weight: Annotated[
        float, Field(ge=0, le=1e6, description="how hard predicting the human pulls on what both heads share")
    ] = 1.0
    behaviour_off_weight: Annotated[
        float | None, Field(ge=0, le=1e6, description="the same on off-distribution questions, where it is another")
    ] = None
    behaviours_told: Annotated[
        bool, Field(description="whether other behaviour than answers is told, to an outer that predicts it")
    ] = True
    decay: Annotated[float, Field(ge=0, le=100, description="L2 penalty on parameters of its own")] = 0.0
    confidence: Annotated[
        float, Field(ge=0, le=1, description="weight of its own sharpened answers in the labels (classifications)")
    ] = 0.0


PER_ARM = (
    "begins",
    "labels",
    "off_truth",
    "behaviour_weight",
    "behaviour_off_weight",
    "behaviours_told",
    "decay",
    "confidence",
)
"""Dials in which arms that are trained side by side may differ."""


def check(how: Training, world: World) -> None:
    """Raises InputError where a dial does not fit the world."""
    classification = world.kind == "classification"
    if how.confidence and not classification:
        raise InputError("training.confidence", how.confidence, "0 where answers are numbers")
    if how.chosen != "random":
        nothing = torch.zeros(0)
        selection.scores(how.chosen, nothing, nothing, nothing, classification)


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
    outer: Outer,
    trainings: Sequence[Training],
    room: Classroom,
    told: Told,
    start: Sequence[torch.Generator],
    questions: torch.Generator,
) -> Fit:
    """Train A arms of one outer model side by side.

    With M the answers, P the predicted human answers, y what the arm is told on-distribution, and S the share of
    off-distribution questions of which it is told the truth, the loss is

        mean_on (M − y)² + Σ_{off, in S} (M − f)² / n_off + mean_{on and off} (P − H)² + decay ‖own θ‖²

    and for an outer that predicts behaviours B as well, where they are told, the mean of (P_B − B)² over them all.

    Args:
        trainings: one per arm, equal but for what `PER_ARM` names.
        told: what each arm is shown of the humans, step by step.
        start: one generator per arm for the starts (seeded alike for equal starts).
        questions: draws humans and questions, the same for all arms.

    Raises InputError where a dial does not fit the world.
    """
    world, how, arms = room.world, trainings[0], len(trainings)
    for one in trainings:
        check(one, world)
    dials = _Dials.of(trainings)
    count = len(room.theta_human)
    shown = room.theta_human.expand(arms, -1, -1) if room.theta_shown is None else room.theta_shown
    library = _Library.of(room, how, questions) if how.labelled else None

    def loss(theta: Tensor, step: int) -> Tensor:
        everyone = torch.zeros(1, dtype=torch.long) if count == 1 else torch.randperm(count, generator=questions)
        chosen = everyone[: how.humans_per_step]
        teachers, humans = room.theta_teacher[chosen], room.theta_human[chosen]
        same = [questions] * len(chosen)
        on = (
            library.draw(chosen, how.batch, questions)
            if library
            else world.on_distribution(teachers, how.batch, same)
        )
        x = torch.cat([on, world.off_distribution(teachers, how.off_batch, same)], dim=1)
        truth = world.answer(teachers, x)
        behaviour, *does = outputs.apart(outputs.of_human(world, room.net, humans, x, outputs.count(outer)))
        rival = room.rival(x, chosen) if room.rival else None
        leaked = told(step)
        bits = Leaked(leaked.value[:, chosen], leaked.known[:, chosen], leaked.slack[:, chosen])
        context = examples.shown(outer, world, room.net, shown[:, chosen], teachers, same)
        access = Access(bits, rival, context)
        answer, predicted, *further = outer.answer(world, room.net, theta, x.unsqueeze(0), access, dials.pressure)
        target = torch.where(dials.by_human, behaviour, truth)
        on_answer, on_target = answer[..., : how.batch], target[..., : how.batch]
        if dials.confidence is not None:
            on_target = _confident(on_answer.detach(), on_target, dials.confidence * min(1.0, step / dials.warm))
        asked = (on_answer - on_target).square().mean((1, 2))
        off_error = (answer - truth).square()[..., how.batch :]
        asked = asked + (off_error * dials.off_told).mean((1, 2))
        total = asked * (step >= dials.begins) + (predicted - behaviour).square().mean((1, 2))
        for theirs, own_does in zip(further, does, strict=True):
            total = total + dials.behaviours_told * (theirs - own_does).square().mean((1, 2, 3))
        if dials.decay is not None:
            total = total + dials.decay * own(outer, room.net, theta).square().sum(-1)
        return total

    return descend(loss, outer.init(room.net, start), steps=how.steps, rate=how.rate, clip=CLIP)


def own(outer: Outer, net: Mlp, theta: Tensor) -> Tensor:
    """The parameters `(A, q)` that L2 falls on: what the outer calls its own, or all of θ `(A, p)`."""
    named = getattr(outer, "own", None)
    return theta if named is None else named(net, theta)


@dataclass(frozen=True)
class _Dials:
    """What differs between arms, as tensors over them; None where no arm turns the dial."""

    by_human: Tensor
    off_told: Tensor
    pressure: Tensor
    begins: Tensor
    warm: float
    behaviours_told: Tensor
    decay: Tensor | None
    confidence: Tensor | None

    @staticmethod
    def of(trainings: Sequence[Training]) -> _Dials:
        how = trainings[0]
        far = [t.behaviour_weight if t.behaviour_off_weight is None else t.behaviour_off_weight for t in trainings]
        near = [t.behaviour_weight for t in trainings]
        pressure = torch.tensor([[a] * how.batch + [b] * how.off_batch for a, b in zip(near, far, strict=True)])
        told = torch.tensor([round(t.off_truth * how.off_batch) for t in trainings])
        return _Dials(
            torch.tensor([t.labels == "human" for t in trainings])[:, None, None],
            (torch.arange(how.off_batch) < told[:, None]).float().unsqueeze(1),
            pressure[:, 0] if near == far else pressure,
            torch.tensor([t.begins * t.steps for t in trainings]),
            WARM_UP * how.steps,
            torch.tensor([float(t.behaviours_told) for t in trainings]),
            torch.tensor([t.decay for t in trainings]) if any(t.decay for t in trainings) else None,
            torch.tensor([t.confidence for t in trainings])[:, None, None]
            if any(t.confidence for t in trainings)
            else None,
        )


def _confident(answer: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Labels mixed with the model's own answers `(A, H, n)` made sharp, cut so that as many are yes as in the labels.

    The auxiliary confidence loss of Burns et al. 2023 (arXiv 2312.09390), in answers from −1 to 1.
    """
    flat = answer.flatten(1)
    yes = (target > 0).float().flatten(1).mean(-1).expand(len(flat))
    cut = torch.stack([a.quantile(1 - share) for a, share in zip(flat, yes, strict=True)])
    sharp = torch.where(answer > cut[:, None, None], 1.0, -1.0)
    return (1 - weight) * target + weight * sharp


@dataclass(frozen=True)
class _Library:
    """The labelled questions `(H, labelled, d)` of every human, where they are few."""

    x: Tensor

    @staticmethod
    def of(room: Classroom, how: Training, questions: torch.Generator) -> _Library:
        world, count = room.world, len(room.theta_human)
        same = [questions] * count
        pool = world.on_distribution(room.theta_teacher, selection.POOL * how.labelled, same)
        truth = world.answer(room.theta_teacher, pool)
        human = world.human_answer(room.net, room.theta_human, pool)
        said = human if how.labels == "human" else truth
        chosen = selection.choose(how.chosen, world, pool, said, human, how.labelled, same)
        return _Library(pool.take_along_dim(chosen.unsqueeze(-1), 1))

    def draw(self, humans: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """n of them with replacement for each of the humans, `(H, n, d)`."""
        rows = torch.randint(self.x.shape[1], (len(humans), n, 1), generator=generator)
        return self.x[humans].take_along_dim(rows, 1)
