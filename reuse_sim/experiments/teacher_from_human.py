"""How much shorter is the teacher for those who have the human, and the human for those who have the teacher?

One cell is one world: a teacher, two humans of it, one of another teacher, and learners that foretell answers block by
block, beginning with one of these or with nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, field_validator
from torch import Tensor

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import Refusal
from reuse_sim.experiments.scene import training_bytes
from reuse_sim.ledger import prequential
from reuse_sim.ledger.shortest import shortest
from reuse_sim.ledger.students import Student, Waves, cold
from reuse_sim.nets import Mlp
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream, streams
from reuse_sim.types import Human, World
from reuse_sim.worlds.radius import FREQUENCY

STARTS = ("cold", "given", "sibling", "unrelated")
"""What learners of a network's answers begin with: nothing, the other one, a sibling, another teacher's human."""
NAMED = 256
"""Questions that a network is written out for; on all of them counts what it leaves over."""

METHOD = (
    "K(y) is the length of a code of a network's answers to n questions, with normal noise of variance τ times theirs; "
    "an answer foretold exactly costs nothing. It is the shortest found of two: a prequential code, where learners "
    "trained anew on all blocks so far foretell the next, and the network written out by a range coder at the best of "
    "some tolerances, with what it leaves over. K(y | other) begins with a learner that was taught the other network's "
    "answers to as many such questions as it liked, in a Bayes mixture with one that begins cold, all alike in each "
    "block. A joint code tells one network outright and the other given it; its decoder trains learners once, and then "
    "needs one forward pass per question."
)

METRICS = (
    Metric("ledger/given_share", "ratio", "K(f | H)/K(f), shortest codes found.", r"K(\theta_1|\theta_2)/K(\theta_1)",
           headline=True),
    Metric("ledger/joint_share", "ratio", "(shortest joint code − K(H))/K(f).", r"(|\theta_3| - |\theta_2|)/|\theta_1|",
           headline=True),
    Metric("ledger/reverse_share", "ratio", "K(H | f)/K(H), shortest codes found.", headline=True),
    Metric("ledger/student_share", "ratio", "Of prequential codes of f alone: mixture of starts with θ2 and cold, over "
           "cold.", headline=True),
    Metric("ledger/sibling_share", "ratio", "The same with a sibling's θ2."),
    Metric("ledger/sibling_less_share", "ratio", "What that is more than with this human's."),
    Metric("ledger/unrelated_share", "ratio", "The same with θ2 of another teacher's human."),
    Metric("ledger/naive_share", "ratio", "The same without a mixture: above 1 where the start with θ2 costs bits."),
    Metric("ledger/cold_bits", "bits", "Prequential code of f from a cold start."),
    Metric("ledger/given_bits", "bits", "Prequential code of f by the mixture of starts with θ2 and cold."),
    Metric("ledger/written_bits", "bits", "f written out, with what that leaves over."),
    Metric("ledger/human_cold_bits", "bits", "Prequential code of H from a cold start."),
    Metric("ledger/human_given_bits", "bits", "Prequential code of H by the mixture of starts with θ1 and cold."),
    Metric("ledger/human_written_bits", "bits", "H written out, with what that leaves over."),
    Metric("human/error", "ratio", "Mean of (H − f)² over var f on these questions."),
)


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    student: Literal["tanh", "sines"] = Field("tanh", description="what learners are: as humans, or as teachers are")
    units: int = Field(32, ge=1, le=1024, description="hidden units of a learner")
    asked: Literal["on", "off", "broad"] = Field("on", description="questions: on-, off-distribution, or half of each")
    questions: int = Field(1024, ge=2, le=65_536, description="n, whose answers are told")
    first: int = Field(16, ge=1, le=65_536, description="answers in the first block; each next one doubles all")
    tolerance: float = Field(0.15, gt=0, le=100, description="noise variance τ of answers, as a share of theirs")
    steps: int = Field(1000, ge=1, le=100_000, description="of Adam before each block")
    rate: float = Field(0.02, gt=0, le=10, description="first learning rate, falling along half a cosine")
    batch: int = Field(32, ge=1, le=65_536, description="answers per step")
    fineness: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.04, 0.01, 0.0025), min_length=1, description="tolerances at which a network is written out; the best counts"
    )
    teaching: int = Field(1500, ge=1, le=100_000, description="steps of Adam to teach a learner what it begins with")

    @field_validator("world")
    @classmethod
    def _of_sines(cls, world: Plugin) -> Plugin:
        if world.use != "radius":
            raise ValueError("the radius world, whose teachers are sums of sines")
        return world


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world. Raises Refusal where a human's training broke."""
    return {name: measure(config, seed, store) for name, config in arms.items()}


