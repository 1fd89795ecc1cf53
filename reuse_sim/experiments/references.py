"""How special a human is depends on what it is a fraction of: one event, one tolerance, several reference measures.

One cell is one world: a teacher, a human who learned it, and humans trained from other seeds. Arms differ in the
reference measure alone: of networks as they are initialised, as they lie around 0 with the human's own spread, as
training makes them, or of answers, counted or drawn from an infinitely wide network.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments.scene import training_bytes
from reuse_sim.inheritance import observed
from reuse_sim.nets import Mlp
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream, streams
from reuse_sim.specialness import DiagonalNormal, Problem, cases, estimate, frequency, gaussian_process
from reuse_sim.specialness.human import words
from reuse_sim.types import Estimate, Human, World

Measure = Literal["initialisation", "around_nothing", "training", "other_teacher", "counting", "gaussian_process"]

METHOD = (
    "A teacher f is drawn, a human learns it, and so do humans from other starts and questions; as many learn a "
    "teacher of their own. The event is always the same, that answers to named on-distribution questions are within "
    "one tolerance of f's, fixed beforehand for each world; only the reference measure changes. "
    "Of networks drawn at random the share is found by sequential Monte Carlo, of trained ones by counting them, with "
    "Clopper and Pearson's limits, of answers by the binomial formula or the Gaussian process's exact integral."
)

METRICS = (
    Metric("specialness/bits", "bits", "Specialness under the arm's reference; none where nobody was consistent.",
           r"S = -\log_2 \mu\{C \le \tau\}", headline=True),
    Metric("specialness/low_bits", "bits", "Its lower 90 % limit."),
    Metric("specialness/high_bits", "bits", "Its upper 90 % limit."),
    Metric("specialness/bound_bits", "bits",
           "What it is at least: the lower limit, and all that is known where none of the trained was consistent.",
           headline=True),
    Metric("specialness/per_parameter_bits", "bits", "Specialness per parameter of the human.", r"S / p_2"),
    Metric("specialness/against_initialisation_bits", "bits",
           "Specialness less that under the initialisation prior, same event.", headline=True),
    Metric("specialness/consistency", "", "C of the human itself, to be compared with the tolerance."),
    Metric("specialness/human_consistent", "share", "Worlds whose human is itself within the tolerance.", binary=True),
    Metric("human/on_fit", "R² or accuracy", "Fit of the human to f, on-distribution."),
    Metric("human/off_fit", "R² or accuracy", "Fit of the human to f, off-distribution."),
)


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    questions: int = Field(64, ge=2, le=100_000, description="on-distribution questions that C is measured on")
    consistency: Literal["squared", "disagreement"] = Field("squared", description="C, as `specialness.human` has it")
    tolerance: float = Field(gt=0, le=100, description="the largest C that counts as consistent")
    reference: Measure = Field("initialisation", description="what the specialness is a fraction of")
    trained: int = Field(256, ge=10, le=100_000, description="humans trained from other seeds, of either kind")
    effort: float = Field(1.0, gt=0, le=100, description="of the samplers")


def check(arms: Mapping[str, Config]) -> None:
    """Raises InputError where a reference makes no sense of an arm's consistency."""
    for name, arm in arms.items():
        kind = arm.world.build().kind
        if arm.reference == "counting" and (kind != "classification" or arm.consistency != "disagreement"):
            got = f"{arm.consistency} in a {kind} world"
            raise InputError(f"arm {name}: reference counting", got, "disagreement in a classification world")
        if arm.reference == "gaussian_process" and (kind != "regression" or arm.consistency != "squared"):
            got = f"{arm.consistency} in a {kind} world"
            raise InputError(f"arm {name}: reference gaussian_process", got, "squared in a regression world")


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world. Raises Refusal where the human's own training broke.

    A record is undecided where its estimator does not call itself converged, unless it is an exact bound.
    """
    return {name: measure(config, seed, store) for name, config in arms.items()}


def measure(config: Config, seed: int, store: Store) -> Measured:
    """One arm; people and the estimate under the initialisation prior are shared with the others."""
    people = store.stage("people", train_people, config=_only(config, "world", "human", "trained"), seed=seed)
    if people.values["broken"]:
        raise Refusal(f"the human's training broke: {people.values['broken']}; lower human.rate")
    inputs = [people]
    if config.reference == "other_teacher":
        inputs.append(store.stage("strangers", train_strangers, config=_only(config, "world", "human", "trained"),
                                  seed=seed))

    def under(reference: Measure, *given: Stored) -> Mapping[str, Any]:
        sampled = ("effort",) if reference in ("initialisation", "around_nothing") else ()
        names = ("world", "human", "questions", "consistency", "tolerance", *sampled)
        asked = {**_only(config, *names), "reference": reference}
        return store.stage("specialness", run, *given, config=asked, seed=seed).values

    found, prior = under(config.reference, *inputs), under("initialisation", people)
    told = {"low": found["bound"] in ("two-sided", "lower"), "high": found["bound"] in ("two-sided", "upper")}
    bits = found["bits"] + 0.0 if all(told.values()) else None  # no minus before a zero
    comparable = bits is not None and prior["bound"] == "two-sided"
    scene = Scene(people, config, seed)
    metrics: dict[str, float | None] = {
        "specialness/bits": bits,
        "specialness/low_bits": found["low"] if told["low"] else None,
        "specialness/high_bits": found["high"] if told["high"] else None,
        "specialness/bound_bits": found["low"] if told["low"] else None,
        "specialness/per_parameter_bits": None if bits is None else bits / scene.net.p,
        "specialness/against_initialisation_bits": found["bits"] - prior["bits"] if comparable else None,
        **scene.figures(),
    }
    silent = [name for name, value in metrics.items() if value is None]
    exact_bound = found["bound"] == "lower" and config.reference in ("training", "other_teacher")
    trouble = "" if found["status"] == "converged" or exact_bound else f"{config.reference}: {found['status']}"
    cause = found["status"] if bits is None else f"under the initialisation prior: {prior['status']}"
    why = f"not told: {', '.join(silent)}, for {cause}" if silent else ""
    sha256 = hashlib.sha256("".join(s.sha256 for s in inputs).encode()).hexdigest()
    reason = "; ".join(filter(None, (trouble, why)))
    return Measured(metrics, found, sha256, "undecided" if trouble else "ok", reason)


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the humans in training, or a sampler's population asked all its questions at once."""
    def one(c: Config) -> int:
        human, world = c.human.build(), c.world.build()
        net, at_once = human.net(world), round(4000 * max(1.0, c.effort))
        sampling = 8 * at_once * (c.questions * 4 * sum(net.sizes) + 8 * net.p)
        return max(sampling, training_bytes(human, world, c.trained + 1))

    return max(map(one, arms.values())) + 2**29  # and the libraries themselves


