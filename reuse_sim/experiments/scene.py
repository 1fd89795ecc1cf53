"""The people of one cell and the questions they are asked: what experiments about humans have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reuse_sim.artifacts import Stored
from reuse_sim.humans import people as society
from reuse_sim.humans.people import People
from reuse_sim.inheritance import figures
from reuse_sim.inheritance.figures import Society
from reuse_sim.leaks.codec import field_scale
from reuse_sim.nets import Mlp
from reuse_sim.outers import rival as rivals
from reuse_sim.outers.training import Rival
from reuse_sim.rng import streams
from reuse_sim.types import Human, World
from reuse_sim.worlds.strength import at_strength

MUST_FAIL_BY = 0.2
"""A human fails off-distribution when its fit is lower there by at least this."""


def does_not_fail(human: Mapping[str, float]) -> str:
    """What to change in a world whose human is as good off-distribution as on it; empty where it fails."""
    on, off = human["human/on_fit"], human["human/off_fit"]
    if off <= on - MUST_FAIL_BY:
        return ""
    return (
        f"the human does not fail off-distribution (fit {off:.2f} off against {on:.2f} on); "
        "take a narrower human or a stronger shift"
    )


def people_bytes(c: Any) -> int:
    """What training the people of a configuration holds at once."""
    population = c.population
    measured = len(range(population.count)[population.measured])
    return training_bytes(c.human.build(), c.world.build(), 2 * (population.count + population.siblings * measured))


def training_bytes(human: Human, world: World, count: int) -> int:
    """What training so many humans holds at once, with all the networks that each of them takes."""
    net, networks = human.net(world), count * getattr(human, "networks", 1)
    questions = getattr(human, "batch", 32) * (50 * world.d + 4 * sum(net.sizes))
    return 4 * networks * (8 * net.p + 8 * net.sizes[-1] * net.sizes[1] + questions)


def train_people(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Teachers, humans, siblings and repaired twins of this world and of an unrelated one."""
    world, human = _world(config), config["human"].build()
    people, broken = society.train(world, human, config["population"], config["repair_share"], seed)
    return {name: getattr(people, name) for name in People.__dataclass_fields__}, {"broken": list(broken.values())}


def measure_humans(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """How well the measured humans do, and how much of their failure is their own."""
    scene = Scene(config, people, seed)
    return {}, figures.of_human(scene.society("on"), scene.society("off"), scene.world.tolerance, scene.world.kind)


def train_rivals(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One rival per human, shrunk to the human's own error on-distribution."""
    scene = Scene(config, people, seed)
    theta_1, theta_2 = people.tensors["theta_teacher"][0], people.tensors["theta_human"][0]
    names = [f"own/human/{h}/rival" for h in range(len(theta_1))]
    theta = rivals.train(scene.world, rivals.rival_net(scene.net), theta_1, streams(seed, names)).theta
    x = scene.world.on_distribution(theta_1, 4096, streams(seed, [f"{n}/match" for n in names]))
    raw = rivals.rival_net(scene.net).forward(theta, x)[..., 0]
    human = scene.world.human_answer(scene.net, theta_2, x)
    return {"theta_rival": theta, "shrinkage": rivals.shrinkage(raw, scene.world.answer(theta_1, x), human)}, {}


def _world(config: Mapping[str, Any]) -> World:
    """The world, asked as far off-distribution as the configuration says."""
    return at_strength(config["world"].build(), config["strength"])


class Scene:
    """The measured humans of a cell and the questions that whoever answers is asked, `(M, n, d)` on and off."""

    def __init__(self, config: Any, people: Stored, seed: int) -> None:
        config = dict(config)
        self.world: World = _world(config)
        self.net: Mlp = config["human"].build().net(self.world)
        self.people = people.tensors
        self.training = slice(0, config["population"].humans)
        self.measured = config["population"].measured
        self.scale = field_scale(
            self.net,
            torch.cat(
                [
                    self.people[name].reshape(-1, self.net.p)
                    for name in ("theta_human", "theta_siblings", "theta_repaired")
                ]
            ),
        )
        self.theta_teacher = self.people["theta_teacher"][0, self.measured]
        n, count = config.get("questions", 1), len(self.theta_teacher)
        self.x = {
            "on": self.world.on_distribution(
                self.theta_teacher, n, streams(seed, [f"ask/{h}/on" for h in range(count)])
            ),
            "off": self.world.off_distribution(
                self.theta_teacher, n, streams(seed, [f"ask/{h}/off" for h in range(count)])
            ),
        }

    def society(self, kind: str) -> Society:
        """What teachers, humans, siblings and repaired twins of this world answer, on- or off-distribution."""
        return self.answers(self.x[kind])

    def answers(self, x: Tensor) -> Society:
        """The same to any questions `(M, n, d)`."""
        human, siblings, repaired = (
            self.world.human_answer(self.net, theta, x)
            for theta in (
                self.people["theta_human"][0, self.measured],
                self.people["theta_siblings"][0],
                self.people["theta_repaired"][0],
            )
        )
        return Society(self.world.answer(self.theta_teacher, x), human, siblings, repaired)

    def rival(self, trained: Sequence[Stored], arms: Sequence[Any], among: slice) -> Rival | None:
        """The rivals of the humans `among`, as the arms see them; None where no arm has one."""
        has = torch.tensor([arm.rival != "none" for arm in arms])
        if not has.any():
            return None
        return lambda x, chosen: has[:, None, None] * self.rivals_answer(trained[0], x, chosen, among)

    def rivals_answer(self, rival: Stored, x: Tensor, chosen: Tensor, among: slice, matched: bool = True) -> Tensor:
        """What the rivals of those `chosen` among some humans answer to x `(H, n, d)`, matched or not: `(H, n)`."""
        theta, s = (rival.tensors[name][among][chosen] for name in ("theta_rival", "shrinkage"))
        theta_1, net = self.people["theta_teacher"][0, among][chosen], rivals.rival_net(self.net)
        return rivals.answer(self.world, net, theta, s if matched else torch.ones_like(s), theta_1, x)
