"""Does a learner get the specialness of its human for nothing, from the alternatives that its own descent visits?

One cell is one world: a teacher, a human, and learners of the human. Arms are leaks: a share of the coordinates of θ₂
is told early in a descent and held. What each arm's descents could harvest of their paths is computed, and held against
separate samplers, which no leak concerns: of the specialness, and of the specialness *given* what leaked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from reuse_sim import specialness
from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments.descents import (
    Learner,
    Separate,
    Tolerances,
    check_tolerances,
    found_bits,
    learn,
    net_of,
    reached,
    restart,
    sample,
    sample_given,
    tolerance_of,
    train_people,
    walk,
)
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.specialness import path_curvature
from reuse_sim.specialness.path_work import END, Plan

SMALLEST = 30.0
"""Bits that S counts as at least where errors are told as its share: .1 is then the larger of 3 bits and 10 %."""
WITHIN, AGREE, FIT = 0.1, 2.0, 0.5
"""The share within which free and separate must agree without a leak; the bits within which the separate sampler must
agree with itself; the R² of behaviour before which a leak must be over."""

HARVESTS = {
    "free": "path work of a descent on consistency",
    "curvature": "curvature along that descent",
    "own": "path work of the learner's own descent, on the human's behaviour",
    "own_curvature": "curvature along the learner's own plain descent",
    "replay": "path work of the descent on consistency replayed, what leaked drawn anew from the reference",
    "restart": "path work of a descent on consistency begun anew after the leak, with nothing held",
}
REUSE = ("free", "curvature", "own", "own_curvature", "replay")
"""Those that reuse what the learner did under the leak."""

METHOD = (
    "A teacher f is drawn and a human learns it. S is −log₂ of the fraction of the initialisation prior with a mean of "
    "(H − f)²/var f of at most the tolerance of that width. Of the human's coordinates a random share, by arm and "
    "nested, is told within the first tenth of an annealed descent (sooner in a plain one) and held. Harvested are: "
    "the path work (Jarzynski) and the curvature of a descent annealed on consistency; the path work of one annealed "
    "on the human's behaviour, its iterates weighed by consistency; the curvature along plain descents on behaviour, "
    "of told coordinates too; the path work of the path on consistency replayed with the told values drawn anew; and "
    "that of a descent begun anew with nothing held. A separate sampler gives S, twice, and S given what leaked. A "
    "world is undecided where the free figure without a leak misses S by more than 3 bits and 10 %, the two S differ "
    "by more than 2 bits, or the human itself is not consistent; an arm, where its learner was good before the leak "
    "was over."
)

OFF = r"|x - S| / \max(S, 30)"
METRICS = (
    Metric("specialness/separate_bits", "bits", "S by the separate sampler, the mean of two", headline=True),
    Metric("specialness/repeat_gap_bits", "bits", "by how much the two differ"),
    Metric("specialness/conditional_bits", "bits", "S given what leaked, by the same sampler on what is left",
           r"-\log_2 \Pr[C \le \tau \mid \mathrm{leaked}]", headline=True),
    *(metric for name, what in HARVESTS.items() for metric in (
        Metric(f"specialness/{name}_bits", "bits", what, headline=name in ("free", "own", "restart")),
        Metric(f"specialness/{name}_over_separate", "1", f"{what}, as a share of S",
               headline=name in ("free", "own", "restart")),
        Metric(f"specialness/{name}_off", "share", f"error of it; 1 where there is no result. {WITHIN:g} is the larger "
               "of 3 bits and 10 %", OFF))),
    Metric("specialness/free_minus_conditional", "bits", "free less conditional bits", headline=True),
    Metric("specialness/conditional_off", "share", "error of the free figure as one of the conditional bits",
           r"|x - S_c| / \max(S_c, 30)"),
    Metric("specialness/reuse_off", "share", f"smallest error of the five that reuse the learner: {', '.join(REUSE)}"),
    Metric("specialness/restart_within", "share", "worlds whose restart is within the larger of 3 bits and 10 %",
           binary=True),
    Metric("specialness/restart_reached", "share", "worlds whose restart reaches the tolerance", binary=True),
    *(Metric(f"specialness/{name}_bits", "bits", f"of the learner's iterates, no specialness: {what}")
      for name, what in (("share", "the share that is consistent"), ("cosine", "their steps against the gradient"),
                         ("gaussian", "a normal about them"))),
    Metric("specialness/alternatives", "share", "spread of the learner's iterates after the leak over that of the "
           "reference, mean over coordinates, each at most 1", headline=True),
    Metric("specialness/leak_fit", "R²", "behaviour fit of the learner when the leak is over; 1 where all is told"),
    Metric("specialness/learner_fit", "R²", "behaviour fit of the learner at its end"),
    Metric("specialness/own_flops_ratio", "1", "FLOPs of the own path with all its walkers over those of one learner"),
    Metric("specialness/curvature_flops_ratio", "1", "FLOPs of the own curvature over those of one learner"),
    Metric("specialness/consistency", "", "C of the human"),
    Metric("human/on_fit", "R²", "fit of the human to the teacher, on-distribution"),
    Metric("human/off_fit", "R²", "fit of the human to the teacher, off-distribution"),
)  # fmt: skip


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    questions: int = Field(128, ge=2, le=100_000, description="on-distribution questions that C is the mean over")
    watched: int = Field(128, ge=2, le=100_000, description="others, of which the learner knows the human's answers")
    tolerances: Tolerances
    leak: float = Field(0.0, ge=0, le=1, description="share of the coordinates of θ₂ that are told early")
    path: Plan = Plan()
    learner: Learner = Learner()
    separate: Separate = Separate()


def check(arms: Mapping[str, Config]) -> None:
    """Raises InputError where a human's width has no tolerance, or the separate sampler does not exist."""
    check_tolerances(arms)
    for name, arm in arms.items():
        if arm.separate.method not in specialness.METHODS:
            raise InputError(f"arm {name}: separate.method", arm.separate.method, f"one of {[*specialness.METHODS]}")


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world under every leak. Raises Refusal where the human's training broke."""
    return {name: measure(arm, seed, store) for name, arm in arms.items()}


