"""Humans that no learner rederives: they can be memorised from scans, but is anything left of a joint representation?

One cell is one teacher, and in each arm a human of some kind, fresh humans of that kind, and learners by plain descent:
on f's on-distribution answers, or on the human's own there. Arms may be compared with another, of plain humans.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments.beyond import (
    LEARNED,
    SCANS,
    fits,
    train_learners,
    train_on_human,
    train_people,
    weigh,
)
from reuse_sim.experiments.scene import training_bytes
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric

AGREES_BITS, AGREES_SHARE = 3.0, 0.1
"""Two runs of an estimator agree within the larger of so many bits and such a share of them."""

METHOD = (
    "A teacher is drawn and a human of the arm's kind made from it. Its answers off-distribution are predicted in "
    "three ways. By scans: with each question of a learner's training a few bits of θ2, in 16-bit code, are told, "
    "wherever they fall, and a table remembers them. By learning: networks of several widths descend on f's "
    "on-distribution answers, or on what the human itself answers to such questions; the best of all counts, by the "
    "mean over its learners, f itself being one. And by fresh humans of the kind. Where bits are asked for, the human "
    "is told outright and given a population of learners, as in `fresh_human_reference`, in a ball of on- and "
    "off-distribution questions; and two runs of the sampler estimate the specialness of agreeing with f as well as "
    "the human does. Where no learner is in the ball nothing counts as saved, for then the human is told outright."
)

METRICS = (
    Metric("rederive/scans_fit", "R²", "How what scans told of θ2 predicts H.", r"R^2(H_{\hat\theta_2}, H)",
           headline=True),
    Metric("rederive/learned_fit", "R²", "How the best learner does, from f's answers or from H's own.", headline=True),
    Metric("rederive/both", "share", f"Worlds whose human is memorised, fit from {SCANS} on, and not learned, up to "
           f"{LEARNED}.", headline=True, binary=True),
    Metric("rederive/from_teacher_fit", "R²", "How the best learner from f's answers does, or f itself."),
    Metric("rederive/from_behaviour_fit", "R²", "How the best learner from H's on-distribution answers does."),
    Metric("rederive/fresh_fit", "R²", "How a fresh human of the kind does.", headline=True),
    Metric("rederive/told_share", "share", "Bits of θ2 that scans told."),
    Metric("joint/outright_bits", "bits", "Bits of H outright; none where the sampler did not reach the ball."),
    Metric("joint/given_bits", "bits", "Bits of H given learners; none where none of them is in the ball."),
    Metric("joint/saved_share", "share", "What learners save of the bits outright, as written where the sampler did "
           "not reach the ball; 0 where no learner is in it.", headline=True),
    Metric("joint/saved_most_share", "share", "What they save at most, by the lower 90 % limit of bits given them."),
    Metric("joint/censored", "share", "Worlds where no learner is in the ball.", headline=True, binary=True),
    Metric("joint/weights_bits", "bits", "A network in the ball by its parameters, as written."),
    Metric("joint/saved_coded_share", "share", "What the shorter of an index and a difference to the nearest learner "
           "saves of that, as written; 0 where neither does."),
    Metric("joint/mass_found", "share", "Worlds where the sampler reached the ball, and a second run agrees.",
           headline=True, binary=True),
    Metric("specialness/bits", "bits", "S at 1.25 times the human's own error; none where it was not reached."),
    Metric("specialness/found", "share", "Worlds where S was reached, and a second run agrees.", headline=True,
           binary=True),
    Metric("joint/saving_fall", "share", "By how much of the plain humans' saving this one's is less, with the "
           "learners there are: at most, where none is in the ball.",
           r"1-\sum\mathrm{saved}/\sum\mathrm{saved}_{\mathrm{plain}}", pooled=True, headline=True),
    Metric("joint/saving_least_fall", "share", "By how much of it what this one's is at most is less.", pooled=True),
    Metric("joint/coded_fall", "share", "The same of `joint/saved_coded_share`.", pooled=True, headline=True),
    Metric("specialness/found_fall", "share", "The same of `specialness/found`.", pooled=True, headline=True),
    Metric("joint/mass_found_fall", "share", "The same of `joint/mass_found`.", pooled=True, headline=True),
    Metric("human/on_fit", "R² or accuracy", "Fit of the human to f, on-distribution."),
    Metric("human/off_fit", "R² or accuracy", "Fit of the human to f, off-distribution."),
)  # fmt: skip
FALLS = {
    "joint/saving_fall": ("joint/saved_share", "joint/saved_share"),
    "joint/saving_least_fall": ("joint/saved_most_share", "joint/saved_share"),
    "joint/coded_fall": ("joint/saved_coded_share", "joint/saved_coded_share"),
    "specialness/found_fall": ("specialness/found", "specialness/found"),
    "joint/mass_found_fall": ("joint/mass_found", "joint/mass_found"),
}
"""What is compared with what of the plain humans."""  # fmt: skip


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    fresh: int = Field(2, ge=1, le=100, description="fresh humans of the kind")
    learner: Annotated[Plugin, plugin("humans")]
    learners: int = Field(2, ge=1, le=100, description="learners of each width, from f and from the human each")
    learner_widths: tuple[Annotated[int, Field(gt=0, le=4096)], ...] = Field(
        (), description="widths of learners, beside that of the human"
    )
    scan_bits: float = Field(8.0, ge=0, le=1000, description="bits of θ2 told with every question of a learner's")
    asked: int = Field(1000, ge=30, le=100_000, description="questions on and off each that fits are measured on")
    bits: bool = Field(False, description="whether the human's bits and specialness are asked for")
    population: int = Field(256, ge=2, le=100_000, description="learners that the human is told by")
    questions: int = Field(128, ge=2, le=100_000, description="questions of the ball, of each kind")
    tolerance: float = Field(0.05, gt=0, le=100, description="δ, the ball's largest mean square, as a share of var f")
    effort: float = Field(0.5, gt=0, le=100, description="of the sampler")
    against: str = Field("", description="the arm of plain humans that saving and success are compared with")

    @field_validator("learner")
    @classmethod
    def _of_any_width(cls, learner: Plugin) -> Plugin:
        if not {"width", "steps", "batch"} <= set(learner.options):
            raise ValueError("a learner with options 'width', 'steps' and 'batch'")
        return learner

    @property
    def widths(self) -> tuple[int, ...]:
        """Of learners, each once, the human's own first."""
        own = self.human.build().net(self.world.build()).sizes[1]
        return tuple(dict.fromkeys((own, *self.learner_widths)))

    def learner_of(self, width: int) -> Plugin:
        return self.learner.model_copy(update={"options": {**self.learner.options, "width": width}})


