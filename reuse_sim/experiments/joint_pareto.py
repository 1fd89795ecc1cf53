"""From what little can f and H both be had, for how many bits and FLOPs, and does that beat answering with the human?

One cell is one world: a teacher, a human and fresh humans of that teacher. Every way to have both is written down as
what it is, a code that was read back or a training that was run, and derivations are searched for on the graph of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator
from torch import Tensor

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import joint_ways
from reuse_sim.experiments.joint_ways import CHEAP, CORRECTED, Scene
from reuse_sim.experiments.scene import MUST_FAIL_BY
from reuse_sim.joint import derivation
from reuse_sim.joint.derivation import Way
from reuse_sim.nets import first_output
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream, streams

PASSES = 10
"""Forward passes of the human that a decoder may take per question and still be called cheap."""
PAIR = ("f", "H")
REUSE = ("f on-distribution", "H")

WAYS = {
    "apart": "θ1 and θ2, each by its own code",
    "initialisation": "θ1, the initialisation by its code, and the training",
    "learned_initialisation": "θ1, a learned initialisation as its difference to a known one, and the training",
    "correction": f"θ1, the nearest of {CORRECTED} fresh humans by its number, and the difference in weights",
    "index": "θ1, and the number of a fresh human within the tolerance",
    "residual": "θ1, and a network for what H answers beyond it",
    "bits_back": "θ1 and θ2 less the specialness; a length, not a code",
    "shared": "one network with an answer for each, by its code",
}
"""Ways to have both, by the name of their metrics."""

METHOD = (
    "A teacher f, a human H and fresh humans of its kind are drawn. θ1, θ2, the initialisation, differences and "
    "networks are written by a range coder and read back, at one tolerance for all: the largest mean of (decoded − own "
    "answer)²/var f on named on-distribution questions. The training that is rerun is the human's own, with its "
    "questions in their order; that it gives H to the last bit is checked. The learned initialisation comes by descent "
    "through that training from a known start. The index is log₂ of the number of fresh humans over those within the "
    "tolerance. Bits back are |θ1| + |θ2| − S, S by sequential Monte Carlo at the same tolerance, where H itself is "
    f"within it. A network's f counts as f only where its fit off-distribution is within {MUST_FAIL_BY:g} of that of "
    "θ1 as decoded; otherwise it is on-distribution only, as reuse is. FLOPs are 2 p per answer and 6 p per question "
    "learned from. Derivations are searched for exactly, over a training of the outer model or for one question."
)

METRICS = (
    Metric("joint/reuse_bits", "bits", "θ2 alone, answering with H.", r"|\theta_2|", headline=True),
    Metric("joint/least_bits", "bits", "The shortest derivation of f and H both.", headline=True),
    Metric("joint/below_reuse", "bits", "What reuse takes beyond that; above 0, reuse does not dominate.",
           headline=True),
    Metric("joint/dominated", "share", "Worlds where reuse takes no more bits and no more FLOPs than any derivation of "
           "both, over a training of the outer model."),
    Metric("joint/dominated_codes", "share", "The same of derivations that are codes, without bits back."),
    Metric("joint/excess", "1", f"Shortest derivation of both within {PASSES} forward passes a question beyond |θ2|, "
           "per bit of the teacher.", r"(|\theta_3| - |\theta_2|) / |\theta_1|", headline=True),
    Metric("joint/excess_any", "1", "The same for any compute."),
    *(Metric(f"joint/{name}_bits", "bits", f"{what[0].upper()}{what[1:]}.") for name, what in WAYS.items()),
    *(Metric(f"joint/{name}_flops", "FLOPs", f"Over a training of the outer model: {what}.")
      for name, what in WAYS.items()),
    Metric("joint/reuse_flops", "FLOPs", "Over a training of the outer model: θ2 alone, answering with H."),
    Metric("joint/front", "points", "Derivations on the Pareto front of bits and FLOPs, over a training."),
    Metric("ledger/teacher_bits", "bits", "θ1 by its code.", r"|\theta_1|"),
    Metric("ledger/human_bits", "bits", "θ2 by its code.", r"|\theta_2|"),
    Metric("specialness/bits", "bits", "S, where H is within the tolerance.", "S"),
    Metric("joint/fresh_within", "share", "Fresh humans within the tolerance of H."),
    Metric("joint/replays", "share", "Worlds whose training, rerun, gives θ2 to the last bit."),
    Metric("joint/shared_off_fit", "R²", "The shared network's f off-distribution."),
    Metric("joint/distilled_on_fit", "R²", "A network of the teacher's size learned from H's answers, against f."),
    Metric("joint/distilled_off_fit", "R²", "The same off-distribution: f decoded from θ2 is on-distribution only."),
    Metric("joint/decoded_off_fit", "R²", "θ1 as decoded, off-distribution, against f."),
    Metric("joint/residual_off_fit", "R²", "H of the residual way off-distribution, against H."),
    Metric("joint/index_off_fit", "R²", "H of the index way off-distribution, against H."),
    Metric("joint/learner_over_sibling", "1", f"Best learner under {CHEAP:.0%} of the human's FLOPs: how its failure "
           "predicts H's, over how a sibling's does.", headline=True),
    Metric("joint/learner_own", "R²", "How the best such learner's failure predicts H's; 0 where f does better."),
    Metric("joint/sibling_own", "R²", "How a sibling's failure predicts H's."),
    Metric("joint/human_consistency", "1", "C of the human, the mean of (H − f)²/var f."),
    Metric("human/on_fit", "R²", "Fit of the human on-distribution."),
    Metric("human/off_fit", "R²", "Fit of the human off-distribution."),
)  # fmt: skip


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    tolerance: float = Field(0.15, gt=0, lt=1, description="of behaviour, as a share of var f; one for all lengths")
    questions: int = Field(128, ge=2, le=100_000, description="on-distribution questions that behaviour is compared on")
    off_questions: int = Field(1000, ge=30, le=100_000, description="questions that fits are told on, on and off each")
    fresh: int = Field(512, ge=CORRECTED, le=1_000_000, description="fresh humans")
    shared_widths: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field((4, 6, 8), description="of shared networks")
    learner_widths: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field((2, 4, 6), description="of fast learners")
    lessons: int = Field(1000, ge=1, le=1_000_000, description="steps of networks that learn f, H or both")
    search: int = Field(25, ge=0, le=10_000, description="steps of descent through training to a learned start")
    effort: float = Field(0.2, gt=0, le=100, description="of the sampler of S")
    batches: int = Field(1500, ge=1, le=10**9, description="batches of the outer model's training")
    batch: int = Field(64, ge=1, le=10**9, description="questions in each")

    @field_validator("human")
    @classmethod
    def _by_descent(cls, human: Plugin) -> Plugin:
        if human.use != "descent" or human.options.get("examples") or human.options.get("behaviours"):
            raise ValueError("a human by descent on fresh questions, whose training can be rerun here")
        return human


def check(arms: Mapping[str, Config]) -> None:
    """Raises InputError where an arm's humans are no networks with one hidden layer that answer with their output."""
    for name, arm in arms.items():
        world = arm.world.build()
        net = arm.human.build().net(world)
        if world.human_answer is not first_output or len(net.sizes) != 3:
            raise InputError(f"arm {name}: world", arm.world.use, "one whose humans answer by a network of one "
                             "hidden layer", "Take radius.")


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """Every arm's world. Raises Refusal where a training broke."""
    out = {}
    for name, arm in arms.items():
        people = store.stage("people", train_people,
                             config={k: getattr(arm, k) for k in ("world", "human", "fresh")}, seed=seed)
        if people.values["broken"]:
            raise Refusal(f"arm {name}: a training broke: {people.values['broken'][0]}; lower human.rate")
        found = store.stage("ways", measure, people, config=arm, seed=seed).values
        metrics, lacking = found["metrics"], [m for m, v in found["metrics"].items() if v is None]
        reason = f"{'; '.join(found['why'])}: {', '.join(lacking)}" if lacking else ""
        sha256 = hashlib.sha256(people.sha256.encode()).hexdigest()
        out[name] = Measured(metrics, {k: found[k] for k in ("ways", "front", "status")}, sha256, reason=reason)
    return out


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: fresh humans in training, or their answers; the sampler's population."""
    def one(c: Config) -> int:
        net = c.human.build().net(c.world.build())
        return 8 * c.fresh * (c.questions + c.off_questions + 8 * net.p) + 8 * 4000 * (c.questions * net.sizes[1])

    return max(map(one, arms.values())) + 2**29  # and the libraries themselves


