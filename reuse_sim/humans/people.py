"""Who lives in a cell: teachers, humans, siblings and repaired twins, and the same in an unrelated world.

The unrelated world is the placebo's: its human of the same index is as good a human, of another teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from reuse_sim.rng import streams
from reuse_sim.types import Human, World

PLACES = ("own", "unrelated")


class Population(BaseModel):
    """How many people there are. With `held_out: 0` outers are measured on the humans they were trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    teachers: Annotated[int, Field(ge=1, le=10_000)] | Literal["each"] = Field(
        default=1, description="teachers that the humans share out among them, or one for each human"
    )
    humans: Annotated[int, Field(ge=1, le=10_000, description="humans that outers are trained on")] = 1
    held_out: Annotated[int, Field(ge=0, le=10_000, description="further humans that outers are measured on")] = 0
    siblings: Annotated[int, Field(ge=3, le=100, description="siblings of each measured human, for the swaps")] = 4

    @property
    def count(self) -> int:
        return self.humans + self.held_out

    @property
    def measured(self) -> slice:
        """Positions of the humans that outers are measured on."""
        return slice(self.humans if self.held_out else 0, self.count)


@dataclass(frozen=True)
class People:
    """Trained parameters; the leading 2 is own and unrelated world.

    Teachers `(2, N, p1)`, one row per human; humans `(2, N, p2)`; siblings `(2, S, M, p2)` and repaired twins
    `(2, M, p2)` of the M measured humans.
    """

    theta_teacher: Tensor
    theta_human: Tensor
    theta_siblings: Tensor
    theta_repaired: Tensor


def train(
    world: World, human: Human, population: Population, repair_share: float, seed: int
) -> tuple[People, Mapping[int, str]]:
    """Everybody of one cell, trained in two stacks: humans with siblings, then repaired twins.

    A repaired twin goes on from its human's θ2 with weight `repair_share` on off-distribution truth. Returns also
    the networks whose training broke.
    """
    count, measured = population.count, range(population.count)[population.measured]
    teachers = count if population.teachers == "each" else min(population.teachers, count)

    theta_1 = world.teacher(streams(seed, [f"{p}/teacher/{t}" for p in PLACES for t in range(teachers)]))
    theta_1 = theta_1.unflatten(0, (2, teachers))[:, torch.arange(count) % teachers]

    siblings = [(s, h) for s in range(population.siblings) for h in measured]
    names = [f"human/{h}" for h in range(count)] + [f"human/{h}/sibling/{s}" for s, h in siblings]
    taught = theta_1[:, list(range(count)) + [h for _, h in siblings]].flatten(0, 1)
    init, questions = ([f"{p}/{n}/{what}" for p in PLACES for n in names] for what in ("init", "questions"))
    fit = human.train(world, human.init(world, streams(seed, init)), taught, streams(seed, questions))
    theta_2 = fit.theta.unflatten(0, (2, len(names)))

    twins = theta_2[:, population.measured].flatten(0, 1)
    repair = streams(seed, [f"{p}/human/{h}/repair" for p in PLACES for h in measured])
    mended = human.train(world, twins, theta_1[:, population.measured].flatten(0, 1), repair, repair_share)
    people = People(
        theta_1,
        theta_2[:, :count],
        theta_2[:, count:].unflatten(1, (population.siblings, len(measured))),
        mended.theta.unflatten(0, (2, len(measured))),
    )
    return people, {**mended.broken, **fit.broken}
