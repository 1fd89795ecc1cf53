"""How many labels does a policy take that has modelled many humans: to answer as one of them does, or as f does?

One cell is one world: many humans, two context outers that learned to predict them, one with their parameters at hand
and one without, and for humans that neither has seen heads that learn to answer from few labels. Arms are whose answers
are the labels, and which outer the head stands on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments.balls import check_regression
from reuse_sim.experiments.scene import Scene, measure_humans, people_bytes, train_people
from reuse_sim.humans.people import Population
from reuse_sim.inheritance import observed
from reuse_sim.outers import context, few_labels, training
from reuse_sim.outers.few_labels import WAYS, Reached
from reuse_sim.outers.training import Training
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream, streams
from reuse_sim.types import Access, Leaked

METHOD = (
    "Many humans learn by gradient descent. A context outer learns to predict their answers, on- and off-distribution, "
    "with their parameters in its context; another is shown none. Neither learns to answer. Then, for humans that "
    "neither has seen, a small head learns to answer on-distribution questions from n labels, the human's answers or "
    "f's, the outer staying as it is. Heads read the question and the outer's units, or the question and what the "
    "outer predicts that the human says, or that prediction P alone, as a P + b; the first two have ReLU units. The "
    "tolerance is the human's own mean squared error to f. What it takes is the n from which on the error to whoever "
    "labels, on held-out on-distribution questions and summed over humans, stays within the tolerance, interpolated on "
    "logarithms, by the way of reading that takes the fewest. All ratios are to what it takes to answer as the human "
    "does with its parameters at hand."
)

RATIO = "to those of the human's answers with θ2 at hand"
METRICS = (
    Metric("policy/examples_log2", "log₂ examples", "Examples that the policy takes, by the best way of reading; none "
           "where that lies beyond the numbers that were tried.", headline=True),
    Metric("policy/censored", "share", "Worlds where it does.", binary=True),
    Metric("policy/ratio", "1", f"The ratio of its examples {RATIO}; where one of both is only bounded, what it is at "
           "least; none where nothing is known from below.", r"n/n_{H,\theta_2}", headline=True),
    Metric("policy/ratio_most", "1", "What it is at most; none where nothing is known from above."),
    Metric("policy/ratio_bounded", "share", "Worlds where that ratio is a bound.", headline=True, binary=True),
    *(Metric(f"policy/{way}_log2", "log₂ examples", f"Examples by heads that read {what}; none beyond what was tried.")
      for way, what in (("units", "the question and the outer's units"),
                        ("prediction", "the question and the predicted human answer"),
                        ("readout", "that prediction alone"))),
    Metric("policy/units_ratio", "1", f"The ratio of examples {RATIO}, both by heads that read the question and the "
           "outer's units; at least, where bounded.", headline=True),
    Metric("policy/error_few", "tolerances", "Error with four labels, by the way that reads the prediction alone."),
    Metric("policy/error_many", "tolerances", "Error with all labels that were tried, by the best way."),
    Metric("outer/human_fit", "R²", "How the outer predicts the humans on-distribution, before any label."),
    Metric("human/on_fit", "R²", "Fit of the humans to f on-distribution."),
    Metric("human/off_fit", "R²", "Fit of the humans to f off-distribution."),
)  # fmt: skip

SHARED = ("world", "human", "population", "width", "training", "doublings", "asked", "head_width", "head_steps",
          "head_rate", "head_batch")  # fmt: skip


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    population: Population = Population(teachers="each", humans=192, held_out=8, siblings=3)
    width: int = Field(12, gt=0, le=1024, description="units of the context outer")
    training: Training = Training()
    doublings: int = Field(10, ge=2, le=16, description="labels are 1, 2, 4, … up to 2 to this power")
    asked: int = Field(1000, ge=30, le=100_000, description="held-out questions per human")
    head_width: int = Field(32, gt=0, le=1024, description="ReLU units of an answer head")
    head_steps: int = Field(300, gt=0, le=100_000)
    head_rate: float = Field(0.02, gt=0, le=10)
    head_batch: int = Field(32, gt=0, le=10_000)

    labels: Literal["human", "teacher"] = Field("human", description="whose answers are learned")
    known: bool = Field(True, description="whether the outer has θ2 at hand")

    @model_validator(mode="after")
    def _held_out(self) -> Config:
        if not self.population.held_out:
            raise ValueError("population.held_out of at least 1: policies are of humans that no outer has seen")
        return self


def check(arms: Mapping[str, Config]) -> None:
    """Raises InputError where answers are no numbers, or no arm, or more than one, is what ratios are to."""
    check_regression(arms)
    if len([name for name, arm in arms.items() if _is_base(arm)]) != 1:
        raise InputError("arms", ", ".join(arms), "one with labels: human and known: true, to which ratios are")
    first = next(iter(arms.values()))
    net = first.human.build().net(first.world.build())
    context.neuron_tokens(net, torch.zeros(net.p))


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world. Raises Refusal where a human's training broke."""
    first = next(iter(arms.values()))
    about = {"world": first.world, "strength": 1.0, "population": first.population, "human": first.human,
             "repair_share": 0.5}  # fmt: skip
    people = store.stage("people", train_people, config=about, seed=seed)
    if people.values["broken"]:
        raise Refusal(f"a human's training broke: {people.values['broken'][0]}; lower human.rate")
    about |= {"questions": first.asked}
    human = store.stage("human figures", measure_humans, people, config=about, seed=seed).values
    how = about | {"width": first.width, "training": first.training}
    outers = store.stage("modelled", model_humans, people, config=how, seed=seed)
    if outers.values["broken"]:
        raise Refusal(f"an outer's training broke: {outers.values['broken']}; lower training.rate")
    how |= {name: getattr(first, name) for name in ("doublings", "head_width", "head_steps", "head_rate", "head_batch")}
    how |= {"arms": {name: (arm.labels, arm.known) for name, arm in arms.items()}}
    learned = store.stage("policies", learn_policies, people, outers, config=how, seed=seed)
    sha256 = hashlib.sha256("".join(s.sha256 for s in (people, outers, learned)).encode()).hexdigest()
    counts = [2**k for k in range(first.doublings + 1)]
    base = next(name for name, arm in arms.items() if _is_base(arm))
    ways = {name: said_by(learned.values["excess"][name], counts) for name in arms}
    fits = {f"human/{kind}_fit": human[f"human/{kind}_fit"] for kind in ("on", "off")}
    out = {}
    for name, arm in arms.items():
        fit = {"outer/human_fit": outers.values["fit"][int(not arm.known)]}
        metrics, told = summary(ways[name], ways[base], learned.values["excess"][name], counts)
        known = metrics["policy/ratio"] is not None
        out[name] = Measured({**metrics, **fit, **fits}, {"excess": learned.values["excess"][name], "counts": counts},
                             sha256, "ok" if known else "undecided", told)  # fmt: skip
    return out


