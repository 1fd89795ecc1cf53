"""Does it matter whether specialness is evaluated apart, after the leak, or harvested from the learner?

One cell is one world: a teacher and a human. Arms are leaks: a share of θ₂'s coordinates is told before anything is
learned, the rest is learned from behaviour. The same specialness is then asked for in three orders of leak and
evaluation, and what each would make of the bits that come back is held against the teacher's price.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field
from torch import Tensor

from reuse_sim import specialness
from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import teacher_codes
from reuse_sim.experiments.descents import Scene, Separate, found_bits, plain, reached, sample_given, train_people
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream
from reuse_sim.specialness import path_work
from reuse_sim.specialness.known import early
from reuse_sim.specialness.path_work import END, Plan

SMALLEST, AGREE = 30.0, 2.0
"""Bits that S counts as at least where errors are told as its share; bits within which two samplers must agree."""

ORDERS = {
    "separate": "S by a sampler of its own, which no leak concerns",
    "conditional": "S by the same sampler after the leak: given what leaked",
    "own": "S harvested of the learner's descent on the human's behaviour, from which leaked coordinates are held",
}

METHOD = (
    "A teacher f is drawn and a human learns it. S is −log₂ of the fraction of the initialisation prior with a mean of "
    "(H − f)²/var f of at most the tolerance. A random share of the human's coordinates, by arm and nested, is told "
    "within the first tenth of an annealed descent and held; the others are learned from the human's behaviour. S is "
    "evaluated apart (a sampler begun anew in every arm, the reference as it was), after the leak (the same sampler, "
    "the reference conditioned on what is told), and harvested: the path work (Jarzynski) of that descent, weighed by "
    "consistency. |θ1| is the teacher's shortest code within the same tolerance on the same questions, to a reader who "
    "knows how the free coordinates of 256 teachers are spread. FLOPs are 2 p per answer and 6 p with its gradient. "
    "A world is undecided where two samplers without a leak differ by more than 2 bits or give no figure, or the human "
    "itself is not consistent."
)

METRICS = (
    *(Metric(f"specialness/{name}_bits", "bits", what, headline=True) for name, what in ORDERS.items()),
    Metric("specialness/separate_shift_bits", "bits", "by how much S evaluated apart differs from that without a leak",
           r"|S(\mathrm{leak}) - S(0)|", headline=True),
    Metric("specialness/conditional_over_separate", "1", "after the leak, as a share of S without one", headline=True),
    Metric("specialness/own_over_separate", "1", "harvested, as a share of S without a leak", headline=True),
    Metric("specialness/own_off", "share", "error of what is harvested; 1 where there is no result. .1 is the larger "
           "of 3 bits and 10 %", r"|x - S| / \max(S, 30)"),
    Metric("ledger/teacher_bits", "bits", "|θ1| within the tolerance"),
    *(Metric(f"ledger/{name}_profit_bits", "bits", f"bits back less |θ1|: {what}", r"S - |\theta_1|")
      for name, what in ORDERS.items()),
    Metric("ledger/conditional_flips", "share", "worlds where S after the leak turns the verdict of S evaluated apart",
           headline=True, binary=True),
    Metric("ledger/own_flips", "share", "worlds where the harvested S turns it", headline=True, binary=True),
    *(Metric(f"compute/{name}_flops", "FLOPs", what) for name, what in ORDERS.items()),
    Metric("compute/own_extra_flops", "FLOPs", "of the harvest, what is asked about consistency beside the descent"),
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
    tolerance: float = Field(gt=0, le=100, description="the largest C that counts as consistent")
    leak: float = Field(0.0, ge=0, le=1, description="share of the coordinates of θ₂ that are told early")
    path: Plan = Plan()
    separate: Separate = Separate()


def check(arms: Mapping[str, Config]) -> None:
    """Raises InputError where the separate sampler does not exist."""
    for name, arm in arms.items():
        if arm.separate.method not in specialness.METHODS:
            raise InputError(f"arm {name}: separate.method", arm.separate.method, f"one of {[*specialness.METHODS]}")


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world under every leak. Raises Refusal where the human's training broke."""
    return {name: measure(arm, seed, store) for name, arm in arms.items()}


def measure(arm: Config, seed: int, store: Store) -> Measured:
    """One arm; the people and the sampler without a leak are computed once."""
    about = {k: getattr(arm, k) for k in ("world", "human", "questions", "watched", "tolerance")}
    people = store.stage("learned human", train_people, config=about, seed=seed)
    if people.values["broken"]:
        raise Refusal(f"the human's training broke: {people.values['broken'][0]}; lower human.rate")

    def stage(name: str, function: Any, **more: Any) -> dict[str, Any]:
        return dict(store.stage(name, function, people, config=about | more, seed=seed).values)

    unleaked = stage("specialness apart from a leak", apart, separate=arm.separate, leak=0.0)["found"]
    again = stage("given what leaked", sample_given, separate=arm.separate, leak=0.0)["given"]
    found = {
        "separate": stage("specialness apart from a leak", apart, separate=arm.separate, leak=arm.leak)["found"],
        "conditional": stage("given what leaked", sample_given, separate=arm.separate, leak=arm.leak)["given"],
        **stage("harvest of the learner", harvest, path=arm.path, leak=arm.leak),
    }
    teacher = stage("price of the teacher", price)["bits"]
    metrics = figures(found, unleaked, teacher) | flops(arm, found)
    metrics |= {k: v for k, v in people.values.items() if k != "broken"}
    trouble = doubts(unleaked, again, people.values["specialness/consistency"], arm.tolerance)
    silent = [m.name for m in METRICS if metrics.get(m.name) is None]
    reason = "; ".join([*trouble, *([f"no result: {', '.join(silent)}"] if silent else [])])
    return Measured({m.name: metrics.get(m.name) for m in METRICS}, found, people.sha256,
                    "undecided" if trouble else "ok", reason)  # fmt: skip