def measure(config: Config, seed: int, store: Store) -> Measured:
    """One arm: people and learners do not depend on the tolerance, and are trained once for all of them."""
    asked = config.model_dump(mode="json", exclude={"world", "human", "tolerance", "fineness"})
    people = store.stage("people", raised, config={"world": config.world, "human": config.human}, seed=seed)
    if people.values["broken"]:
        raise Refusal(f"a human's training broke: {people.values['broken']}; lower human.rate")
    parts = {"world": config.world, "human": config.human}
    what = {"asked": config.asked, "questions": config.questions, "fineness": config.fineness}
    written = store.stage("written", write, people, config={**parts, **what}, seed=seed)
    learned = store.stage("learned", learn, people, config={**parts, **asked}, seed=seed)
    metrics, diagnostics = summary(config, learned, written)
    return Measured(metrics, diagnostics, learned.sha256)


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the learners' blocks of questions, or a human's training."""
    def one(c: Config) -> int:
        learners = 2 * len(STARTS) * len(prequential.ends(min(c.first, c.questions), c.questions))
        return max(8 * learners * 50 * c.batch * 16, training_bytes(c.human.build(), c.world.build(), 3))

    return max(map(one, arms.values())) + 2**29  # and the libraries themselves


def raised(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Two teachers; two humans of the first, then one of the other."""
    world: World = config["world"].build()
    human: Human = config["human"].build()
    theta_1 = world.teacher(streams(seed, ["teacher", "other/teacher"]))
    names = ["human", "sibling", "other/human"]
    starts = human.init(world, streams(seed, [f"{name}/init" for name in names]))
    fit = human.train(world, starts, theta_1[[0, 0, 1]], streams(seed, [f"{name}/questions" for name in names]))
    return {"theta_teacher": theta_1, "theta_human": fit.theta}, {"broken": "; ".join(fit.broken.values())}


