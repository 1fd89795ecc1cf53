"""Does an outer model inherit less from a human that it is told as one of the humans learned afresh from f?

One cell is one world: its people, a pool of fresh humans of f and one of another teacher, and outers that differ in
what stands in the human's place, in whether f is at hand where they answer, and in who says what is right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import teacher_codes
from reuse_sim.experiments.balls import check_regression
from reuse_sim.experiments.scene import Scene, does_not_fail, measure_humans, train_people, training_bytes
from reuse_sim.experiments.telling import Speech, Told
from reuse_sim.humans.people import Population
from reuse_sim.inheritance import causal, figures, observed
from reuse_sim.joint import fresh
from reuse_sim.outers import slot, training
from reuse_sim.outers.training import Training
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream, streams
from reuse_sim.types import Access, Leaked, Outer, World

METHOD = (
    "A teacher f is drawn; a human learns it, with siblings and a repaired twin, and so do fresh humans of f and of "
    "another teacher, from starts and questions of their own. What stands in the outer's place for the human is θ2 "
    "itself (outright), the fresh human whose answers to named on-distribution questions are nearest to the human's "
    "(nearest), the same with a correction coded within a tolerance (corrected), the nearest fresh human of the other "
    "teacher, a random fresh human of f, or nothing. Who reads a code by fresh humans of f has f: so where it is at "
    "hand, f(x) stands beside the simulated human's answer. f is at hand exactly, or as decoded from its own code "
    "within a tolerance, and then fresh humans are those of the decoded f. A trunk of the outer's own sees all that "
    "and the question. Off-distribution, siblings and the repaired twin are told in the same way, each by its own "
    "fresh human, and put in the place; the change of the outer's answers is regressed on the change of the true "
    "human's. Arms of a world share every random stream."
)

OWN = (
    Metric("inheritance/causal_repaired", "1", "The total causal figure with the repaired twin itself in the place, "
           "however the human is told: told by a fresh human it is not repaired.", headline=True),
    Metric("inheritance/causal_teacher", "1", "Change of M's answers per change of f's when the f at hand is swapped "
           "for another teacher: 1 answers with f. Where f is at hand.",
           r"\langle M'-M,\,f'-f\rangle\,/\,\lVert f'-f\rVert^2", headline=True),
    Metric("joint/told_own", "R²", "How the failure of the human in the place predicts the actual human's, "
           "off-distribution.", r"R^2(\hat H-f,\,H-f)", headline=True),
    Metric("joint/told_private", "1", "How much of the human's own, beside what siblings have in common, the human in "
           "the place says off-distribution: 0 none, 1 all.",
           r"\langle\hat H-\overline{H'},Z\rangle/\|Z\|^2,\ Z=H-\overline{H'}"),
    Metric("joint/told_distance", "1", "How far the human in the place is from the actual one on the named questions.",
           r"\overline{(\hat H-H)^2}/\mathrm{var} f"),
    Metric("joint/told_bits", "bits", "What it takes to say who is in the place: log₂ of the number of fresh humans; "
           "with the correction's message; outright, the shortest message found of a network no further from the human "
           "than its nearest fresh human. f is not counted.", headline=True),
    Metric("joint/teacher_bits", "bits", "The message that f is decoded from, where it is not at hand exactly."),
)  # fmt: skip
METRICS = figures.OUTER + OWN + figures.HUMAN

SHARED = ("world", "human", "siblings", "repair_share", "fresh", "questions", "asked", "correction", "width")


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    siblings: int = Field(4, ge=3, le=100)
    repair_share: float = Field(0.5, gt=0, lt=1, description="weight of off-distribution truth in the repaired twin")
    fresh: int = Field(1024, ge=2, le=100_000, description="fresh humans of f, and as many of another teacher")
    questions: int = Field(128, ge=2, le=100_000, description="on-distribution questions that say who is nearest")
    asked: int = Field(4096, ge=30, le=100_000, description="questions that outers are measured on, on and off each")
    correction: float = Field(0.002, gt=0, le=100, description="mean square over var f left by a correction")
    width: int = Field(48, gt=0, le=4096, description="ReLU units of the outer's own trunk")
    training: Training = Training()

    told: Told = Field("outright", description="what stands in the human's place")
    at_hand: bool = Field(False, description="whether the answer head may read f's answer")
    teacher_code: float = Field(0.0, ge=0, le=100, description="mean square over var f within which f is coded; 0: f")


def check(arms: Mapping[str, Config]) -> None:
    """Raises InputError where answers are no numbers, or arms cannot be trained side by side."""
    check_regression(arms)
    first, *others = (arm.training.model_dump(exclude={*training.PER_ARM}) for arm in arms.values())
    if any(other != first for other in others):
        expected = f"the same in all arms, but for {', '.join(training.PER_ARM)}"
        raise InputError("training", "dials that differ between arms", expected, "sweep over them")
    for arm in arms.values():
        training.check(arm.training, arm.world.build())


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world. Raises Refusal where a human's training broke; undecided where the human does not fail."""
    shared = next(iter(arms.values()))
    about = {"world": shared.world, "strength": 1.0, "population": Population(siblings=shared.siblings),
             "human": shared.human, "repair_share": shared.repair_share}  # fmt: skip
    people = store.stage("people", train_people, config=about, seed=seed)
    if people.values["broken"]:
        raise Refusal(f"a human's training broke: {people.values['broken'][0]}; lower human.rate")
    about |= {"questions": shared.asked}
    human = store.stage("human figures", measure_humans, people, config=about, seed=seed).values
    if why := does_not_fail(human):
        return {name: Measured(human, {}, people.sha256, "undecided", f"excluded: {why}") for name in arms}
    learned = {"count": shared.fresh, "named": shared.questions}
    pools, told = [], {"correction": shared.correction, "named": shared.questions}
    for code, other in _pools(arms):
        this = about | learned | {"teacher_code": code, "other": other}
        pools.append(store.stage("fresh", train_fresh, people, config=this, seed=seed))
    places = store.stage("places", tell, people, *pools, config=about | told | {"arms": arms}, seed=seed)
    outers = store.stage("outers", train_outers, people, places, config=about | {"arms": arms}, seed=seed)
    measured = store.stage("outer figures", measure, people, places, outers, config=about | {"arms": arms}, seed=seed)
    sha256 = hashlib.sha256("".join(s.sha256 for s in (people, *pools, outers)).encode()).hexdigest()
    broken = outers.values["broken"]
    return {
        name: Measured({**said["metrics"], **human}, said["parts"], sha256, "failed" if name in broken else "ok",
                       broken.get(name, ""))
        for name, said in measured.values.items()
    }  # fmt: skip


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: fresh humans in training, or all outers, or one of them asked with everybody in its place."""
    c = next(iter(arms.values()))
    world, human = c.world.build(), c.human.build()
    wide = 6 * (c.width + sum(human.net(world).sizes))
    outers = len(arms) * (c.training.batch + c.training.off_batch) * wide
    asked = (c.siblings + 4) * c.asked * wide
    return max(training_bytes(human, world, c.fresh), 4 * outers, 4 * asked) + 2**29  # and the libraries themselves


# Stages ----------------------------------------------------------------------------------------------


def train_fresh(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The teacher as it is at hand `(1, p1)`, with the bits it was decoded from, and fresh humans `(count, p2)` of it.

    Of the unrelated world's teacher where `other`.
    """
    world, place = config["world"].build(), int(config["other"])
    theta_1, bits = people.tensors["theta_teacher"][place], None
    if config["teacher_code"]:
        x = world.on_distribution(theta_1, config["named"], [stream(seed, "named/questions")])[0].double()
        error = config["teacher_code"] * float(world.answer(theta_1.double(), x[None]).var(correction=0))
        theta_1, bits = teacher_codes.told(world, theta_1, x, error, f"{seed}/teacher")
    who = "other/fresh" if config["other"] else "fresh"
    fit = fresh.train(world, config["human"].build(), theta_1, seed, range(config["count"]), who)
    return {"theta": fit.theta, "theta_teacher": theta_1}, {"bits": bits}


