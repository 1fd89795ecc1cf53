"""Is the part of a human that answers questions the smaller part of it, and can it be learned alone?

One cell is one world: a teacher, and a human who does other things as well, each to a taste of its own. The shortest
code of what answers need is held against that of all it does; fresh humans, who answer questions and nothing else, are
held against its answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field, field_validator
from torch import Tensor

from reuse_sim import specialness
from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import Refusal
from reuse_sim.experiments.scene import training_bytes
from reuse_sim.inheritance.observed import r_squared
from reuse_sim.joint import part
from reuse_sim.ledger.shortest import shortest
from reuse_sim.nets import Mlp
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream, streams
from reuse_sim.specialness import DiagonalNormal, Problem
from reuse_sim.types import Human, World

HELD = 4096
"""Questions that fits are taken on."""
LEARNED = {"fresh": "who learned f", "told": "who learned f, told every second answer by the human"}

METHOD = (
    "A teacher f is drawn; a human learns it with one output of its network and a taste of its own with each of the "
    "further ones. |θ2| is its shortest code that keeps every output within the tolerance of what it was, in mean "
    "square over named on-distribution questions and as a share of the variance of f or the taste. The part that "
    "answers need is the shortest code of the parameters that lead to the answers, at the same tolerance of the "
    "answers alone, or the whole code if that is shorter. Fresh humans of the same trunk and effort, with one output, "
    "learn f, or f with every second answer told by the human; their fit is to the human's answers. Specialness, by "
    "sequential Monte Carlo under the initialisation prior, is of the answers to f, and of all outputs to f and the "
    "tastes, within the same tolerance on the mean over outputs; were every one to be within it, the share of the "
    "answers would be smaller yet."
)

METRICS = (
    Metric("joint/part_over_whole", "1", "bits of θ2 that answers need, as a share of those that all it does needs",
           headline=True),
    *(metric for name, who in LEARNED.items() for metric in (
        Metric(f"joint/{name}_on_fit", "R²", f"fit of fresh humans {who} to the human's answers, on-distribution",
               headline=True),
        Metric(f"joint/{name}_off_fit", "R²", f"fit of fresh humans {who} to the human's answers, off-distribution",
               headline=True))),
    Metric("ledger/human_bits", "bits", "|θ2| within the tolerance of all it does"),
    Metric("ledger/answering_bits", "bits", "of θ2, what answers need"),
    Metric("specialness/answers_bits", "bits", "S of the answers alone"),
    Metric("specialness/whole_bits", "bits", "S of all it does"),
    Metric("specialness/answers_over_whole", "1", "S of the answers as a share of S of all", headline=True),
    Metric("human/worst_consistency", "", "mean squared error of the human's worst output, as a share of variance"),
    Metric("human/on_fit", "R²", "fit of the human to the teacher, on-distribution"),
    Metric("human/off_fit", "R²", "fit of the human to the teacher, off-distribution"),
    Metric("human/behaviour_fit", "R²", "fit of the human's further outputs to its tastes, on-distribution; none where "
           "there are none"),
)  # fmt: skip


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    questions: int = Field(128, ge=2, le=100_000, description="on-distribution questions of codes and specialness")
    tolerance: float = Field(gt=0, le=100, description="mean squared error, as a share of an output's variance, that "
                             "codes may leave and that counts as consistent")  # fmt: skip
    fresh: int = Field(8, ge=1, le=4096, description="fresh humans of each kind")
    effort: float = Field(1.0, gt=0, le=100, description="of the sampler")

    @field_validator("human")
    @classmethod
    def _that_behaves(cls, human: Plugin) -> Plugin:
        if "behaviours" not in human.options:
            raise ValueError("a human with an option 'behaviours', such as descent")
        return human


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world. Raises Refusal where a human's training broke."""
    return {name: measure(arm, seed, store) for name, arm in arms.items()}