def apart(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """S by a sampler begun anew: the reference and the problem are what they are without a leak."""
    problem, how = Scene(people.tensors, config, seed).problem, config["separate"]
    generator = stream(seed, f"separate/leak/{config['leak']:g}")
    return {}, {"found": plain(specialness.estimate(problem, how.method, how.effort, generator=generator))}


def harvest(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The path work of a descent on the human's behaviour, of which the leaked coordinates are held."""
    scene = Scene(people.tensors, config, seed)
    leak = early(scene.theta_2, scene.known(config["leak"]))
    path = path_work.descend(scene.problem, config["path"], stream(seed, "path/own"), leak, along=scene.behaviour)
    return {}, {"own": plain(path_work.weigh(scene.problem, path))}


def price(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """|θ1| within the tolerance on the questions of C."""
    scene, theta_1 = Scene(people.tensors, config, seed), people.tensors["theta_teacher"]
    x = scene.asked.double()
    error = config["tolerance"] * float(scene.world.answer(theta_1.double(), x[None]).var(correction=0))
    return {}, {"bits": float(teacher_codes.told(scene.world, theta_1, x, error, f"{seed}/teacher")[1])}


def figures(
    found: Mapping[str, Mapping[str, Any] | None], unleaked: Mapping[str, Any], teacher: float | None
) -> dict[str, float | None]:
    """The metrics of one arm from estimates in plain values, None where there is no result."""
    s = unleaked["bits"]
    bits = {name: found_bits(found[name]) for name in ORDERS}
    out: dict[str, float | None] = {"ledger/teacher_bits": teacher}
    for name, b in bits.items():
        out[f"specialness/{name}_bits"] = b
        out[f"specialness/{name}_over_separate"] = None if b is None else b / max(s, 1e-9)
        out[f"ledger/{name}_profit_bits"] = None if b is None or teacher is None else b - teacher
    separate, own = bits["separate"], bits["own"]
    out["specialness/separate_shift_bits"] = None if separate is None else abs(separate - s)
    out["specialness/own_off"] = 1.0 if own is None else abs(own - s) / max(s, SMALLEST)
    for name in ("conditional", "own"):
        said, true = out[f"ledger/{name}_profit_bits"], out["ledger/separate_profit_bits"]
        out[f"ledger/{name}_flips"] = None if said is None or true is None else float((said >= 0) != (true >= 0))
    return out


def flops(arm: Config, found: Mapping[str, Mapping[str, Any] | None]) -> dict[str, float | None]:
    """Of each order: a sampler's answers all with their gradients; the learner's whole path with all its walkers."""
    p, plan = arm.human.build().net(arm.world.build()).p, arm.path

    def sampled(name: str) -> float | None:
        said = found[name]
        return None if said is None else 6.0 * p * arm.questions * said.get("evaluations", 1)

    steps = plan.walkers * plan.steps
    descent, asked = steps * 6.0 * p * plan.leapfrogs * arm.watched, steps * END * 2 * p * arm.questions
    return {"compute/separate_flops": sampled("separate"), "compute/conditional_flops": sampled("conditional"),
            "compute/own_flops": descent + asked, "compute/own_extra_flops": asked}  # fmt: skip


def doubts(
    first: Mapping[str, Any], again: Mapping[str, Any] | None, consistency: float, tolerance: float
) -> list[str]:
    """Why a world decides nothing, sentence by sentence."""
    out = []
    if consistency > tolerance:
        out.append(f"the human itself is not consistent (C = {consistency:.3g} > {tolerance:.3g})")
    if again is None or not reached(first):
        out.append(f"the separate sampler gives no figure ({first['status']})")
    elif abs(first["bits"] - again["bits"]) > AGREE:
        gap = abs(first["bits"] - again["bits"])
        out.append(f"the separate sampler does not agree with itself ({gap:.1f} bits): raise separate.effort")
    return out


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell in float64: the sampler's population, and walkers' answers with their gradients."""

    def one(c: Config) -> int:
        net = c.human.build().net(c.world.build())
        at_once = max(round(4000 * max(1.0, c.separate.effort)), c.path.walkers)
        return 8 * at_once * (max(c.questions, c.watched) * 4 * sum(net.sizes) + 8 * net.p)

    return max(map(one, arms.values())) + 2**29  # and the libraries themselves
