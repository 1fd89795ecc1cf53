"""The stages of one world of humans that no learner may rederive: people, learners, their fits, and bits.

Each is a function of what came before, its configuration and the seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from reuse_sim.artifacts import Stored
from reuse_sim.experiments.balls import Scene, plain, written
from reuse_sim.humans.distilled import Family
from reuse_sim.inheritance import observed
from reuse_sim.joint import fresh
from reuse_sim.leaks import drip, fixed
from reuse_sim.leaks.codec import field_scale
from reuse_sim.rng import stream, streams
from reuse_sim.specialness import estimate, frequency
from reuse_sim.types import BITS, World

if TYPE_CHECKING:
    from reuse_sim.experiments.human_beyond_sgd import Config

MARGIN = 1.25
"""The tolerance of S, in units of the human's own mean of (H − f)²."""
SCANS, LEARNED = 0.95, 0.6
"""A human is memorised from that fit on, and not rederived up to this one."""


def train_people(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The teacher `(1, p1)`, the human `(1, p2)` and fresh ones of its kind `(count − 1, p2)`."""
    world = config["world"].build()
    theta_1 = world.teacher([stream(seed, "teacher")])
    fit = fresh.train(world, config["human"].build(), theta_1, seed, range(config["count"]), "human")
    tensors = {"theta_teacher": theta_1, "theta_human": fit.theta[:1], "theta_fresh": fit.theta[1:]}
    return tensors, {"broken": list(fit.broken.values())}


def train_learners(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Learners `(count, p)` of f's on-distribution answers."""
    world = config["world"].build()
    theta_1 = world.teacher([stream(seed, "teacher")])
    fit = fresh.train(world, config["learner"].build(), theta_1, seed, range(config["count"]), "learner")
    return {"theta": fit.theta}, {"broken": list(fit.broken.values())}


def train_on_human(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Learners `(count, p)` of what the human answers to on-distribution questions."""
    world, net = config["world"].build(), config["human"].build().net(config["world"].build())
    theta_1 = people.tensors["theta_teacher"]
    family = cast(World, Family(world, net, theta_1.shape[1]))
    told = torch.cat([theta_1, people.tensors["theta_human"]], dim=1)
    fit = fresh.train(family, config["learner"].build(), told, seed, range(config["count"]), "learner")
    return {"theta": fit.theta}, {"broken": list(fit.broken.values())}


def fits(people: Stored, *rest: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """How scans, learners of each width and fresh humans predict H off-distribution; then configuration and seed."""
    *learned, config, seed = rest
    world, human = config.world.build(), config.human.build()
    theta_1, theta_2 = people.tensors["theta_teacher"], people.tensors["theta_human"]
    on, off = (draw(theta_1, config.asked, [stream(seed, f"{where}/questions")])
               for where, draw in (("on", world.on_distribution), ("off", world.off_distribution)))  # fmt: skip
    net = human.net(world)
    actual = world.human_answer(net, theta_2.unsqueeze(1), off)[0]

    def fit(theta: Tensor, architecture: Any = net) -> float:
        answers = world.human_answer(architecture, theta.unsqueeze(1), off)
        return float(observed.r_squared(answers, actual).mean())

    scanned, share = scan(config, net, theta_2[0], stream(seed, "scans"))
    by: dict[str, dict[str, float]] = {"teacher": {}, "behaviour": {}}
    for width, pair in zip(config.widths, zip(learned[::2], learned[1::2], strict=True), strict=True):
        architecture = config.learner_of(width).build().net(world)
        for source, stage in zip(by, pair, strict=True):
            by[source][str(width)] = fit(stage.tensors["theta"], architecture)
    truth, on_answer = world.answer(theta_1, off), world.human_answer(net, theta_2.unsqueeze(1), on)[0]
    teacher = max(*by["teacher"].values(), float(observed.r_squared(truth, actual)))
    behaviour, scans = max(by["behaviour"].values()), fit(scanned[None])
    best = max(teacher, behaviour)
    metrics = {
        "rederive/scans_fit": scans, "rederive/learned_fit": best,
        "rederive/both": float(scans >= SCANS and best <= LEARNED), "rederive/from_teacher_fit": teacher,
        "rederive/from_behaviour_fit": behaviour, "rederive/fresh_fit": fit(people.tensors["theta_fresh"]),
        "rederive/told_share": share,
        "human/on_fit": float(observed.fit(world.kind, on_answer, world.answer(theta_1, on))),
        "human/off_fit": float(observed.fit(world.kind, actual, truth)),
    }  # fmt: skip
    return {}, {"metrics": metrics, "parts": {"by_width": by}}


def scan(config: Config, net: Any, theta_human: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
    """θ2 `(p,)` as a table has it that was told bits with every question of a learner's, and the share told."""
    steps, batch = (config.learner.options[name] for name in ("steps", "batch"))
    channel = drip.build(min(config.scan_bits * batch, float(net.p * BITS)))
    known = channel.schedule(net, steps, generator).when <= steps
    scale = field_scale(net, theta_human)
    said = fixed.decode(fixed.encode(theta_human, scale), known, scale)
    return said.value, float(known.float().mean())


def weigh(
    people: Stored, learners: Stored, config: Mapping[str, Any], seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Bits of the human outright, twice, given learners, and as written; and its specialness, twice."""
    about = {**config, "where": "on_and_off", "centre": "human"}
    scene, theta = Scene(people, about, seed), learners.tensors["theta"].double()
    whole, net = scene.problem(), scene.net
    event = {**config, "where": "on", "centre": "teacher", "tolerance": MARGIN * scene.consistency()}
    special = Scene(people, event, seed).problem()

    def twice(problem: Any, name: str) -> list[dict[str, Any]]:
        return [plain(estimate(problem, "smc", config["effort"], generator=g))
                for g in streams(seed, [f"{name}/{run}" for run in range(2)])]  # fmt: skip

    near = scene.counting(config["learner"].build().net(scene.world))
    counted, distance = frequency.estimate_from(theta, near), near.cost(theta)
    codes = written(whole, net, scene.theta_human[0], theta, distance, f"{seed}/human")
    return {}, {
        "mass": twice(whole, "mass"), "special": twice(special, "special"), "given": counted.bits,
        "given_least": counted.low, "hits": counted.diagnostics["hits"], **codes,
        "median_distance": float(distance.median()), "nearest_distance": float(distance.min()),
    }  # fmt: skip
