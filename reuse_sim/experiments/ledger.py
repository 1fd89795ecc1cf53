"""What does it cost in bits to answer with the human, and what to answer with f and get specialness back?

One arm is one kind of teacher and human in a world, its codes and its specialness. Arms that name one `line` are
teachers of several sizes, over which specialness is regressed on the teacher's length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import ledger_entries as entries
from reuse_sim.experiments.scene import training_bytes
from reuse_sim.experiments.teacher_size import deming
from reuse_sim.ledger import gaussian
from reuse_sim.ledger.account import Ledger
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.worlds.radius import Radius

HEAD = 1
"""Bits of either head: it points at one of the two networks."""

METHOD = (
    "One teacher and one human are drawn and trained. Both are coded within one tolerance of their own answers to the "
    "same named on-distribution questions, and S is the specialness, under the initialisation prior and by sequential "
    "Monte Carlo, of humans within that tolerance of f on them. A length is that of the shortest of the messages that "
    "were written and read back: parameters rounded to steps, with a search among the roundings; the place of a draw "
    "of a Gaussian among shared draws of the prior; and places among shared draws in stages, each of what the one "
    "before left, by whatever comes nearest in behaviour; a bit or two say which it is. The human's prior is the "
    "initialisation prior; the teacher's is normal in each free coordinate, with the mean and the sd that it has over "
    "other teachers of the family (for trained networks about 0, with the root mean square: their mean would tell "
    "what all of them learned), and what follows from the free coordinates costs nothing. Since S counts all copies "
    "of a network, what the choice among copies of rounded parameters can tell is given back in either length. A head "
    "points at one of the two networks: a bit."
)

METRICS = (
    Metric("ledger/reuse_bits", "bits", "What it takes to answer with the human.",
           r"|\theta_2| + |\text{head } H|", headline=True),
    Metric("ledger/intended_bits", "bits", "What it takes to answer with f, specialness given back.",
           r"|\theta_1| + |\theta_2| + |\text{head } f| - S", headline=True),
    Metric("ledger/plain_bits", "bits", "The same with nothing given back.",
           r"|\theta_1| + |\theta_2| + |\text{head } f|"),
    Metric("ledger/profit_bits", "bits", "Reuse less intended; the intended pair is shorter where it is above 0.",
           r"S - |\theta_1| - |\text{head } f| + |\text{head } H|", headline=True),
    Metric("ledger/pays", "share", "1 where the profit is 0 or more, else 0.", binary=True),
    Metric("ledger/reuse_shorter", "share", "1 where reuse is shorter with nothing given back, else 0.", binary=True),
    Metric("ledger/teacher_bits", "bits", "|θ1|: shortest message of the teacher's family.", headline=True),
    Metric("ledger/human_bits", "bits", "|θ2|: shortest message, less what the choice among its copies tells."),
    Metric("ledger/human_rounded_bits", "bits", "θ2 by rounded parameters, one copy."),
    Metric("ledger/human_index_bits", "bits", "θ2 as a place among shared draws of the prior, one copy."),
    Metric("ledger/human_refined_bits", "bits", "θ2 by places in stages, whichever copy."),
    Metric("ledger/human_expected_bits", "bits", "θ2 by Gaussian bits-back, one copy: KL of the Gaussian whose "
           "draws are within the tolerance on average."),
    Metric("ledger/human_within", "share", "Draws of that Gaussian that are within the tolerance."),
    Metric("ledger/human_copies_bits", "bits", "What the choice among copies tells, of the message taken for θ2."),
    Metric("ledger/teacher_rounded_bits", "bits", "θ1 by rounded free coordinates, one order."),
    Metric("ledger/teacher_refined_bits", "bits", "θ1 by places in stages, whichever order."),
    Metric("ledger/teacher_expected_bits", "bits", "θ1 by Gaussian bits-back, one order."),
    Metric("ledger/teacher_mass_bits", "bits", "−log2 of the family's mass within the tolerance of f, orders counted: "
           "what a message for θ1 would take if it were as thrifty as S is; places in stages take some ten more.",
           r"-\log_2 \pi\{\theta : C(\theta, \theta_1) \le \tau\}"),
    Metric("ledger/mass_profit_bits", "bits", "The profit with that in |θ1|'s place.", headline=True),
    Metric("ledger/mass_pays", "share", "1 where that is 0 or more, else 0.", binary=True),
    Metric("specialness/bits", "bits", "S of humans within the tolerance of f, all copies counted.", headline=True),
    Metric("specialness/low_bits", "bits", "Its lower limit."),
    Metric("specialness/high_bits", "bits", "Its upper limit."),
    Metric("specialness/slope", "bits per bit", "Deming slope of S on |θ1| over the arms of one line.",
           r"S = a + b\,|\theta_1|", headline=True),
    Metric("specialness/per_teacher_bit", "bits per bit", "All their S by all their |θ1|: the slope through 0.",
           r"\sum S / \sum |\theta_1|"),
    Metric("human/on_fit", "R² or accuracy", "Fit of the human to f on-distribution."),
    Metric("human/off_fit", "R² or accuracy", "Fit of the human to f off-distribution."),
    Metric("human/consistent", "share", "1 where the trained human is within the tolerance of f itself, else 0.",
           binary=True),
)


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    teacher: Literal["generic", "coarse"] = Field("generic", description="as the world draws it, or from a grid")
    questions: int = Field(128, ge=2, le=100_000, description="on-distribution questions that C is measured on")
    consistency: Literal["squared", "disagreement"] = Field("squared", description="C, as `specialness.human` has it")
    tolerance: float = Field(gt=0, le=100, description="the largest C that will do, of f and of either network's own")
    family: int = Field(256, ge=2, le=10_000, description="teachers that say how a free coordinate is spread")
    effort: float = Field(1.0, gt=0, le=100, description="of the sampler")
    descent: int = Field(gaussian.STEPS, ge=1, le=100_000, description="steps towards the shortest Gaussian")
    line: str = Field("", description="arms of one name are regressed on each other's lengths; none for no line")


def check(arms: Mapping[str, Config]) -> None:
    """Raises InputError where a coarse teacher is asked of a world that has none."""
    for name, arm in arms.items():
        world = arm.world.build()
        if arm.teacher == "coarse" and not (isinstance(world, Radius) and world.sines <= 40):
            raise InputError(f"arm {name}: teacher coarse", arm.world.use, "radius, with at most 40 sines")
        if arm.consistency == "squared" and world.kind == "classification":
            raise InputError(f"arm {name}: consistency", "squared in a world of yes and no", "disagreement")


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world. Raises Refusal where a human's training broke."""
    found = {name: measure(config, seed, store) for name, config in arms.items()}
    for line in sorted({c.line for c in arms.values()} - {""}):
        members = [name for name, c in arms.items() if c.line == line]
        said = on_a_line([found[name].metrics for name in members])
        for name in members:
            found[name] = _with(found[name], said)
    return found