def tell(people: Stored, *rest: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What stands in each arm's place for the human, its siblings and its repaired twin, `(2 + S, p2)`, and its bits.

    And each arm's f, `arm/teacher` `(1, p1)`.
    """
    *pools, config, seed = rest
    scene, arms = Scene({**config, "questions": 1}, people, seed), config["arms"]
    x = scene.world.on_distribution(scene.theta_teacher, config["named"], [stream(seed, "named/questions")])[0].double()
    variance = float(scene.world.answer(scene.theta_teacher.double(), x[None]).var(correction=0))
    everyone, found = _everyone(scene), dict(zip(_pools(arms), pools, strict=True))
    speech = Speech(scene.world, scene.net, x, variance, config["correction"], f"{seed}/human")
    tensors, bits = {}, {}
    for name, arm in arms.items():
        own = found[arm.teacher_code, False]
        pool = (found[0.0, True] if arm.told == "other" else own).tensors["theta"]
        tensors[name], bits[name] = speech.place(arm.told, everyone, pool, stream(seed, "random"))
        tensors[f"{name}/teacher"] = own.tensors["theta_teacher"]
    teachers = {name: found[arm.teacher_code, False].values["bits"] for name, arm in arms.items()}
    distances = {name: speech.distance(tensors[name][:1], everyone[:1]) for name in arms}
    return tensors, {"bits": bits, "teacher_bits": teachers, "distance": distances}


def train_outers(
    people: Stored, places: Stored, config: Mapping[str, Any], seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The outers of all arms side by side, each with its own human in the place and its own f at hand."""
    scene, arms = Scene({**config, "questions": 1}, people, seed), config["arms"]
    shown = torch.stack([places.tensors[name][:1] for name in arms])
    theta_1 = torch.cat([places.tensors[f"{name}/teacher"] for name in arms])
    at_hand = torch.tensor([arm.at_hand for arm in arms.values()])

    def rival(x: Tensor, chosen: Tensor) -> Tensor:
        return beside(scene.world, theta_1, at_hand, x)

    room = training.Classroom(scene.world, scene.net, scene.people["theta_human"][0], scene.theta_teacher, rival)
    fit = training.train(
        slot.build(next(iter(arms.values())).width),
        [arm.training for arm in arms.values()],
        room,
        lambda step: whole(shown),
        streams(seed, ["outer/init"] * len(arms)),
        stream(seed, "outer/questions"),
    )
    names = list(arms)
    broken = {names[i]: f"the outer's training broke: {why}; lower training.rate" for i, why in fit.broken.items()}
    return dict(zip(names, fit.theta, strict=True)), {"broken": broken}


def measure(
    people: Stored, places: Stored, outers: Stored, config: Mapping[str, Any], seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Every arm's figures, with everybody's turn in the place."""
    scene = Scene(config, people, seed)
    on, off = scene.society("on"), scene.society("off")
    repaired, other = scene.people["theta_repaired"][0], scene.people["theta_teacher"][1]
    z = off.human - off.siblings.mean(0)
    out = {}
    for name, arm in config["arms"].items():
        place, theta_1 = places.tensors[name], places.tensors[f"{name}/teacher"]
        held = repaired if arm.told != "none" else torch.zeros_like(repaired)

        asked = Asked(scene, slot.build(arm.width), outers.tensors[name][None], arm.at_hand)
        said, predicted = asked.answer("off", torch.cat([place, held]), theta_1)
        on_answer, swaps = asked.answer("on", place[:1], theta_1)[0][0], figures.Swaps(said[0], said[1:-2], said[-2])
        metrics, parts = figures.of_outer(
            off, swaps, predicted[0], on_answer, on.teacher, scene.world.tolerance, scene.world.kind
        )
        more = {"inheritance/causal_repaired": causal.follows(said[0], said[-1:], off.human, off.repaired[None])}
        if arm.at_hand:
            f, other_f = (scene.world.answer(t, scene.x["off"]) for t in (theta_1, other))
            swapped, _ = asked.answer("off", place[:1], other)
            more["inheritance/causal_teacher"] = causal.follows(said[0], swapped, f, other_f[None])
        if arm.told != "none":
            human = scene.world.human_answer(scene.net, place[:1], scene.x["off"])
            more["joint/told_own"] = observed.r_squared(human - off.teacher, off.human - off.teacher)
            more["joint/told_private"] = observed.inner(human - off.siblings.mean(0), z) / observed.inner(z, z)
            metrics["joint/told_distance"] = places.values["distance"][name]
        metrics["joint/told_bits"] = places.values["bits"][name]
        if places.values["teacher_bits"][name] is not None:
            metrics["joint/teacher_bits"] = places.values["teacher_bits"][name]
        out[name] = {"metrics": metrics | figures.numbers(more), "parts": parts}
    return {}, out


@dataclass(frozen=True)
class Asked:
    """A trained outer θ `(1, p)`, asked with anybody in its place."""

    scene: Scene
    outer: Outer
    theta: Tensor
    at_hand: bool

    def answer(self, kind: str, place: Tensor, theta_teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Answers and predicted human answers `(K, 1, n)` with each of `(K, p2)` in the place and f `(1, p1)`."""
        scene, x, k = self.scene, self.scene.x[kind], len(place)
        f = beside(scene.world, theta_teacher, torch.tensor([self.at_hand]), x).expand(k, -1, -1)
        access = Access(whole(place[:, None]), f)
        said = self.outer.answer(scene.world, scene.net, self.theta.expand(k, -1), x[None], access)
        return said[0], said[1]


def whole(theta: Tensor) -> Leaked:
    """All of whoever is in the place, `(A, H, p2)`."""
    return Leaked(theta, torch.ones_like(theta), torch.zeros_like(theta))


def beside(world: World, theta_teacher: Tensor, at_hand: Tensor, x: Tensor) -> Tensor:
    """What A arms read beside the human's answers to x `(1, n, d)`: their f's, θ1 `(A, p1)`, or 0: `(A, 1, n)`."""
    return (world.answer(theta_teacher, x.expand(len(theta_teacher), -1, -1)) * at_hand[:, None]).unsqueeze(1)


def _everyone(scene: Scene) -> Tensor:
    """The human, its siblings and its repaired twin, `(2 + S, p2)`."""
    return torch.cat([scene.people["theta_human"][0], scene.people["theta_siblings"][0, :, 0],
                      scene.people["theta_repaired"][0]])  # fmt: skip


def _pools(arms: Mapping[str, Config]) -> list[tuple[float, bool]]:
    """Whose fresh humans the arms ask for: those of f as it is coded, and those of another teacher."""
    return [*((code, False) for code in sorted({arm.teacher_code for arm in arms.values()})),
            *([(0.0, True)] if any(arm.told == "other" for arm in arms.values()) else [])]  # fmt: skip
