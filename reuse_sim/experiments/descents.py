"""The descents of one world under a leak: what trains, walks and samples for the experiment on free specialness.

Each stage is a function of the people, its configuration and the seed, so that arms share what they have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from reuse_sim import specialness
from reuse_sim.artifacts import Stored
from reuse_sim.errors import InputError
from reuse_sim.inheritance.observed import r_squared
from reuse_sim.nets import Mlp
from reuse_sim.plugins import STRICT
from reuse_sim.rng import stream
from reuse_sim.specialness import Problem, path_curvature, path_failures, path_work, plain_descent
from reuse_sim.specialness.human import squared_gradient
from reuse_sim.specialness.known import Leak, early, given
from reuse_sim.specialness.path_work import Path
from reuse_sim.types import Estimate, World

FAILURES = {"share": path_failures.share_bits, "cosine": path_failures.cosine_bits,
            "gaussian": path_failures.gaussian_bits}  # fmt: skip
CURVED = 4
"""Descents of which the curvature is taken."""


Tolerances = Annotated[
    dict[int, Annotated[float, Field(gt=0)]],
    Field(description="the largest C that counts as consistent, by the human's width"),
]


class Learner(BaseModel):
    """`count` plain descents by Adam on the human's behaviour, each from its own draw of the reference."""

    model_config = STRICT
    count: int = Field(default=8, ge=2, le=1024)
    steps: int = Field(default=1200, ge=20, le=1_000_000)
    rate: float = Field(default=0.01, gt=0, le=10)
    told_by: float = Field(
        default=0.025, gt=0, le=1, description="the share of its steps within which the leak is over"
    )


class Separate(BaseModel):
    """The sampler that no leak concerns: one of `specialness.METHODS` for hard events."""

    model_config = STRICT
    method: str = "smc"
    effort: float = Field(default=1.0, gt=0, le=1000)


def net_of(arm: Any) -> Mlp:
    """The human's architecture; `arm` is a configuration with a world, a human and tolerances."""
    return arm.human.build().net(arm.world.build())


def tolerance_of(arm: Any) -> float:
    """The tolerance for humans of this width."""
    return arm.tolerances[net_of(arm).sizes[1]]


def check_tolerances(arms: Mapping[str, Any]) -> None:
    """Raises InputError where a human's width has no tolerance."""
    for name, arm in arms.items():
        width = net_of(arm).sizes[1]
        if width not in arm.tolerances:
            raise InputError(f"arm {name}: tolerances", sorted(arm.tolerances), f"one for width {width}")


