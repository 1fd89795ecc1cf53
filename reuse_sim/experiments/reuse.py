"""Does an outer model that is handed a human's bits answer with the human?

One cell is one world: its people, the people of an unrelated world (the placebo's), the leak, and the
outers of all arms, trained on the same streams. Outers are measured off-distribution, on held-out humans
where there are any.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import InputError, Refusal
from reuse_sim.humans import people as society
from reuse_sim.humans.people import People, Population
from reuse_sim.inheritance import figures
from reuse_sim.inheritance.figures import Society, Swaps
from reuse_sim.leaks.codec import field_scale
from reuse_sim.nets import Mlp
from reuse_sim.outers import rival as rivals
from reuse_sim.outers import training
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured
from reuse_sim.rng import stream, streams
from reuse_sim.types import Access, Human, Leaked, World
from reuse_sim.worlds.strength import at_strength

MUST_FAIL_BY = 0.2  # a human fails off-distribution when its fit is lower there by at least this

METHOD = (
    "A teacher f is drawn; humans of limited width learn it by gradient descent on-distribution, each with siblings "
    "(same teacher, other start and questions) and a repaired twin (trained on with off-distribution truth). "
    "Outer models learn the truth on-distribution and the human's answers, handed the arm's share of the human's coded "
    "parameters; all arms of a world share every random stream. "
    "Off-distribution, the human inside the trained outer is swapped for its siblings (private inheritance) and for "
    "its repaired twin (total), and the change of the outer's answers is regressed on the change of the human's."
)

METRICS = figures.OUTER + figures.HUMAN

SHARED = ("world", "strength", "population", "human", "repair_share", "questions")
"""Fields in which the arms of a cell must not differ: they are asked about the same people."""


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    population: Population = Population()
    human: Annotated[Plugin, plugin("humans")]
    repair_share: float = Field(
        0.5, gt=0, lt=1, description="weight of off-distribution truth in a repaired twin's loss"
    )
    leak: Annotated[Plugin, plugin("leaks")]
    outer: Annotated[Plugin, plugin("outers")]
    rival: Literal["none", "matched"] = Field(
        "none", description="the choice arm: beside the human's answer, that of an equally on-accurate rival"
    )
    strength: float = Field(1.0, ge=0, le=100, description="how far off-distribution; 0 is the world's mildest")
    questions: int = Field(1000, ge=30, le=100_000, description="questions per measured human, on and off each")

    @model_validator(mode="after")
    def _siblings_only_of_measured(self) -> Config:
        if self.population.held_out and self.leak.options.get("of") == "sibling":
            raise ValueError("leak.of: sibling needs population.held_out: 0, for only measured humans have siblings")
        return self


def check(arms: Mapping[str, Config]) -> None:
    """Let every arm answer one blank question. Raises InputError where world, human and outer do not fit together."""
    for name, arm in arms.items():
        world, outer = arm.world.build(), arm.outer.build()
        net = arm.human.build().net(world)
        blank = torch.zeros(1, 1, net.p)
        access = Access(Leaked(blank, blank), torch.zeros(1, 1, 1) if arm.rival != "none" else None)
        try:
            theta = outer.init(net, [stream(0, "check")])
            outer.answer(world, net, theta, torch.zeros(1, 1, 1, world.d), access)
        except InputError as e:
            raise InputError(f"arm {name}: {e.where}", e.got, e.expected, e.do) from e


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world: its people, then every arm's outer, then the figures.

    Raises Refusal where a human's training broke. A world whose humans do not fail off-distribution is excluded
    before any outer is trained: its records are undecided and say so.
    """
    shared = next(iter(arms.values()))
    about = _only(shared, "world", "strength", "population", "human", "repair_share")
    people = store.stage("people", train_people, config=about, seed=seed)
    if people.values["broken"]:
        raise Refusal(f"a human's training broke: {people.values['broken'][0]}; lower human.rate")
    human = store.stage("human figures", measure_humans, people, config=_only(shared, *SHARED), seed=seed).values
    why = does_not_fail(human)
    if why:
        return {name: Measured(human, {}, people.sha256, "undecided", f"excluded: {why}") for name in arms}

    trained = [people]
    if any(c.rival != "none" for c in arms.values()):
        trained.append(store.stage("rivals", train_rivals, people, config=about, seed=seed))
    trained.append(store.stage("outers", train_outers, *trained, config=arms, seed=seed))
    measured = store.stage("outer figures", measure_outers, *trained, config=arms, seed=seed).values
    sha256 = hashlib.sha256("".join(s.sha256 for s in trained).encode()).hexdigest()
    broken = trained[-1].values["broken"]
    return {
        name: Measured(
            {**outer["metrics"], **human},
            outer["parts"],
            sha256,
            "failed" if name in broken else "ok",
            broken.get(name, ""),
        )
        for name, outer in measured.items()
    }