def check(arms: Mapping[str, Config]) -> None:
    """Raises InputError where an arm has no place for its learner, no distances, or nothing to be compared with."""
    for name, arm in arms.items():
        try:
            for width in arm.widths:
                arm.learner_of(width).build().net(arm.world.build())
        except InputError as e:
            raise InputError(f"arm {name}: {e.where}", e.got, e.expected, e.do) from e
        if arm.bits and (kind := arm.world.build().kind) != "regression":
            raise InputError(f"arm {name}: bits", f"a {kind}", "a regression", "say bits: false")
        if arm.against and not (arm.bits and arm.against in arms and arms[arm.against].bits):
            raise InputError(f"arm {name}: against", repr(arm.against), "an arm with bits, as this one must be")


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world. Raises Refusal where a training broke."""
    found = {name: measure(name, config, seed, store) for name, config in arms.items()}
    for name, config in arms.items():
        if config.against:
            found[name] = compared(found[name], found[config.against])
    return {name: said_of(measured) for name, measured in found.items()}


def measure(name: str, config: Config, seed: int, store: Store) -> Measured:
    """One arm, without the falls."""
    made = {"world": config.world, "human": config.human}
    people = store.stage("people", train_people, config=made | {"count": config.fresh + 1}, seed=seed)
    trained = [people]
    for width in config.widths:
        about = {"world": config.world, "learner": config.learner_of(width), "count": config.learners}
        trained.append(store.stage("from_teacher", train_learners, config=about, seed=seed))
        trained.append(store.stage("from_human", train_on_human, people, config=about | made, seed=seed))
    for stage in trained:
        if stage.values["broken"]:
            raise Refusal(f"arm {name}: a training broke: {stage.values['broken'][0]}; lower its rate")
    metrics: dict[str, float | None] = {metric.name: None for metric in METRICS}
    said = store.stage("fits", fits, *trained, config=config, seed=seed).values
    metrics |= said["metrics"]
    bits: Mapping[str, Any] = {}
    if config.bits:
        learner = config.learner_of(config.widths[0])
        about = {"world": config.world, "learner": learner, "count": config.population}
        learners = store.stage("from_teacher", train_learners, config=about, seed=seed)
        asked = made | {k: getattr(config, k) for k in ("questions", "tolerance", "effort")} | {"learner": learner}
        bits = store.stage("bits", weigh, people, learners, config=asked, seed=seed).values
        metrics |= summary(bits)
    sha256 = hashlib.sha256("".join(t.sha256 for t in trained).encode()).hexdigest()
    return Measured(metrics, {**said["parts"], "bits": dict(bits)}, sha256)


def compared(this: Measured, other: Measured) -> Measured:
    """With the falls against another arm of the same world, pooled over worlds; None where one is not told."""
    metrics, parts = dict(this.metrics), dict(this.diagnostics)
    for name, (ours, theirs) in FALLS.items():
        now, then = this.metrics[ours], other.metrics[theirs]
        if now is not None and then is not None:
            metrics[name] = 1 - now / then if then else None
            parts |= {f"{name}/numerator": then - now, f"{name}/denominator": then}
    return replace(this, metrics=metrics, diagnostics=parts)


def said_of(measured: Measured) -> Measured:
    """With the reason why metrics are not told."""
    silent = [name for name, value in measured.metrics.items() if value is None]
    return replace(measured, reason=f"not asked for, not reached, or of nothing: {', '.join(silent)}" if silent else "")


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the largest stack of humans or learners, or a sampler's population."""
    stacks = []
    for c in arms.values():
        world, human = c.world.build(), c.human.build()
        count = max(c.learners, c.population if c.bits else 0)
        stacks += [training_bytes(c.learner_of(w).build(), world, count) for w in c.widths]
        stacks.append(training_bytes(human, world, c.fresh + 1))
        net = human.net(world)
        if c.bits:
            stacks.append(8 * round(4000 * max(1.0, c.effort)) * (2 * c.questions * 4 * sum(net.sizes) + 8 * net.p))
    return max(stacks) + 2**29  # and the libraries themselves