def said_by(excess: Mapping[str, Sequence[float]], counts: Sequence[int]) -> dict[str, Reached]:
    """What each way of reading takes, from its error in tolerances at each number of labels."""
    return {way: few_labels.reached(counts, excess[way]) for way in WAYS}


def summary(
    ways: Mapping[str, Reached], base: Mapping[str, Reached], excess: Mapping[str, Sequence[float]],
    counts: Sequence[int],
) -> tuple[dict[str, float | None], str]:
    """The metrics of one arm, and a sentence on what is bounded or not told."""
    own, to = few_labels.fewest(list(ways.values())), few_labels.fewest(list(base.values()))
    itself = ways is base  # 1, wherever it lies
    low, high = (1.0, 1.0) if itself else few_labels.ratio(own, to)
    units = 1.0 if itself else few_labels.ratio(ways["units"], base["units"])[0]
    metrics: dict[str, float | None] = {
        "policy/examples_log2": own.low if own.known else None,
        "policy/censored": float(not own.known),
        "policy/ratio": low if low > 0 else None,
        "policy/ratio_most": high if math.isfinite(high) else None,
        "policy/ratio_bounded": float(low < high),
        **{f"policy/{way}_log2": r.low if r.known else None for way, r in ways.items()},
        "policy/units_ratio": units if units > 0 else None,
        "policy/error_few": excess["readout"][2],
        "policy/error_many": min(curve[-1] for curve in excess.values()),
    }
    said = []
    if not own.known:
        said.append(f"censored: it takes more than {counts[-1]} examples" if math.isfinite(own.low)
                    else f"censored: it takes {counts[0]} example or fewer")  # fmt: skip
    if low < high:
        said.append("the ratio is only bounded")
    silent = [name for name, value in metrics.items() if value is None]
    said += [f"not told: {', '.join(silent)}"] if silent else []
    return metrics, "; ".join(said)


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: people in training, the outers, or all heads at once."""
    c = next(iter(arms.values()))
    net = c.human.build().net(c.world.build())
    heads = len(arms) * len(WAYS) * (c.doublings + 1) * c.population.held_out
    read = c.width + c.head_width + net.sizes[0] + 2
    training_them = 8 * heads * (c.head_batch + c.head_width) * read
    asked = 8 * (c.doublings + 1) * c.population.held_out * c.asked * read
    many = 2 * c.population.held_out * (2**c.doublings + c.asked) * net.sizes[1] * c.width * 6
    return people_bytes(c) + 4 * max(training_them, asked, many) + 2**29  # and the libraries themselves


# Stages ----------------------------------------------------------------------------------------------


def model_humans(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Two outers that predict humans, with θ2 at hand and without, `(2, p)`; and their fit to held-out ones."""
    scene, outer = Scene(config, people, seed), context.build(config["width"])
    how = config["training"].model_copy(update={"begins": 1.0})  # nothing is asked: they only predict
    theta_2, theta_1 = (scene.people[name][0, scene.training] for name in ("theta_human", "theta_teacher"))
    shown = at_hand(theta_2)
    room = training.Classroom(scene.world, scene.net, theta_2, theta_1)
    start, questions = streams(seed, ["outer/init"] * 2), stream(seed, "outer/questions")
    fit = training.train(outer, [how, how], room, lambda step: shown, start, questions)
    everyone = scene.people["theta_human"][0, scene.measured]
    said = outer.answer(scene.world, scene.net, fit.theta, scene.x["on"][None], Access(at_hand(everyone)))[1]
    human = scene.society("on").human
    fits = [float(observed.r_squared(p, human)) for p in said]
    return {"theta": fit.theta}, {"fit": fits, "broken": next(iter(fit.broken.values()), "")}