def does_not_fail(human: Mapping[str, float]) -> str:
    """What to change in a world whose human is as good off-distribution as on it; empty where it fails."""
    on, off = human["human/on_fit"], human["human/off_fit"]
    if off <= on - MUST_FAIL_BY:
        return ""
    return (
        f"the human does not fail off-distribution (fit {off:.2f} off against {on:.2f} on); "
        "take a narrower human or a stronger shift"
    )


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the larger of training people, training outers, and measuring, in float32 with a margin."""
    c = next(iter(arms.values()))
    world, population, outer = c.world.build(), c.population, c.outer.build()
    net, measured = c.human.build().net(world), len(range(population.count)[population.measured])
    units = sum(net.sizes)
    parameters = outer.init(net, [torch.Generator()]).numel()
    wide = getattr(outer, "width", 64) + units
    outers = len(arms) * (8 * parameters + outer.humans_per_step * 2 * outer.batch * 6 * wide)
    measures = population.siblings * measured * c.questions * 3 * wide
    return people_bytes(c) + 4 * (outers + measures) + 2**29  # and the libraries themselves


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


# People ----------------------------------------------------------------------------------------------


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
        """What teachers, humans, siblings and repaired twins of this world answer."""
        x = self.x[kind]
        human, siblings, repaired = (
            self.world.human_answer(self.net, theta, x)
            for theta in (
                self.people["theta_human"][0, self.measured],
                self.people["theta_siblings"][0],
                self.people["theta_repaired"][0],
            )
        )
        return Society(self.world.answer(self.theta_teacher, x), human, siblings, repaired)

    def rival(self, trained: Sequence[Stored], arms: Sequence[Config], among: slice) -> training.Rival | None:
        """The rivals of the humans `among`, as the arms see them; None where no arm has one."""
        has = torch.tensor([arm.rival != "none" for arm in arms])
        if not has.any():
            return None
        theta, s = (trained[0].tensors[name][among] for name in ("theta_rival", "shrinkage"))
        theta_1, net = self.people["theta_teacher"][0, among], rivals.rival_net(self.net)

        def answer(x: Tensor, chosen: Tensor) -> Tensor:
            one = rivals.answer(self.world, net, theta[chosen], s[chosen], theta_1[chosen], x)
            return has[:, None, None] * one

        return answer


# Outers ----------------------------------------------------------------------------------------------


def train_outers(people: Stored, *rest: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The outers of all arms; arms whose outers differ only in labels and pressure are trained in one stack."""
    *trained, arms, seed = rest
    scene = Scene(next(iter(arms.values())), people, seed)
    world, net, among = scene.world, scene.net, scene.training
    tensors, broken = {}, {}
    for names in _stacks(arms):
        stack = [arms[name] for name in names]
        shown = [_reveal(arm, _whose(arm, people), scene, seed) for arm in stack]
        leaked = Leaked(torch.stack([s.value[among] for s in shown]), torch.stack([s.known[among] for s in shown]))
        theta_2, theta_1 = people.tensors["theta_human"][0, among], people.tensors["theta_teacher"][0, among]
        room = training.Classroom(world, net, theta_2, theta_1, scene.rival(trained, stack, among))
        fit = training.train(
            [arm.outer.build() for arm in stack],
            room,
            leaked,
            streams(seed, ["outer/init"] * len(stack)),
            stream(seed, "outer/questions"),
        )
        tensors |= dict(zip(names, fit.theta, strict=True))
        broken |= {names[i]: f"the outer's training broke: {why}; lower outer.rate" for i, why in fit.broken.items()}
    return tensors, {"broken": broken}


def measure_outers(people: Stored, *rest: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Every arm's figures off-distribution: its answers as they are, and with another θ2 swapped in."""
    *trained, outers, arms, seed = rest
    scene = Scene(next(iter(arms.values())), people, seed)
    on, off = scene.society("on"), scene.society("off")
    everyone = torch.arange(len(scene.theta_teacher))
    out = {}
    for name, arm in arms.items():
        outer, theta = arm.outer.build(), outers.tensors[name].unsqueeze(0)
        rival = scene.rival(trained, [arm], scene.measured)

        def ask(
            theta_human: Tensor, kind: str, arm=arm, outer=outer, theta=theta, rival=rival
        ) -> tuple[Tensor, Tensor]:
            leaked, x = _reveal(arm, theta_human, scene, seed), scene.x[kind]
            access = Access(Leaked(leaked.value[None], leaked.known[None]), rival and rival(x, everyone))
            answer, predicted = outer.answer(scene.world, scene.net, theta, x[None], access)
            return answer[0], predicted[0]

        of = arm.leak.build().of
        place, spare = int(of == "unrelated"), int(of == "sibling")  # the leaked sibling is left out of comparisons
        own = _whose(arm, people)[scene.measured]
        answer, predicted = ask(own, "off")
        after = torch.stack([ask(sibling, "off")[0] for sibling in people.tensors["theta_siblings"][place, spare:]])
        mended, _ = ask(people.tensors["theta_repaired"][place], "off")
        seen = Society(off.teacher, off.human, off.siblings[spare:], off.repaired)
        metrics, parts = figures.of_outer(
            seen, Swaps(answer, after, mended), predicted, ask(own, "on")[0], on.teacher, scene.world.tolerance,
            scene.world.kind,
        )
        out[name] = {"metrics": metrics, "parts": parts}
    return {}, out


def _whose(arm: Config, people: Stored) -> Tensor:
    """The θ2 `(N, p2)` that the arm's leak is of."""
    of = arm.leak.build().of
    return (
        people.tensors["theta_siblings"][0, 0]
        if of == "sibling"
        else people.tensors["theta_human"][int(of == "unrelated")]
    )


def _reveal(arm: Config, theta_human: Tensor, scene: Scene, seed: int) -> Leaked:
    # The same stream for every human and every swap, so that the mask is always the same.
    return arm.leak.build().reveal(theta_human, scene.scale, stream(seed, "leak"))


def _stacks(arms: Mapping[str, Config]) -> list[list[str]]:
    """Names of arms that can be trained side by side: same outer but for `off_labels` and `behaviour_weight`."""
    stacks: dict[str, list[str]] = {}
    for name, arm in arms.items():
        options = {k: v for k, v in arm.outer.options.items() if k not in ("off_labels", "behaviour_weight")}
        stacks.setdefault(json.dumps([arm.outer.use, options], sort_keys=True), []).append(name)
    return list(stacks.values())


def _only(config: Config, *names: str) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}