def measure(arm: Config, seed: int, store: Store) -> Measured:
    """One arm; what it shares with another is computed once."""
    about = {k: getattr(arm, k) for k in ("world", "human", "questions", "watched")} | {"tolerance": tolerance_of(arm)}
    people = store.stage("learned human", train_people, config=about, seed=seed)
    if people.values["broken"]:
        raise Refusal(f"the human's training broke: {people.values['broken'][0]}; lower human.rate")

    def stage(name: str, function: Any, **more: Any) -> dict[str, Any]:
        return dict(store.stage(name, function, people, config=about | more, seed=seed).values)

    twice = stage("specialness apart", sample, separate=arm.separate)["twice"]
    conditional = twice[0] | {"bits": mean_bits(twice)}
    if arm.leak:
        conditional = stage("given what leaked", sample_given, separate=arm.separate, leak=arm.leak)["given"]
    unleaked = stage("annealed descents", walk, path=arm.path, leak=0.0)
    found = stage("annealed descents", walk, path=arm.path, leak=arm.leak)
    found |= stage("plain descents", learn, learner=arm.learner, leak=arm.leak)
    found |= stage("descent begun anew", restart, path=arm.path)

    human = {k: v for k, v in people.values.items() if k != "broken"}
    metrics = human | figures(found, twice, conditional) | found["learner"] | _flops(arm)
    trouble = doubts(twice, unleaked["free"], human["specialness/consistency"], tolerance_of(arm))
    if 0 < arm.leak < 1 and metrics["specialness/leak_fit"] > FIT:
        trouble.append(f"the learner's fit was {metrics['specialness/leak_fit']:.2f} when the leak was over")
    silent = [m.name for m in METRICS if metrics.get(m.name) is None]
    reason = "; ".join([*trouble, *([f"no result: {', '.join(silent)}"] if silent else [])])
    diagnostics = {k: v for k, v in found.items() if k in HARVESTS} | {"separate": twice, "conditional": conditional}
    return Measured({m.name: metrics.get(m.name) for m in METRICS}, diagnostics, people.sha256,
                    "undecided" if trouble else "ok", reason)  # fmt: skip


