"""Is a search through other humans needed to know how special one is, or does a look about the human at hand do?

One cell is one world: a teacher and a human. Arms are methods that are asked for the specialness of the human's event:
some look about the human and nowhere else, one takes the infinitely wide network in its place, some search from the
reference, with gradients or without. What they say is held against a sampler run twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator
from torch import Tensor

from reuse_sim import specialness
from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import Refusal, nearest
from reuse_sim.experiments.descents import (
    Scene,
    Separate,
    Tolerances,
    check_tolerances,
    net_of,
    plain,
    reached,
    sample,
    tolerance_of,
    train_people,
)
from reuse_sim.experiments.free_specialness import AGREE, SMALLEST, WITHIN, mean_bits
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream
from reuse_sim.specialness import gaussian_process
from reuse_sim.types import Estimate

PROCESS = "gaussian_process"
"""The method that is none of `specialness.METHODS`: its reference is another."""

METHOD = (
    "A teacher f is drawn and a human learns it. S is −log₂ of the fraction of the initialisation prior with a mean of "
    "(H − f)²/var f of at most the tolerance of that width, by sequential Monte Carlo with gradients, the mean of two "
    "runs. Each arm's method is asked the same. Methods that look about one place start at the human itself and are "
    "given the copies of it that permuted and negated units make. A world is undecided where the two runs differ by "
    "more than 2 bits or the human itself is not consistent; an arm's figure counts whether or not its method calls "
    "itself converged, which is told apart."
)
METRICS = (
    Metric("specialness/separate_bits", "bits", "S, the mean of two runs.", headline=True),
    Metric("specialness/bits", "bits", "What the method says; copies of the human counted.", headline=True),
    Metric("specialness/signed_bits", "bits", "That less S."),
    Metric("specialness/off", "share", f"Its error; {WITHIN:g} is the larger of 3 bits and 10 %, 1 where it says "
           "nothing.", r"|x - S| / \max(S, 30)", headline=True),
    Metric("specialness/within", "share", "Worlds where that is within the larger of 3 bits and 10 %.", binary=True),
    Metric("specialness/said_converged", "share", "Worlds where the method calls its figure converged.", headline=True,
           binary=True),
    Metric("specialness/evaluations", "θ", "Humans that C was computed for."),
    Metric("specialness/repeat_gap_bits", "bits", "By how much the two runs of S differ."),
    Metric("specialness/consistency", "", "C of the human."),
    Metric("human/on_fit", "R²", "Fit of the human to the teacher, on-distribution."),
    Metric("human/off_fit", "R²", "Fit of the human to the teacher, off-distribution."),
)  # fmt: skip
SHARED = ("world", "human", "questions", "tolerances")


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    questions: int = Field(128, ge=2, le=100_000, description="on-distribution questions that C is the mean over")
    tolerances: Tolerances
    method: str = Field("smc", description=f"of `reuse_sim.specialness.METHODS`, or {PROCESS}")
    effort: float = Field(1.0, gt=0, le=100, description="of the method, and of the sampler of S")

    @field_validator("method")
    @classmethod
    def _known(cls, name: str) -> str:
        known = [*specialness.METHODS, PROCESS]
        if name not in known:
            near = nearest(name, known)
            raise ValueError(f"one of {', '.join(known)}" + (f"; {near}" if near else ""))
        return name


def check(arms: Mapping[str, Config]) -> None:
    """Raises InputError where a human's width has no tolerance."""
    check_tolerances(arms)


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world, asked by every method. Raises Refusal where the human's training broke, or it is not consistent."""
    return {name: measure(arm, seed, store) for name, arm in arms.items()}


def measure(arm: Config, seed: int, store: Store) -> Measured:
    """One arm; the world and its S are computed once for all."""
    tolerance = tolerance_of(arm)
    about = {"world": arm.world, "human": arm.human, "questions": arm.questions, "watched": 2, "tolerance": tolerance}
    people = store.stage("learned human", train_people, config=about, seed=seed)
    if people.values["broken"]:
        raise Refusal(f"the human's training broke: {people.values['broken'][0]}; lower human.rate")
    consistency = people.values["specialness/consistency"]
    if consistency > tolerance:
        raise Refusal(f"the human itself is not consistent (C = {consistency:.3g} > {tolerance:.3g})", "undecided")
    separate = {"separate": Separate(effort=arm.effort)}
    twice = store.stage("specialness apart", sample, people, config=about | separate, seed=seed).values["twice"]
    asked = about | {"method": arm.method, "effort": arm.effort}
    said = store.stage("asked", ask, people, config=asked, seed=seed).values["said"]
    metrics = {k: v for k, v in people.values.items() if k != "broken"} | figures(said, twice)
    trouble = doubts(twice)
    silent = [m.name for m in METRICS if metrics.get(m.name) is None]
    reason = "; ".join([*trouble, *([f"no figure: {', '.join(silent)} ({said['status']})"] if silent else [])])
    return Measured({m.name: metrics.get(m.name) for m in METRICS}, {"said": said, "separate": twice}, people.sha256,
                    "undecided" if trouble else "ok", reason)  # fmt: skip


def ask(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The method's estimate, from the human where it starts somewhere."""
    scene, method = Scene(people.tensors, config, seed), config["method"]
    if method == PROCESS:
        f = scene.world.answer(people.tensors["theta_teacher"].double(), scene.asked.double()[None])[0]
        said = gaussian_process.evidence(scene.net, scene.asked, f, config["tolerance"])
    else:
        said = specialness.estimate(scene.problem, method, config["effort"], generator=stream(seed, f"asked/{method}"),
                                    start=scene.theta_2)  # fmt: skip
    words = {k: v for k, v in said.diagnostics.items() if isinstance(v, (str, int, float))}
    return {}, {"said": plain(replace(said, diagnostics=words)) | {"counted_bits": counted(said)}}


def counted(said: Estimate) -> float:
    """Bits with the copies of the one place that a local figure is about: each makes the event as large again."""
    copies = float(said.diagnostics.get("symmetry_bits", 0.0)) if said.kind == "local" else 0.0
    return max(0.0, said.bits - copies)


def figures(said: Mapping[str, Any], twice: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The metrics of one method's estimate, given in plain values, against the two runs of S."""
    s = mean_bits(twice)
    silent = said["bits"] is None or (said["bound"] == "lower" and said["status"] != "converged")
    bits = None if silent else said["counted_bits"]
    off = 1.0 if bits is None else abs(bits - s) / max(s, SMALLEST)
    return {
        "specialness/separate_bits": s,
        "specialness/repeat_gap_bits": abs(twice[0]["bits"] - twice[1]["bits"]),
        "specialness/bits": bits,
        "specialness/signed_bits": None if bits is None else bits - s,
        "specialness/off": off,
        "specialness/within": float(off <= WITHIN),
        "specialness/said_converged": float(said["status"] == "converged"),
        "specialness/evaluations": float(said["evaluations"]),
    }


def doubts(twice: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why a world decides nothing, sentence by sentence."""
    gap, out = abs(twice[0]["bits"] - twice[1]["bits"]), []
    if any(not reached(e) for e in twice):
        out.append(f"the sampler of S gives no figure ({twice[0]['status']})")
    if gap > AGREE:
        out.append(f"the sampler of S does not agree with itself ({gap:.1f} bits): raise effort")
    return out


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell in float64: a population of humans and their answers."""

    def one(c: Config) -> int:
        net = net_of(c)
        return 8 * round(4000 * max(1.0, c.effort)) * (c.questions * 4 * sum(net.sizes) + 8 * net.p)

    return max(map(one, arms.values())) + 2**29  # and the libraries themselves