# People ----------------------------------------------------------------------------------------------


def train_people(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The teacher `(1, p1)`, the human with its start `(1, p2)` and fresh humans `(F, p2)` with other questions."""
    world, human = config["world"].build(), config["human"].build()
    teacher = world.teacher([stream(seed, "teacher")])
    start = human.init(world, [stream(seed, "human/init")])
    fit = human.train(world, start, teacher, [stream(seed, "human/questions")])
    names = [f"fresh/{i}" for i in range(config["fresh"])]
    others = human.train(world, human.init(world, streams(seed, [f"{n}/init" for n in names])),
                         teacher.expand(len(names), -1), streams(seed, [f"{n}/questions" for n in names]))
    tensors = {"teacher": teacher, "start": start, "human": fit.theta, "fresh": others.theta}
    return tensors, {"broken": [*fit.broken.values(), *others.broken.values()]}


def measure(people: Any, arm: Config, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All ways of one world, what their answers are worth, and derivations over them."""
    s = Scene(arm, people.tensors, seed)
    decoded = joint_ways.apart(s)
    joint_ways.by_process(s)
    joint_ways.by_fresh_humans(s)
    joint_ways.by_residual(s, decoded)
    joint_ways.by_one_network(s)
    joint_ways.by_distilling(s)
    status = joint_ways.by_bits_back(s)
    joint_ways.fast_learners(s)
    summed, drawn = derived(s.ways, arm, s.answer_h)
    if summed["joint/excess"] is None:
        s.why.append(f"no derivation of both within {PASSES} forward passes of the human a question")
    metrics = dict.fromkeys(m.name for m in METRICS) | s.metrics | summed
    ways = [{**asdict(w), "inputs": sorted(w.inputs), "outputs": sorted(w.outputs)} for w in s.ways]
    return {}, {"metrics": metrics, "front": drawn, "status": status, "why": s.why, "ways": ways}


BY = {
    "apart": ("read θ1", "read θ2"), "initialisation": ("read start",),
    "learned_initialisation": ("read learned start",), "correction": ("correct the nearest",), "index": ("pick one",),
    "residual": ("read residual",), "bits_back": ("bits back",), "shared": ("read shared",),
}  # fmt: skip
"""The ways that a derivation of each name must take."""
CODES = {name for names in BY.values() for name in names}
ALWAYS = {"read θ1"}


def derived(ways: Sequence[Way], arm: Config, answer_h: float) -> tuple[dict[str, float | None], list[dict[str, Any]]]:
    """The metrics that are about derivations, and those worth drawing: the pair's by each way, and reuse."""
    run = derivation.per_run(arm.batches, arm.batch)
    reuse = derivation.shortest([w for w in ways if w.name in ("read θ2", "answer as H")], REUSE, run)
    found: dict[str, derivation.Derivation] = {}
    for name, codes in BY.items():
        allowed = [w for w in ways if w.name not in CODES or w.name in (*codes, *ALWAYS)]
        if name in ("bits_back", "shared"):
            allowed = [w for w in allowed if w.name not in ALWAYS]
        targets = PAIR if name != "shared" or _gives(ways, "answer as both", "f") else REUSE
        allowed = _takeable(allowed)
        if set(codes) <= {w.name for w in allowed}:
            found[name] = derivation.shortest(allowed, targets, run)
    real = [w for w in ways if w.name != "bits back"]
    front, codes_front = derivation.front(ways, PAIR, run), derivation.front(real, PAIR, run)
    apart = {w.name: w.bits for w in ways}
    theta_1, theta_2 = apart["read θ1"], apart["read θ2"]
    cheap = [d.bits for d in derivation.front(real, PAIR, derivation.per_question()) if d.flops <= PASSES * answer_h]
    metrics: dict[str, float | None] = {
        "joint/reuse_bits": reuse.bits, "joint/reuse_flops": reuse.flops, "joint/least_bits": front[0].bits,
        "joint/below_reuse": reuse.bits - front[0].bits, "joint/front": float(len(front)),
        "joint/dominated": float(all(derivation.dominates(reuse, d) for d in front)),
        "joint/dominated_codes": float(all(derivation.dominates(reuse, d) for d in codes_front)),
        "joint/excess": (min(cheap) - theta_2) / theta_1 if cheap else None,
        "joint/excess_any": (codes_front[0].bits - theta_2) / theta_1,
    }
    for name, d in found.items():
        metrics |= {f"joint/{name}_bits": d.bits, f"joint/{name}_flops": d.flops}
    drawn = [{"name": "reuse", "bits": reuse.bits, "flops": reuse.flops, "pair": False, "front": True}]
    best = {(d.bits, d.flops) for d in front}
    for name, d in found.items():
        drawn.append({"name": name, "bits": d.bits, "flops": d.flops, "front": (d.bits, d.flops) in best,
                      "pair": name != "shared" or _gives(ways, "answer as both", "f")})
    return metrics, drawn


def _gives(ways: Sequence[Way], name: str, thing: str) -> bool:
    return any(w.name == name and thing in w.outputs for w in ways)


def _takeable(ways: Sequence[Way]) -> list[Way]:
    had = derivation.obtainable(ways)
    return [w for w in ways if w.inputs <= had]