def measure(config: Config, seed: int, store: Store) -> Measured:
    """One arm. Undecided where the sampler does not call itself converged, or a network has no code."""
    whole = config.model_dump(mode="python") | {"world": config.world, "human": config.human}
    f = store.stage("teacher", entries.draw, config=_of(whole, "world", "teacher"), seed=seed)
    h = store.stage("human", entries.train, f, config=_of(whole, "world", "human"), seed=seed)
    if h.values["broken"]:
        raise Refusal(f"the human's training broke: {h.values['broken']}; lower human.rate")
    event = _of(whole, "world", "questions", "consistency", "tolerance")
    asked, how = {**event, "human": config.human}, {"descent": config.descent}
    at = {**asked, "effort": config.effort}
    special = store.stage("specialness", entries.weigh, f, h, config=at, seed=seed).values
    human = store.stage("human_code", entries.code_human, f, h, config=asked | how, seed=seed).values
    generic = config.teacher == "generic"
    family = [store.stage("family", entries.spread, config=_of(whole, "world", "family"), seed=0)] if generic else []
    teacher = store.stage("teacher_code", entries.code_teacher, f, *family, config=event | how, seed=seed).values
    mass = {"mass": None, "mass_status": ""}
    if family and config.consistency == "squared":
        at = {**event, "effort": config.effort / 4}
        mass = store.stage("teacher_mass", entries.weigh_teacher, f, *family, config=at, seed=seed).values
    teacher = {**teacher, **mass}
    trouble = [f"S: {special['status']}"] if special["status"] != "converged" else []
    if not special["consistent"]:
        trouble.append(f"the trained human is not within the tolerance itself (C = {special['consistency']:.2g}), so "
                       "that nothing would be given back; take a wider human or a larger tolerance")
    trouble += [f"no code of the {who}: {said['trouble']}" for who, said in (("human", human), ("teacher", teacher))
                if said["bits"] is None]
    metrics = figures(teacher, human, special)
    silent = [name for name, value in metrics.items() if value is None]
    told = [f"not told: {', '.join(silent)}, for {teacher['why'] or human['why'] or 'there is no such code'}"]
    rough = mass["mass_status"] not in ("", "converged")
    noted = [f"θ1's mass, which too little sampling makes too many bits: {mass['mass_status']}"] if rough else []
    reason = "; ".join(trouble + noted + (told if silent else []))
    said = {"teacher": teacher, "human": human, "specialness": special}
    sha256 = hashlib.sha256((f.sha256 + h.sha256).encode()).hexdigest()
    return Measured(metrics, said, sha256, "undecided" if trouble else "ok", reason)


