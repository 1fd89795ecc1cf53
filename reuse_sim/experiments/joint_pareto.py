"""From what little can f and H both be had, for how many bits and FLOPs, and does that beat answering with the human?

One cell is one world: a teacher, a human and fresh humans of that teacher. Every way to have both is written down as
what it is, a code that was read back or a training that was run, and derivations are searched for on the graph of them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field, field_validator
from torch import Tensor

from reuse_sim import specialness
from reuse_sim.artifacts import Store
from reuse_sim.engines.spec import BLOCK, Adam, Fresh, Head
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments.rederive import rederived
from reuse_sim.experiments.scene import MUST_FAIL_BY
from reuse_sim.inheritance import observed
from reuse_sim.joint import derivation
from reuse_sim.joint.derivation import Way, Workload
from reuse_sim.joint.recover import recover
from reuse_sim.joint.replay import Process, replays
from reuse_sim.joint.unrolled import supervised
from reuse_sim.ledger import quantised
from reuse_sim.nets import Mlp, first_output
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream, streams
from reuse_sim.specialness import symmetry
from reuse_sim.train import train
from reuse_sim.types import World

FAMILY = 256
"""Teachers that say what the spread of a teacher's parameters is, which its code is written in."""
CORRECTED = 64
"""Fresh humans of whom the nearest is corrected in weight space."""
LESSON = 64
"""Questions of a step in which a network learns f, H or both."""
PASSES = 10
"""Forward passes of the human that a decoder may take per question and still be called cheap."""
CHEAP = 0.01
"""Share of the human's FLOPs that a learner may take and still be called fast."""
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
    "A teacher f, a human H and fresh humans of the same kind are drawn. θ1, θ2, the initialisation, differences and "
    "networks are written by a range coder at the tolerance, the largest mean of (decoded − own answer)²/var f on named "
    "on-distribution questions, and read back. The training that is rerun is the human's own, with its questions in "
    "their order; that it gives H to the last bit is checked. The learned initialisation comes by descent through that "
    "training from a known start. The index is log₂ of the number of fresh humans over those within the tolerance. "
    "Bits back are |θ1| + |θ2| − S, S by sequential Monte Carlo at the same tolerance, where H itself is within it. A "
    f"network's f counts as f only where its fit off-distribution is within {MUST_FAIL_BY:g} of that of θ1 as decoded; "
    "otherwise it is on-distribution only, as reuse is. FLOPs are 2 p per answer and 6 p per question learned from. "
    "Derivations are searched for exactly. All is used for one question, one batch, or a training of the outer model."
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
            raise InputError(f"arm {name}: world", arm.world.use, "one whose humans answer with their network's output, "
                             "of one hidden layer", "Take radius.")


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


@dataclass
class Scene:
    """One world's people and questions, in float64, and distances in answers as shares of var f."""

    world: World
    net: Mlp
    teacher: Tensor
    human: Tensor
    x: Tensor
    lessons: int
    seed: int

    def __post_init__(self) -> None:
        self.f, self.h = self.right(self.teacher[None])[0], self.net.forward(self.human, self.x)[..., 0]
        self.variance = self.f.var(correction=0)
        self.sd = self.net.prior_sd(torch.float64)

    def right(self, theta_1: Tensor) -> Tensor:
        """What teachers `(n, p1)` answer, `(n, questions)`."""
        return self.world.answer(theta_1, self.x.expand(len(theta_1), -1, -1))

    def apart(self, answers: Tensor, truth: Tensor) -> Tensor:
        """The mean of (answer − truth)²/var f, `(n, questions)` -> `(n,)`."""
        return (answers - truth).square().mean(-1) / self.variance

    def from_human(self, theta_2: Tensor) -> Tensor:
        """The same of networks `(n, p2)` and the human."""
        return self.apart(self.net.forward(theta_2, self.x)[..., 0], self.h)

    def learn(self, sizes: tuple[int, ...], told: Callable[[Tensor], Tensor], name: str) -> Tensor:
        """θ `(p,)` of the best of 4 networks that learn what they are `told` `(n, d)` -> `(n, outputs)`."""
        net, runs = Mlp(sizes, self.net.activation), 4
        own = streams(self.seed, [f"{name}/{i}/questions" for i in range(runs)])
        teacher = self.teacher.float().expand(runs, -1)

        def draw(members: slice, n: int) -> tuple[Tensor, Tensor]:
            x = self.world.on_distribution(teacher[members], n, own[members])
            return x, torch.stack([told(q.double()).float() for q in x])

        start = net.init(streams(self.seed, [f"{name}/{i}/init" for i in range(runs)]))
        fit = train(net, start, Fresh(draw, LESSON), steps=self.lessons, optimizer=Adam(0.02), heads=(Head("squared", sizes[-1]),),
                    engine="torch")
        wrong = (net.forward(fit.theta.double(), self.x) - told(self.x)).square().mean((-1, -2))
        return fit.theta[int(wrong.nan_to_num(torch.inf).argmin())].double()