def draw(world: World, theta_1: Tensor, asked: str, n: int, seed: int, name: str) -> Tensor:
    """n questions `(1, n, d)` of a kind; `broad` are on- and off-distribution by turns."""
    on, off = (stream(seed, f"{name}/{kind}") for kind in ("on", "off"))
    if asked == "on":
        return world.on_distribution(theta_1, n, [on])
    if asked == "off":
        return world.off_distribution(theta_1, n, [off])
    half = -(-n // 2)
    both = world.on_distribution(theta_1, half, [on]), world.off_distribution(theta_1, half, [off])
    return torch.stack(both, dim=2).flatten(1, 2)[:, :n]


def learn(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Squared errors `(2, 4, n)` by what is learned, f or H, and by start, over the variance of the answers."""
    world: World = config["world"].build()
    net = config["human"].build().net(world)
    theta_1, theta_2 = people.tensors["theta_teacher"][:1], people.tensors["theta_human"]

    def answers(x: Tensor) -> Tensor:
        """Of f, H, its sibling and the other teacher's human, `(4, n)`."""
        return torch.cat([world.answer(theta_1, x), world.human_answer(net, theta_2, x)])

    units, sines = config["units"], config["student"] == "sines"
    student: Student = Waves(world.d, units) if sines else Mlp((world.d, units, 1))
    blank = cold(student, [stream(seed, "learner/init")])
    how = {"rate": config["rate"], "batch": config["batch"]}
    free = draw(world, theta_1, config["asked"], 8 * config["questions"], seed, "teaching")
    own = streams(seed, [f"teaching/{i}" for i in range(4)])
    others = prequential.taught(student, blank.repeat(4, 1), free.expand(4, -1, -1), answers(free), own,
                                steps=config["teaching"], **how)
    x = draw(world, theta_1, config["asked"], config["questions"], seed, "told")
    y = answers(x)
    starts = torch.cat([blank, others[[1, 2, 3]], blank, others[[0, 2, 3]]])
    told = y[:2].repeat_interleave(len(STARTS), 0)
    said = prequential.foretold(student, starts, x.expand(len(starts), -1, -1), told,
                                streams(seed, [f"learner/{i}" for i in range(len(starts))]),
                                first=min(config["first"], config["questions"]), steps=config["steps"], **how)
    share = (told - said).double().square() / told.double().var(1, correction=0, keepdim=True)
    human = float((y[0] - y[1]).square().mean() / y[0].var(correction=0))
    return {"errors": share.unflatten(0, (2, len(STARTS)))}, {"human_error": human}


def write(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """For f and H, written out at each fineness: bits, and the mean squared error left on all questions as a share."""
    world: World = config["world"].build()
    net = config["human"].build().net(world)
    theta_1 = people.tensors["theta_teacher"][:1]
    x = draw(world, theta_1, config["asked"], config["questions"], seed, "told")[0].double()
    waves = Waves(world.d, (theta_1.shape[1] - 2) // (world.d + 2))
    found = {}
    for name, kind, theta in (("teacher", waves, as_waves(theta_1[0].double(), world.d)),
                              ("human", net, people.tensors["theta_human"][0].double())):
        sd, told = kind.prior_sd(torch.float64), left_over(kind, theta, x[:NAMED])
        codes = [shortest(theta, sd, told, fine, f"{seed}/{name}") for fine in config["fineness"]]
        over = left_over(kind, theta, x)
        found[name] = [(code.bits, float(over(code.theta[None])[0])) for code in codes]
    return {}, found


def left_over(net: Student, theta: Tensor, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Mean squared error `(N,)` of others `(N, p)` to θ's answers to x `(n, d)`, as a share of their variance."""
    y = net.forward(theta, x)[..., 0]
    return lambda other: (net.forward(other, x)[..., 0] - y).square().mean(-1) / y.var(correction=0)


def as_waves(theta_teacher: Tensor, d: int) -> Tensor:
    """θ `(p,)` of the `Waves` that answer as a teacher `(p1,)` of the radius world does, its phases within ±π."""
    m = (len(theta_teacher) - 2) // (d + 2)
    w, b, a, standard = theta_teacher.split([m * d, m, m, 2])
    phase = torch.remainder(b + math.pi, 2 * math.pi) - math.pi
    return torch.cat([FREQUENCY * w, phase, a / standard[1], -standard[:1] / standard[1]])


def summary(config: Config, learned: Stored, written: Stored) -> tuple[dict[str, float], dict[str, Any]]:
    """Metrics from squared errors and the lengths of what was written, at the arm's tolerance."""
    errors = learned.tensors["errors"]
    first = min(config.first, errors.shape[-1])
    costs = errors / (2 * config.tolerance * math.log(2))  # `prequential.normal_bits` of the answers
    blocks = prequential.blocks(costs, first)  # (2, 4, blocks)
    alone = blocks.sum(-1)
    mixed = [[float(prequential.mixture(blocks[k, [0, s]]).sum()) for s in range(len(STARTS))] for k in range(2)]
    nats = errors.shape[-1] / (2 * config.tolerance)  # of n answers per unit of mean squared error
    per_error = nats / math.log(2)
    out = [min(bits + per_error * left for bits, left in written.values[k]) for k in ("teacher", "human")]
    outright = [min(float(alone[k, 0]), out[k]) for k in range(2)]
    given = [min(mixed[k][1], outright[k]) for k in range(2)]
    joint = min(outright[0] + outright[1], outright[1] + given[0], outright[0] + given[1])
    metrics = {
        "ledger/given_share": given[0] / outright[0],
        "ledger/joint_share": (joint - outright[1]) / outright[0],
        "ledger/reverse_share": given[1] / outright[1],
        "ledger/student_share": mixed[0][1] / float(alone[0, 0]),
        "ledger/sibling_share": mixed[0][2] / float(alone[0, 0]),
        "ledger/sibling_less_share": (mixed[0][2] - mixed[0][1]) / float(alone[0, 0]),
        "ledger/unrelated_share": mixed[0][3] / float(alone[0, 0]),
        "ledger/naive_share": float(alone[0, 1] / alone[0, 0]),
        "ledger/cold_bits": float(alone[0, 0]), "ledger/given_bits": mixed[0][1], "ledger/written_bits": out[0],
        "ledger/human_cold_bits": float(alone[1, 0]), "ledger/human_given_bits": mixed[1][1],
        "ledger/human_written_bits": out[1], "human/error": learned.values["human_error"],
    }
    ends = prequential.ends(first, errors.shape[-1])
    return metrics, {"blocks": blocks.tolist(), "starts": list(STARTS), "ends": list(ends)}