def figures(
    teacher: Mapping[str, Any], human: Mapping[str, Any], special: Mapping[str, Any]
) -> dict[str, float | None]:
    """The metrics of one arm, but for the slope, from what was said of its three entries."""
    theta_1, theta_2, s = teacher["bits"], human["bits"], special["bits"]
    ledger = None if None in (theta_1, theta_2, s) else Ledger(theta_1, theta_2, HEAD, HEAD, s)
    # Either head is as long as the other.
    like = None if teacher["mass"] is None or s is None else s - teacher["mass"]
    return {
        "ledger/reuse_bits": ledger and ledger.reuse,
        "ledger/intended_bits": ledger and ledger.intended,
        "ledger/plain_bits": ledger and ledger.plain,
        "ledger/profit_bits": ledger and ledger.profit,
        "ledger/pays": ledger and float(ledger.profit >= 0),
        "ledger/reuse_shorter": ledger and float(ledger.reuse < ledger.plain),
        "ledger/teacher_bits": teacher["bits"],
        "ledger/human_bits": human["bits"],
        "ledger/human_rounded_bits": human["rounded"],
        "ledger/human_index_bits": human["index"],
        "ledger/human_refined_bits": human["refined"],
        "ledger/human_expected_bits": human["expected"],
        "ledger/human_within": human["within"],
        "ledger/human_copies_bits": human["copies"],
        "ledger/teacher_rounded_bits": teacher["rounded"],
        "ledger/teacher_refined_bits": teacher["refined"],
        "ledger/teacher_expected_bits": teacher["expected"],
        "ledger/teacher_mass_bits": teacher["mass"],
        "ledger/mass_profit_bits": like,
        "ledger/mass_pays": None if like is None else float(like >= 0),
        "specialness/bits": special["bits"],
        "specialness/low_bits": special["low"],
        "specialness/high_bits": special["high"],
        "human/on_fit": special["on_fit"],
        "human/off_fit": special["off_fit"],
        "human/consistent": special["consistent"],
    }


def on_a_line(members: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """How S goes with |θ1| over arms, from their metrics."""
    lengths, bits = ([m[name] for m in members] for name in ("ledger/teacher_bits", "specialness/bits"))
    if len(members) < 3 or None in lengths or None in bits:
        return {"specialness/slope": None, "specialness/per_teacher_bit": None}
    x, y = [float(v) for v in lengths if v is not None], [float(v) for v in bits if v is not None]
    return {"specialness/slope": deming(x, y), "specialness/per_teacher_bit": sum(y) / sum(x)}


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the largest population of samples, or its training."""
    def one(c: Config) -> int:
        human, world = c.human.build(), c.world.build()
        net = human.net(world)
        sampling = 8 * round(4000 * max(1.0, c.effort)) * (c.questions * 4 * sum(net.sizes) + 8 * net.p)
        return max(sampling, training_bytes(human, world, 1))

    return max(map(one, arms.values())) + 2**29  # and the libraries themselves


def _of(config: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: config[name] for name in names}


def _with(found: Measured, more: Mapping[str, float | None]) -> Measured:
    silent = [name for name, value in more.items() if value is None]
    said = f"not told: {', '.join(silent)}, for the line has fewer than three whole arms or no slope" if silent else ""
    reason = "; ".join(filter(None, (found.reason, said)))
    return Measured({**found.metrics, **more}, found.diagnostics, found.parameters_sha256, found.status, reason)