def measure(arm: Config, seed: int, store: Store) -> Measured:
    """One arm; specialness has no figure where the human is not consistent itself, or a sampler is not sure of it."""
    about = {k: getattr(arm, k) for k in ("world", "human", "fresh")}
    people = store.stage("human and fresh ones", train_people, config=about, seed=seed)
    if people.values["broken"]:
        raise Refusal(f"a human's training broke: {people.values['broken'][0]}; lower human.rate")
    named = about | {"questions": arm.questions}
    lengths = store.stage("part and whole", codes, people, config=named | {"tolerance": arm.tolerance}, seed=seed)
    asked = named | {"tolerance": arm.tolerance, "effort": arm.effort}
    said = store.stage("specialness of part and whole", sample, people, config=asked, seed=seed).values
    metrics = people.values["fits"] | dict(lengths.values) | said["metrics"]
    silent = [m.name for m in METRICS if metrics.get(m.name) is None]
    reason = "; ".join([*said["trouble"], *([f"there is no {', '.join(silent)}"] if silent else [])])
    return Measured({m.name: metrics.get(m.name) for m in METRICS}, {}, people.sha256, "ok", reason)


def train_people(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """θ1, θ2, fresh humans `(N, p)` by what they learned, and fits."""
    world: World = config["world"].build()
    human: Human = config["human"].build()
    alone: Human = config["human"].model_copy(update={"options": {**config["human"].options, "behaviours": 0}}).build()
    theta_1, n = world.teacher([stream(seed, "teacher")]), config["fresh"]
    fits = {"human": human.train(world, human.init(world, [stream(seed, "human/init")]), theta_1,
                                 [stream(seed, "human/questions")])}  # fmt: skip
    net, little = human.net(world), alone.net(world)
    theta_2 = fits["human"].theta
    theta_0 = alone.init(world, streams(seed, [f"fresh/{k}/init" for k in range(n)]))
    teachings: dict[str, Any] = {"fresh": world, "told": part.Told(world, net, theta_2)}
    for name, teaching in teachings.items():
        own = streams(seed, [f"fresh/{k}/questions" for k in range(n)])
        fits[name] = alone.train(teaching, theta_0, theta_1.expand(n, -1), own)
    told: dict[str, float] = {}
    for kind, draw in (("on", world.on_distribution), ("off", world.off_distribution)):
        x = draw(theta_1, HELD, [stream(seed, f"ask/{kind}")])
        answers = world.human_answer(net, theta_2, x)
        told[f"human/{kind}_fit"] = float(r_squared(answers, world.answer(theta_1, x)))
        for name in LEARNED:
            theirs = world.human_answer(little, fits[name].theta, x)
            told[f"joint/{name}_{kind}_fit"] = float(r_squared(theirs, answers.expand_as(theirs)).mean())
    x = world.on_distribution(theta_1, HELD, [stream(seed, "ask/on")])
    if net.sizes[-1] > 1:
        does, likes = net.forward(theta_2, x)[0, :, 1:], targets(config, theta_1, x, seed)[:, 1:]
        told["human/behaviour_fit"] = float(r_squared(does.T, likes.T).mean())
    tensors = {"theta_teacher": theta_1, "theta_human": theta_2, **{f"theta_{k}": fits[k].theta for k in LEARNED}}
    return tensors, {"broken": [s for fit in fits.values() for s in fit.broken.values()], "fits": told}


def targets(config: Mapping[str, Any], theta_teacher: Tensor, x: Tensor, seed: int) -> Tensor:
    """What the human's outputs learn of x `(1, n, d)`: f, then its tastes, `(n, outputs)`."""
    world: World = config["world"].build()
    likes = config["human"].build().tastes(world, theta_teacher, [stream(seed, "human/questions")])
    f = world.answer(theta_teacher, x).unsqueeze(-1)
    return (f if likes is None else torch.cat([f, likes.answer(x)], dim=-1))[0]


class Scene:
    """One world in float64: networks, questions, what is right on them, and the variance of each of it."""

    def __init__(self, people: Stored, config: Mapping[str, Any], seed: int) -> None:
        self.world: World = config["world"].build()
        self.net: Mlp = config["human"].build().net(self.world)
        self.theta_1, self.theta_2 = people.tensors["theta_teacher"], people.tensors["theta_human"][0].double()
        x = self.world.on_distribution(self.theta_1, config["questions"], [stream(seed, "questions")])
        self.x, self.right = x[0].double(), targets(config, self.theta_1, x, seed).double()
        self.variance = self.right.var(0, correction=0)


def codes(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The shortest codes of the whole and of the part."""
    scene, tol = Scene(people, config, seed), config["tolerance"]
    net, prior_sd = scene.net, scene.net.prior_sd(torch.float64)
    does = net.forward(scene.theta_2, scene.x)
    all_of_it = part.worst_output(net, scene.x, does, scene.variance)
    whole = float(shortest(scene.theta_2, prior_sd, all_of_it, tol, f"{seed}/whole").bits)
    answers = whole
    if net.sizes[-1] > 1:
        theirs = part.answering(net)
        near = part.worst_output(part.part(net), scene.x, does[:, :1], scene.variance[:1])
        answers = min(whole, float(shortest(scene.theta_2[theirs], prior_sd[theirs], near, tol, f"{seed}/part").bits))
    return {}, {"ledger/human_bits": whole, "ledger/answering_bits": answers, "joint/part_over_whole": answers / whole}


def sample(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """S of the answers and of all it does, and why they may be no figures."""
    scene, tol = Scene(people, config, seed), config["tolerance"]
    net, told = scene.net, (scene.x, scene.right, scene.variance)
    problems = {"answers": Problem.for_human(scene.world, scene.theta_1[0], part.part(net), scene.x, tolerance=tol)}
    if net.sizes[-1] > 1:
        gradient = part.mean_output(net, *told)
        problems["whole"] = Problem(
            net.p, DiagonalNormal(net.prior_sd(torch.float64), "initialisation prior"),
            lambda theta: gradient(theta)[0], tol, f"the same, the mean over f and {net.sizes[-1] - 1} tastes",
            gradient=gradient, probe=lambda theta: net.forward(theta, scene.x).flatten(1),
        )  # fmt: skip
    whole_off = float(list(problems.values())[-1].cost(scene.theta_2[None]))
    answers_off = float(problems["answers"].cost(scene.theta_2[part.answering(net)][None]))
    metrics: dict[str, float | None] = {
        "human/worst_consistency": float(part.worst_output(net, *told)(scene.theta_2[None]))}  # fmt: skip
    if max(whole_off, answers_off) > tol:
        why = f"the human itself is not consistent ({max(whole_off, answers_off):.3g} > {tol:.3g})"
        return {}, {"metrics": metrics, "trouble": [why]}
    said = {name: specialness.estimate(problem, "smc", config["effort"], generator=stream(seed, f"specialness/{name}"))
            for name, problem in problems.items()}  # fmt: skip
    trouble = [f"specialness of the {k}: {e.status}" for k, e in said.items() if e.status != "converged"]
    bits = {name: e.bits if e.status == "converged" else None for name, e in said.items()}
    answers, whole = bits["answers"], bits.get("whole", bits["answers"])
    share = None if answers is None or whole is None else answers / max(whole, 1e-9)
    metrics |= {"specialness/answers_bits": answers, "specialness/whole_bits": whole,
                "specialness/answers_over_whole": share}  # fmt: skip
    return {}, {"metrics": metrics, "trouble": trouble}


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the sampler's population with its gradients, or the training of the fresh humans."""

    def one(c: Config) -> int:
        human, world = c.human.build(), c.world.build()
        net = human.net(world)
        sampling = 8 * round(4000 * max(1.0, c.effort)) * (c.questions * 4 * sum(net.sizes) + 8 * net.p)
        return max(sampling, training_bytes(human, world, c.fresh))

    return max(map(one, arms.values())) + 2**29  # and the libraries themselves