def learn_policies(
    people: Stored, outers: Stored, config: Mapping[str, Any], seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Heads of every arm, way of reading, number of labels and held-out human, `(N, p)`, and their errors.

    An error is over held-out questions of all humans, in tolerances: mean squares of the human less f over the same.
    """
    scene, outer, arms = Scene(config, people, seed), context.build(config["width"]), config["arms"]
    world, net, counts = scene.world, scene.net, [2**k for k in range(config["doublings"] + 1)]
    human, humans = scene.people["theta_human"][0, scene.measured], len(scene.theta_teacher)
    access = Access(at_hand(human))
    names = [f"labelled/{h}" for h in range(humans)]
    x = {"few": world.on_distribution(scene.theta_teacher, counts[-1], streams(seed, names)), "held": scene.x["on"]}
    theta = outers.tensors["theta"]
    read = {kind: few_labels.inputs(outer, world, net, theta, q[None], access) for kind, q in x.items()}
    answers = {kind: {"human": world.human_answer(net, human, q), "teacher": world.answer(scene.theta_teacher, q)}
               for kind, q in x.items()}  # fmt: skip
    # One set of labels per arm and human; a head for each set, way and number.
    sets = {kind: torch.cat([read[kind][int(not known)] for _, known in arms.values()]) for kind in x}
    labels = torch.cat([answers["few"][source] for source, _ in arms.values()])
    shape = (len(arms), len(WAYS), len(counts), humans)
    arm, way, count, who = (i.flatten() for i in torch.meshgrid(*map(torch.arange, shape), indexing="ij"))
    heads = few_labels.Heads(world.d, outer.width, config["head_width"], way)
    fit = few_labels.learn(
        heads, sets["few"], labels, torch.tensor(counts)[count], arm * humans + who, config["head_steps"],
        config["head_rate"], config["head_batch"], streams(seed, [f"head/{h}" for h in who.tolist()]),
        stream(seed, "head/questions"),
    )  # fmt: skip
    held = answers["held"]
    tolerance = (held["human"] - held["teacher"]).square().mean()
    excess: dict[str, dict[str, list[float]]] = {}
    for a, (name, (source, _)) in enumerate(arms.items()):
        excess[name] = {}
        for w, what in enumerate(WAYS):
            these = (arm == a) & (way == w)
            some = few_labels.Heads(heads.d, heads.z, heads.width, way[these])
            with torch.no_grad():
                said = some.answer(fit.theta[these], sets["held"][(arm * humans + who)[these]])
            error = (said.unflatten(0, (len(counts), humans)) - held[source]).square().mean((1, 2))
            excess[name][what] = (error / tolerance).tolist()
    return {"theta": fit.theta}, {"excess": excess}


def at_hand(theta_human: Tensor) -> Leaked:
    """Humans θ2 `(H, p2)` as two outers see them: all of them, and nothing, `(2, H, p2)`."""
    known = torch.stack([torch.ones_like(theta_human), torch.zeros_like(theta_human)])
    return Leaked(known * theta_human, known, 1 - known)


def _is_base(arm: Config) -> bool:
    return arm.labels == "human" and arm.known