# Stages ----------------------------------------------------------------------------------------------


def train_people(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The teacher `(1, p1)`, and of it the human, first, and the humans from other seeds: `(1 + trained, p2)`."""
    world, human, names = config["world"].build(), config["human"].build(), range(config["trained"] + 1)
    theta_1 = world.teacher([stream(seed, "teacher")])
    theta_0 = human.init(world, streams(seed, [f"human/{i}/init" for i in names]))
    fit = human.train(
        world, theta_0, theta_1.expand(len(names), -1), streams(seed, [f"human/{i}/questions" for i in names])
    )
    return {"theta_teacher": theta_1, "theta_human": fit.theta}, {"broken": fit.broken.get(0, "")}


def train_strangers(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Humans `(trained, p2)`, each of a teacher of its own."""
    world, human, names = config["world"].build(), config["human"].build(), range(config["trained"])
    theta_1 = world.teacher(streams(seed, [f"stranger/{i}/teacher" for i in names]))
    theta_0 = human.init(world, streams(seed, [f"stranger/{i}/init" for i in names]))
    fit = human.train(world, theta_0, theta_1, streams(seed, [f"stranger/{i}/questions" for i in names]))
    return {"theta_human": fit.theta}, {}


def run(people: Stored, *rest: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The estimate under one reference: the people, strangers where asked for, then configuration and seed."""
    *strangers, config, seed = rest
    scene = Scene(people, Asked(**{k: v for k, v in config.items() if k in Asked.__dataclass_fields__}), seed)
    return {}, _plain(scene.under(config["reference"], [s.tensors["theta_human"] for s in strangers],
                                  config.get("effort", 1.0)))


# Parts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """What the event depends on."""

    world: Plugin
    human: Plugin
    questions: int
    consistency: Literal["squared", "disagreement"]
    tolerance: float


class Scene:
    """One world's event: teacher, human, the questions `(n, d)` and the tolerance. The same for every arm."""

    def __init__(self, people: Stored, asked: Asked | Config, seed: int) -> None:
        self.asked, self.seed = asked, seed
        self.world: World = asked.world.build()
        maker: Human = asked.human.build()
        self.net: Mlp = maker.net(self.world)
        self.teacher = people.tensors["theta_teacher"]
        self.theta_human, self.others = people.tensors["theta_human"][:1], people.tensors["theta_human"][1:]
        self.x = self.draw("on", asked.questions, "specialness/questions")[0]

    def draw(self, kind: str, n: int, name: str) -> Tensor:
        """Questions `(1, n, d)` on or off distribution."""
        source = self.world.on_distribution if kind == "on" else self.world.off_distribution
        return source(self.teacher, n, [stream(self.seed, name)])

    def problem(self, reference: DiagonalNormal | None = None) -> Problem:
        """The event under the initialisation prior, or another reference."""
        named = f"{len(self.x)} on-distribution questions of the {self.asked.world.use} world"
        return Problem.for_human(self.world, self.teacher[0], self.net, self.x, tolerance=self.asked.tolerance,
                                 consistency=self.asked.consistency, questions=named, reference=reference)

    def under(self, reference: Measure, strangers: list[Tensor], effort: float) -> Estimate:
        """The specialness of the event under one reference."""
        if reference == "counting":
            return counted(self.problem())
        if reference == "gaussian_process":
            x, teacher = self.x.double(), self.teacher.double()
            return gaussian_process.evidence(self.net, x, self.world.answer(teacher, x[None])[0], self.asked.tolerance)
        if reference == "training":
            return frequency.estimate_from(self.others.double(), self.problem(),
                                           reference="humans trained on f from other seeds")
        if reference == "other_teacher":
            return frequency.estimate_from(strangers[0].double(), self.problem(),
                                           reference="humans trained on teachers of their own")
        around = around_nothing(self.net, self.theta_human[0]) if reference == "around_nothing" else None
        return estimate(self.problem(around), "smc", effort, generator=stream(self.seed, f"specialness/{reference}"))

    def figures(self) -> dict[str, float]:
        """The human's own consistency, and its fits on 4096 questions on and off distribution each."""
        own = float(self.problem().cost(self.theta_human.double()))
        out = {"specialness/consistency": own, "specialness/human_consistent": float(own <= self.asked.tolerance)}
        for kind in ("on", "off"):
            x = self.draw(kind, 4096, f"ask/{kind}")
            answer = self.world.human_answer(self.net, self.theta_human, x)
            out[f"human/{kind}_fit"] = float(observed.fit(self.world.kind, answer, self.world.answer(self.teacher, x)))
        return out


def around_nothing(net: Mlp, theta: Tensor) -> DiagonalNormal:
    """Normal about 0, with the root mean square of one human's own parameters θ `(p,)` in each layer for sd."""
    sd = torch.empty(net.p, dtype=torch.float64)
    for layer in range(len(net.sizes) - 1):
        places = torch.cat([torch.arange(net.p)[f.slice] for f in net.fields if f.name.endswith(str(layer))])
        sd[places] = theta[places].double().square().mean().sqrt().clamp(min=1e-12)
    return DiagonalNormal(sd, f"normal about 0 with the spread of each layer of a trained {words(net)} human")


def counted(problem: Problem) -> Estimate:
    """Of all 2^n ways to answer the n questions yes or no, as `probe` gives them, those within the tolerance: exact."""
    n = problem.probe(torch.zeros(1, problem.dim, dtype=torch.float64)).shape[-1]
    bits = cases.binary(n, problem.tolerance).bits
    return Estimate(bits, bits, bits, "two-sided", "global", "converged", {
        **problem.report, "reference": f"all answers to {n} questions alike", "symmetry_bits": 0.0, "error_bits": 0.0,
    })


def _plain(said: Estimate) -> dict[str, Any]:
    """Estimate and diagnostics as JSON values; what is no number or word is left out."""
    flat = {k: getattr(said, k) for k in ("bits", "low", "high", "bound", "kind", "status", "level", "quantity",
                                          "evaluations")}
    flat |= {k: v for k, v in said.diagnostics.items() if k not in flat}

    def fits(v: object) -> bool:
        return isinstance(v, (str, bool, int)) or (isinstance(v, float) and math.isfinite(v))

    return {k: v for k, v in flat.items() if fits(v)}


def _only(config: Config, *names: str) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}