def figures(
    found: Mapping[str, Any], twice: Sequence[Mapping[str, Any]], conditional: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The metrics of the harvests of one arm, given as estimates in plain values, None where there is no result."""
    s = mean_bits(twice)
    out: dict[str, Any] = {
        "specialness/separate_bits": s,
        "specialness/repeat_gap_bits": abs(twice[0]["bits"] - twice[1]["bits"]),
        "specialness/conditional_bits": conditional["bits"] if conditional else None,
    }
    for name in HARVESTS:
        bits = found_bits(found[name])
        out[f"specialness/{name}_bits"] = bits
        out[f"specialness/{name}_over_separate"] = None if bits is None else bits / max(s, 1e-9)
        out[f"specialness/{name}_off"] = 1.0 if bits is None else abs(bits - s) / max(s, SMALLEST)
    free = found_bits(found["free"])
    if free is not None and conditional:
        gap = free - conditional["bits"]
        out["specialness/free_minus_conditional"] = gap
        out["specialness/conditional_off"] = abs(gap) / max(conditional["bits"], SMALLEST)
    out["specialness/reuse_off"] = min(out[f"specialness/{name}_off"] for name in REUSE)
    out["specialness/restart_within"] = float(out["specialness/restart_off"] <= WITHIN)
    out["specialness/restart_reached"] = float(found_bits(found["restart"]) is not None)
    return out


def doubts(twice: Sequence[Mapping[str, Any]], free: Mapping[str, Any], consistency: float, tol: float) -> list[str]:
    """Why a world decides nothing, sentence by sentence."""
    s, gap = mean_bits(twice), abs(twice[0]["bits"] - twice[1]["bits"])
    bits, out = found_bits(free), []
    if consistency > tol:
        out.append(f"the human itself is not consistent (C = {consistency:.3g} > {tol:.3g})")
    if any(not reached(e) for e in twice):
        out.append(f"the separate sampler gives no figure ({twice[0]['status']})")
    if gap > AGREE:
        out.append(f"the separate sampler does not agree with itself ({gap:.1f} bits): raise separate.effort")
    if bits is None or abs(bits - s) > WITHIN * max(s, SMALLEST):
        got = "gives no result" if bits is None else f"is {bits:.1f} where S is {s:.1f} bits"
        out.append(f"without a leak the free figure {got}: raise path.steps")
    return out


def mean_bits(estimates: Sequence[Mapping[str, Any]]) -> float:
    """The mean of estimates of one figure."""
    return sum(e["bits"] for e in estimates) / len(estimates)


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell in float64: walkers' answers with their gradients, and the Hessians of one path."""

    def one(c: Config) -> int:
        net, at_once = net_of(c), max(c.path.walkers, 50 * c.learner.count)
        answers = at_once * max(c.questions, c.watched) * 8 * sum(net.sizes)
        return 8 * (answers + 4 * path_curvature.POINTS * net.p**2 + 4 * c.learner.steps * c.learner.count * net.p)

    return max(map(one, arms.values())) + 2**29  # and the libraries themselves


def _flops(arm: Config) -> dict[str, float]:
    """FLOPs: 2 p for an answer, 6 p with its gradient, 12 p for a row of its Hessian."""
    p, plan, learner = net_of(arm).p, arm.path, arm.learner
    learning = 6 * p * learner.steps * arm.watched
    walking = plan.walkers * plan.steps * (6 * p * plan.leapfrogs * arm.watched + END * 2 * p * arm.questions)
    curving = path_curvature.POINTS * (p * 12 * p * arm.questions + 10 * p**3)
    return {"specialness/own_flops_ratio": walking / learning, "specialness/curvature_flops_ratio": curving / learning}