def summary(bits: Mapping[str, Any]) -> dict[str, float | None]:
    """The metrics of the stage `bits`."""
    mass, special, hits = bits["mass"], bits["special"], bits["hits"]
    outright = next((run["bits"] for run in mass if reached(run)), None)
    given = max(bits["given"], 0.0) if hits else None
    weights, coded = bits["weights"], min(bits["weights"], bits["index"], bits["nearest"])
    return {
        "joint/outright_bits": outright,
        "joint/given_bits": given,
        # As written where the sampler did not arrive: without those worlds only those that save nothing would count.
        "joint/saved_share": 0.0 if given is None else 1 - given / (outright or weights),
        "joint/saved_most_share": 1 - bits["given_least"] / (outright or weights),
        "joint/censored": float(given is None),
        "joint/weights_bits": weights,
        "joint/saved_coded_share": 1 - coded / weights,
        "joint/mass_found": float(agree(*mass)),
        "specialness/bits": special[0]["bits"] if reached(special[0]) else None,
        "specialness/found": float(agree(*special)),
    }


def reached(said: Mapping[str, Any]) -> bool:
    """Whether an estimate is more than a lower bound: the event was met."""
    return said["bound"] in ("two-sided", "upper") and math.isfinite(said["bits"])


def agree(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    """Whether two runs met the event and say the same."""
    if not (reached(one) and reached(two)):
        return False
    return abs(one["bits"] - two["bits"]) <= max(AGREES_BITS, AGREES_SHARE * (one["bits"] + two["bits"]) / 2)
