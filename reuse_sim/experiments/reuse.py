"""Does an outer model that is handed a human's bits answer with the human?

One cell is one world: its people, the people of an unrelated world (the placebo's), the leak, and the
outers of all arms, trained on the same streams. Outers are measured off-distribution, on held-out humans
where there are any.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import interview
from reuse_sim.experiments.interview import Interview
from reuse_sim.experiments.scene import (
    Scene,
    does_not_fail,
    measure_humans,
    people_bytes,
    train_people,
    train_rivals,
)
from reuse_sim.humans.people import Population
from reuse_sim.inheritance import figures
from reuse_sim.leaks.reading import over_time
from reuse_sim.outers import examples, training
from reuse_sim.outers.training import Training
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured
from reuse_sim.rng import stream, streams
from reuse_sim.types import Access, Examples, Leaked

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
    training: Training = Training()
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
    """Let every arm answer one blank question. Raises InputError where world, human, leak and outer do not fit."""
    for name, arm in arms.items():
        world, outer, count = arm.world.build(), arm.outer.build(), min(2, arm.population.count)
        try:
            net = arm.human.build().net(world)
            arm.leak.build().schedule(net, arm.training.steps, stream(0, "check"))
            training.check(arm.training, world)
            blank, asked = torch.zeros(1, count, net.p), torch.zeros(count, examples.count(outer), world.d)
            shown = Examples(asked, asked[None, ..., 0]) if examples.count(outer) else None
            rival = torch.zeros(1, count, 1) if arm.rival != "none" else None
            access = Access(Leaked(blank, blank, blank), rival, shown)
            theta = outer.init(net, [stream(0, "check")])
            outer.answer(world, net, theta, torch.zeros(1, count, 1, world.d), access)
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


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the larger of training people, training outers, and measuring, in float32 with a margin."""
    c = next(iter(arms.values()))
    world, population, outer = c.world.build(), c.population, c.outer.build()
    net, measured = c.human.build().net(world), len(range(population.count)[population.measured])
    units = sum(net.sizes)
    parameters = outer.init(net, [torch.Generator()]).numel()
    wide = getattr(outer, "width", 64) + units + examples.count(outer)
    how = c.training
    asked = how.humans_per_step * (how.batch + how.off_batch + examples.count(outer))
    outers = len(arms) * (8 * parameters + asked * 6 * wide)
    measures = population.siblings * measured * c.questions * 3 * wide
    wider = 320 if any(arm.leak.options.get("code") == "half" for arm in arms.values()) else 64
    leaks = len(arms) * population.humans * net.p * wider  # numbers per decoded parameter
    return people_bytes(c) + 4 * (outers + measures + leaks) + 2**29  # and the libraries themselves


# Outers ----------------------------------------------------------------------------------------------


def train_outers(people: Stored, *rest: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The outers of all arms, those side by side that may be."""
    *trained, arms, seed = rest
    scene = Scene(next(iter(arms.values())), people, seed)
    among = scene.training
    theta_2, theta_1 = people.tensors["theta_human"][0, among], people.tensors["theta_teacher"][0, among]
    tensors, broken = {}, {}
    for names in _stacks(arms):
        stack = [arms[name] for name in names]
        shown = [interview.whose(arm.leak.build().of, scene, seed).humans[among] for arm in stack]
        leaks = [(interview.schedule(arm, scene, seed), theta) for arm, theta in zip(stack, shown, strict=True)]
        rival = scene.rival(trained, stack, among)
        room = training.Classroom(scene.world, scene.net, theta_2, theta_1, rival, torch.stack(shown))
        fit = training.train(
            stack[0].outer.build(),
            [arm.training for arm in stack],
            room,
            over_time(leaks, scene.scale),
            streams(seed, ["outer/init"] * len(stack)),
            stream(seed, "outer/questions"),
        )
        tensors |= dict(zip(names, fit.theta, strict=True))
        why = {names[i]: sentence for i, sentence in fit.broken.items()}
        broken |= {name: f"the outer's training broke: {said}; lower training.rate" for name, said in why.items()}
    return tensors, {"broken": broken}


def measure_outers(people: Stored, *rest: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Every arm's figures off-distribution: its answers as they are, and with another θ2 swapped in."""
    *trained, outers, arms, seed = rest
    scene = Scene(next(iter(arms.values())), people, seed)
    on, off = scene.society("on"), scene.society("off")
    out = {}
    for name, arm in arms.items():
        asked = Interview(
            scene,
            seed,
            arm.outer.build(),
            outers.tensors[name].unsqueeze(0),
            interview.schedule(arm, scene, seed),
            arm.training.steps,
            scene.rival(trained, [arm], scene.measured),
            interview.whose(arm.leak.build().of, scene, seed),
        )
        swaps, (predicted, *further) = asked.swaps()
        metrics, parts = figures.of_outer(
            asked.compared(off), swaps, predicted, asked.ask(asked.own, "on")[0], on.teacher, scene.world.tolerance,
            scene.world.kind, asked.probed(on.teacher),
        )
        for does in further:
            metrics |= figures.of_behaviour(does, asked.does())
        if referred := asked.referred():
            recovery = metrics["outer/context_recovery"]
            metrics |= figures.of_references(referred, off.human, recovery, scene.world.kind)
        out[name] = {"metrics": metrics, "parts": parts}
    return {}, out


def _stacks(arms: Mapping[str, Config]) -> list[list[str]]:
    """Names of arms that can be trained side by side: one outer, and trainings that differ in dials per arm only."""
    stacks: dict[str, list[str]] = {}
    for name, arm in arms.items():
        # Which of few questions to label may depend on the labels, and is the same for a whole stack.
        apart = {"labels"} if arm.training.labelled else set()
        alike: set[str] = {*training.PER_ARM} - apart
        how = arm.training.model_dump(exclude=alike)
        stacks.setdefault(json.dumps([arm.outer.use, arm.outer.options, how], sort_keys=True), []).append(name)
    return list(stacks.values())


def _only(config: Config, *names: str) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}