def train_people(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """θ1 `(1, p1)` and θ2 `(1, p2)`, the human's C and fits."""
    world, human = config["world"].build(), config["human"].build()
    theta_1 = world.teacher([stream(seed, "teacher")])
    fit = human.train(world, human.init(world, [stream(seed, "human/init")]), theta_1,
                      [stream(seed, "human/questions")])  # fmt: skip
    tensors = {"theta_teacher": theta_1, "theta_human": fit.theta}
    scene = Scene(tensors, config, seed)
    values: dict[str, Any] = {"specialness/consistency": float(scene.problem.cost(scene.theta_2[None])),
                              "broken": list(fit.broken.values())}  # fmt: skip
    for kind, source in (("on", world.on_distribution), ("off", world.off_distribution)):
        x = source(theta_1, 4096, [stream(seed, f"ask/{kind}")])
        answers = world.human_answer(scene.net, fit.theta, x)
        values[f"human/{kind}_fit"] = float(r_squared(answers, world.answer(theta_1, x)))
    return tensors, values


def sample(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """S by the separate sampler, on two streams."""
    problem, how = Scene(people.tensors, config, seed).problem, config["separate"]
    generators = [stream(seed, f"separate/{k}") for k in range(2)]
    return {}, {"twice": [plain(specialness.estimate(problem, how.method, how.effort, generator=g))
                          for g in generators]}  # fmt: skip


def sample_given(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """S given what leaked; all being told, 0 bits where the human is consistent and nothing where it is not."""
    scene, how = Scene(people.tensors, config, seed), config["separate"]
    known = scene.known(config["leak"])
    if bool(known.all()):
        inside = float(scene.problem.cost(scene.theta_2[None])) <= scene.problem.tolerance
        return {}, {"given": {"bits": 0.0, "status": "by construction"} if inside else None}
    left = given(scene.problem, scene.theta_2, known)
    found = plain(specialness.estimate(left, how.method, how.effort, generator=stream(seed, "separate/given")))
    return {}, {"given": found if reached(found) else None}


def walk(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What annealed descents under one leak could harvest: free, its curvature, own, replay."""
    scene, plan = Scene(people.tensors, config, seed), config["path"]
    problem, known = scene.problem, scene.known(config["leak"])
    leak = early(scene.theta_2, known)
    quantity = "specialness given what leaked" if bool(known.any()) else "specialness"

    def path(name: str, leak: Leak, **more: Any) -> Path:
        return path_work.descend(problem, plan, stream(seed, name), leak, **more)

    free = path("path/free", leak, keep=200)
    own = path("path/own", leak, along=scene.behaviour)
    drawn = problem.reference.sample(plan.walkers, stream(seed, "path/anew"))
    anew = path("path/free", Leak(drawn, leak.when), schedule=free.schedule) if bool(known.any()) else free
    found = {
        "free": path_work.weigh(problem, free, quantity=quantity),
        "own": path_work.weigh(problem, own, quantity=quantity),
        "replay": path_work.weigh(problem, anew),
    }
    if len(free.theta):
        found["curvature"] = path_curvature.weigh(problem, free.theta[:, :CURVED])
    return {}, {"curvature": None, **{name: plain(e) for name, e in found.items()}}


def restart(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same descent on consistency begun anew, with nothing held."""
    problem = Scene(people.tensors, config, seed).problem
    path = path_work.descend(problem, config["path"], stream(seed, "path/restart"))
    return {}, {"restart": plain(path_work.weigh(problem, path))}


def learn(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Plain descents on the human's behaviour, and what their iterates could tell."""
    scene, how = Scene(people.tensors, config, seed), config["learner"]
    problem, leak = scene.problem, early(scene.theta_2, scene.known(config["leak"]), how.told_by)
    path = plain_descent.iterates(scene.behaviour, stream(seed, "learners"), count=how.count, steps=how.steps,
                                  rate=how.rate, leak=leak)  # fmt: skip
    over = round(how.told_by * how.steps) + 1
    spread = path.z[over:].flatten(0, 1).var(0).clamp(max=1).mean()
    fit = [float(1 - scene.behaviour.cost(path.theta[at]).median()) for at in (over, -1)]
    learner = {"specialness/alternatives": float(spread), "specialness/leak_fit": fit[0],
               "specialness/learner_fit": fit[1]}  # fmt: skip
    for name, bits_of in FAILURES.items():
        learner[f"specialness/{name}_bits"] = float(bits_of(problem, path).mean())
    curvature = path_curvature.weigh(problem, path.theta[:, :CURVED])
    return {}, {"learner": learner, "own_curvature": plain(curvature)}


class Scene:
    """One world in float64: its problem, its human, and what the learner sees of the human."""

    def __init__(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any], seed: int) -> None:
        self.seed, self.world = seed, config["world"].build()
        self.net: Mlp = config["human"].build().net(self.world)
        theta_1, self.theta_2 = tensors["theta_teacher"], tensors["theta_human"][0].double()
        world: World = self.world
        self.asked, self.watched = (world.on_distribution(theta_1, config[n], [stream(seed, n)])[0]
                           for n in ("questions", "watched"))  # fmt: skip
        self.problem = Problem.for_human(
            world, theta_1[0], self.net, self.asked, tolerance=config["tolerance"],
            questions=f"{len(self.asked)} on-distribution questions of the {config['world'].use} world",
        )  # fmt: skip

    @property
    def behaviour(self) -> Problem:
        """The learner's own loss: the mean of (H_θ − H)²/var H over the watched questions."""
        x, world, net = self.watched.double(), self.world, self.net
        human = world.human_answer(net, self.theta_2[None], x)[0]
        variance = human.var(correction=0)

        def cost(theta: Tensor) -> Tensor:
            return (world.human_answer(net, theta, x) - human).square().mean(-1) / variance

        words = f"mean of (H_θ - H)²/var H over {len(x)} on-distribution questions"
        gradient = squared_gradient(world.human_answer, net, x, human, variance)
        return Problem(net.p, self.problem.reference, cost, self.problem.tolerance, words, gradient=gradient)

    def known(self, share: float) -> Tensor:
        """Which coordinates `(d,)` leak: those of a smaller share among those of a larger."""
        order = torch.randperm(self.net.p, generator=stream(self.seed, "leak"))
        known = torch.zeros(self.net.p, dtype=torch.bool)
        known[order[: round(share * self.net.p)]] = True
        return known


def reached(estimate: Mapping[str, Any]) -> bool:
    """Whether a separate sampler came to the tolerance: otherwise its bits bound S from below, or nothing does."""
    return estimate["bound"] in ("two-sided", "upper")


def found_bits(estimate: Mapping[str, Any] | None) -> float | None:
    """The bits, None where the descent never came to the tolerance."""
    return None if estimate is None or "no result" in estimate["status"] else estimate["bits"]


def plain(estimate: Estimate) -> dict[str, Any]:
    """As JSON values, without the time it took, which no rerun takes again."""
    return {k: v for k, v in asdict(estimate).items() if k != "seconds"}