def rerun(world: World, human: Any, teacher: Tensor, seed: int) -> Process:
    """The human's own training as a function of its start: its questions in their order."""
    own, blocks = stream(seed, "human/questions"), -(-human.steps // BLOCK)
    x = torch.cat([world.on_distribution(teacher, BLOCK * human.batch, [own])[0] for _ in range(blocks)])
    x = x.unflatten(0, (-1, human.batch))[: human.steps]
    y = world.answer(teacher, x.flatten(0, 1)[None])[0].view(x.shape[:2])
    return Process(human.net(world), x, y, Adam(human.rate))


# Ways ------------------------------------------------------------------------------------------------


def measure(people: Any, arm: Config, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All ways of one world, derivations over them, and what their answers are worth."""
    world, human = arm.world.build(), arm.human.build()
    t = {k: v.double() for k, v in people.tensors.items()}
    x = world.on_distribution(people.tensors["teacher"], arm.questions, [stream(seed, "asked")])[0].double()
    s = Scene(world, human.net(world), t["teacher"][0], t["human"][0], x, arm.lessons, seed)
    process = rerun(world, human, people.tensors["teacher"], seed)
    asked = {where: draw(people.tensors["teacher"], arm.off_questions, [stream(seed, f"{where}/asked")])[0].double()
             for where, draw in (("on", world.on_distribution), ("off", world.off_distribution))}
    truth = {where: world.answer(t["teacher"], q[None])[0] for where, q in asked.items()}
    said = {where: s.net.forward(s.human, q)[..., 0] for where, q in asked.items()}

    def fit(answers: Tensor, against: Tensor) -> float:
        return float(observed.r_squared(answers[None], against[None]))

    tau, why = arm.tolerance, []
    family = torch.cat([world.teacher(streams(seed, [f"family/{i}" for i in range(FAMILY)])).double(), t["teacher"]])
    code = {
        "teacher": quantised.shortest(s.teacher, family.square().mean(0).sqrt().clamp_min(1e-6),
                                      lambda theta: s.apart(s.right(theta), s.f), tau),
        "human": quantised.shortest(s.human, s.sd, s.from_human, tau),
        "start": quantised.shortest(t["start"][0], s.sd, lambda theta: s.from_human(process(theta)), tau, "uniform"),
    }  # fmt: skip
    decoded = code["teacher"].theta[None]
    p1, p2, c = s.teacher.numel(), s.net.p, float(human.train_flops(world))
    answer_f, answer_h = 2.0 * p1, 2.0 * p2
    ways = [
        Way("read θ1", (), ("θ1",), code["teacher"].bits), Way("read θ2", (), ("θ2",), code["human"].bits),
        Way("answer as f", ("θ1",), ("f", "f on-distribution"), question=answer_f),
        Way("answer as H", ("θ2",), ("H", "f on-distribution"), question=answer_h),
        Way("read start", (), ("θ̃2",), code["start"].bits),
        Way("train", ("θ1", "θ̃2"), ("θ2",), once=c),
    ]  # fmt: skip
    metrics: dict[str, float | None] = {m.name: None for m in METRICS}

    # A start learned from a known one.
    known = s.net.init([stream(seed, "known/init")], torch.float64)
    unrolled = supervised(s.net, process.x.double(), process.y.double(), process.steps, process.optimizer)
    learned = recover(unrolled, known, s.sd, s.from_human, [tau], steps=arm.search)
    if bool(learned.reached.all()):
        change = quantised.shortest(learned.theta[0, 0] - known[0], s.sd,
                                    lambda d: s.from_human(process(known + d)), tau, "uniform")
        ways.append(Way("read learned start", (), ("θ̃2 learned",), change.bits))
        ways.append(Way("train from learned", ("θ1", "θ̃2 learned"), ("θ2",), once=c))
    else:
        why.append(f"no start within the tolerance in {arm.search} steps")

    # Fresh humans: the nearest corrected, or one within the tolerance told by its number.
    near = torch.cat([s.from_human(part) for part in t["fresh"].split(256)])
    best = int(near[:CORRECTED].argmin())
    group = symmetry.of_net(s.net)
    assert group is not None
    fresh = group.align(t["fresh"][best][None] / s.sd, s.human / s.sd)[0] * s.sd
    correction = quantised.shortest(s.human - fresh, s.sd, lambda d: s.from_human(fresh + d), tau)
    ways.append(Way(f"train {CORRECTED} fresh", ("θ1",), ("few fresh",), once=CORRECTED * c))
    ways.append(Way("correct the nearest", ("few fresh",), ("θ2",), math.log2(CORRECTED) + correction.bits))
    within = int((near <= tau).sum())
    if within:
        # As many are trained as there are until the one that is told, on average.
        ways.append(Way("train fresh", ("θ1",), ("many fresh",), once=c * arm.fresh / within))
        ways.append(Way("pick one", ("many fresh",), ("θ2",), math.log2(arm.fresh / within)))
        told = t["fresh"][int((near <= tau).nonzero()[0])]
        metrics["joint/index_off_fit"] = fit(s.net.forward(told, asked["off"])[..., 0], said["off"])
    else:
        why.append(f"none of {arm.fresh} fresh humans within the tolerance: an index takes more than "
                   f"{math.log2(arm.fresh):.1f} bits")

    # What H answers beyond f, by a network of its own.
    def beyond(q: Tensor) -> Tensor:
        f_said = world.answer(decoded, q[None])[0]
        return (s.net.forward(s.human, q)[..., 0] - f_said).unsqueeze(-1)

    rest = s.learn((*s.net.sizes[:2], 1), beyond, "residual")
    f_decoded = s.right(decoded)[0]
    residual = quantised.shortest(
        rest, s.sd, lambda theta: s.apart(f_decoded + s.net.forward(theta, x)[..., 0], s.h), tau
    )
    ways.append(Way("read residual", (), ("residual",), residual.bits))
    ways.append(Way("f and residual", ("θ1", "residual"), ("H",), question=answer_f + answer_h))

    # One network for both, and one that learns f from H.
    def both(q: Tensor) -> Tensor:
        return torch.stack([world.answer(t["teacher"], q[None])[0], s.net.forward(s.human, q)[..., 0]], -1)

    shared, off = None, -math.inf
    for width in arm.shared_widths:
        net = Mlp((world.d, width, 2), s.net.activation)
        theta = s.learn(net.sizes, both, f"shared/{width}")

        def worse(theta: Tensor, net: Mlp = net) -> Tensor:
            said = net.forward(theta, x)
            return torch.maximum(s.apart(said[..., 0], s.f), s.apart(said[..., 1], s.h))

        if float(worse(theta[None])[0]) < tau:
            told_both = quantised.shortest(theta, net.prior_sd(torch.float64), worse, tau)
            if shared is None or told_both.bits < shared[0]:
                shared = told_both.bits, net.p
                off = fit(net.forward(told_both.theta, asked["off"])[..., 0], truth["off"])
    decoded_off = fit(world.answer(decoded, asked["off"][None])[0], truth["off"])
    if shared:
        metrics["joint/shared_off_fit"] = off
        gives = PAIR if off >= decoded_off - MUST_FAIL_BY else REUSE
        ways.append(Way("read shared", (), ("θ3",), shared[0]))
        ways.append(Way("answer as both", ("θ3",), (*gives, "f on-distribution"), question=2.0 * shared[1]))
    else:
        why.append("no shared network met the tolerance")
    student = Mlp((world.d, max(1, round((p1 - 1) / (world.d + 2))), 1), s.net.activation)
    copy = s.learn(student.sizes, lambda q: s.net.forward(s.human, q)[..., :1], "distilled")
    ways.append(Way("learn f from H", ("θ2",), ("θ1 learned",), once=6.0 * student.p * arm.lessons * LESSON))
    ways.append(Way("answer as learned", ("θ1 learned",), ("f on-distribution",), question=2.0 * student.p))

    # Bits back.
    consistency = float(s.apart(s.h[None], s.f)[0])
    status = ""
    if consistency <= tau:
        problem = specialness.Problem.for_human(world, people.tensors["teacher"][0], s.net, x, tolerance=tau)
        found = specialness.estimate(problem, "smc", arm.effort, generator=stream(seed, "specialness"))
        status, metrics["specialness/bits"] = found.status, found.bits
        back = max(0.0, code["teacher"].bits + code["human"].bits - found.bits)
        flops = 6.0 * p2 * arm.questions * found.evaluations
        ways.append(Way("bits back", (), ("θ1", "θ2"), back, once=flops, note="a length, not a code"))
    else:
        why.append(f"the human, at {consistency:.3g}, is not within the tolerance of f itself")

    metrics |= {
        "joint/replays": float(replays(process, people.tensors["start"], people.tensors["human"])),
        "joint/fresh_within": within / arm.fresh, "joint/human_consistency": consistency,
        "human/on_fit": fit(said["on"], truth["on"]), "human/off_fit": fit(said["off"], truth["off"]),
        "ledger/teacher_bits": float(code["teacher"].bits), "ledger/human_bits": float(code["human"].bits),
        "joint/decoded_off_fit": decoded_off,
        "joint/residual_off_fit": fit(
            world.answer(decoded, asked["off"][None])[0] + s.net.forward(residual.theta, asked["off"])[..., 0],
            said["off"]),
        **{f"joint/distilled_{w}_fit": fit(student.forward(copy, asked[w])[..., 0], truth[w]) for w in asked},
        **fast_learners(arm, people.tensors, asked["off"], truth["off"], said["off"], seed),
    }  # fmt: skip
    summed, front = derived(ways, arm, answer_h)
    return {}, {"metrics": metrics | summed, "front": front, "status": status, "why": why,
                "ways": [{**asdict(w), "inputs": sorted(w.inputs), "outputs": sorted(w.outputs)} for w in ways]}


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
    cheap = [d for d in derivation.front(real, PAIR, derivation.per_question()) if d.flops <= PASSES * answer_h]
    metrics: dict[str, float | None] = {
        "joint/reuse_bits": reuse.bits, "joint/reuse_flops": reuse.flops, "joint/least_bits": front[0].bits,
        "joint/below_reuse": reuse.bits - front[0].bits, "joint/front": float(len(front)),
        "joint/dominated": float(all(derivation.dominates(reuse, d) for d in front)),
        "joint/dominated_codes": float(all(derivation.dominates(reuse, d) for d in codes_front)),
        "joint/excess": (min(d.bits for d in cheap) - theta_2) / theta_1,
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


def fast_learners(
    arm: Config, people: Mapping[str, Tensor], x: Tensor, truth: Tensor, said: Tensor, seed: int
) -> dict[str, float | None]:
    """How learners with a hundredth of the human's FLOPs, and siblings, predict H's failure off-distribution."""
    world, human = arm.world.build(), arm.human.build()
    budget, runs = CHEAP * human.train_flops(world), 8
    siblings = human.net(world).forward(people["fresh"][:runs].double(), x)[..., 0].unsqueeze(1)
    learned, k = {}, 0
    for width in arm.learner_widths:
        for rate in (0.02, 0.05, 0.1):
            build = type(human)
            one = build(width=width, steps=1, rate=rate, batch=4)
            steps = int(budget // one.train_flops(world))
            if steps < 1:
                continue
            kind = build(width=width, steps=steps, rate=rate, batch=4)
            names = [f"learner/{width}/{rate}/{i}" for i in range(runs)]
            fit = kind.train(world, kind.init(world, streams(seed, [f"{n}/init" for n in names])),
                             people["teacher"].expand(runs, -1), streams(seed, [f"{n}/questions" for n in names]))
            learned[k] = kind.net(world).forward(fit.theta.double(), x)[..., 0].unsqueeze(1)
            k += 1
    metrics, _ = rederived(said[None], siblings, learned, truth[None])
    own, sibling = metrics["rederive/own_learned"], metrics["rederive/own_fresh"]
    return {"joint/learner_own": own, "joint/sibling_own": sibling,
            "joint/learner_over_sibling": own / sibling if sibling > 0 else None}
