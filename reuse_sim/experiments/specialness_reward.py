"""Does paying an answer head for the specialness of its human make it answer with its own f, and does the ledger say so?

One cell is one world: a teacher f, a human that learned it, and heads f1 = c H + N that learn to answer from the human's
own labels. Arms are heads that start elsewhere or are paid otherwise, trained side by side. Beside them stands the exact
ledger of the same event: what a copy costs, and what f costs less the bits that its specialness gives back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor

from reuse_sim import specialness
from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import Refusal
from reuse_sim.experiments.scene import does_not_fail, training_bytes
from reuse_sim.inheritance import observed
from reuse_sim.nets import Mlp
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.remedies import reward, swap
from reuse_sim.remedies.chains import Condition
from reuse_sim.remedies.heads import Own, bits
from reuse_sim.remedies.reward import Rules, Scene, Start
from reuse_sim.rng import stream, streams
from reuse_sim.specialness import Problem
from reuse_sim.specialness import human as humans
from reuse_sim.types import Estimate, Human, World

STRENGTH = 64.0
"""Nats per tolerance of error beyond the tolerance."""
SLACK_OF_TOLERANCE = 1.1
"""The tolerance, as a multiple of the human's own error."""
DECIDED = 2.0
"""Bits by which the ledger must prefer one head for it to say anything."""
SURE = 0.2
"""log ρ of a fresh start: posterior sds of a fifth of the prior's."""
FREE = 3.0
"""How far c may go where nothing holds it within 0 and 1."""
FITS, CODE_RATE = 6, 0.03
"""Starts of the code of f, of which the shortest counts, and the rate of coding, falling to 0."""

METHOD = (
    "A teacher f is drawn and a human H learns it on-distribution. Heads f1 = c H + N learn from the human's own answers "
    "on-distribution; N is a network of the outer model's own with a normal posterior over its parameters. Their loss, in "
    "nats, is KL of that posterior to its prior, misfit to the labels, misfit of f1 to the human on 128 named questions, "
    "and, where rewarded, log Z: the log of the share of humans, under the initialisation prior, that agree with the "
    "head. Misfits are 64 times the excess of the mean squared error over the tolerance, relative to it; the tolerance is "
    "1.1 times the human's own error. The gradient of log Z is averaged over humans of a population of its own, "
    "persistent Hamiltonian chains that follow the head. The shuffled control shows the chains the head's own part in "
    "a fixed wrong order of the questions. The ledger is the same loss, at its ends: J of the copy is the least of it with "
    "c = 1; J of the direct head is what training with c held at 0 comes to, from the shortest of six codes of f by N, with "
    "log Z by sequential Monte Carlo. Beside it stands the intended head: that code of f less S, the specialness of the "
    "human's agreement with f. Swaps put siblings (private) or a repaired human (total) "
    "in the trained head's place."
)

WHERE = "in worlds where the ledger prefers f by more than 2 bits; none elsewhere"
METRICS = (
    Metric("inheritance/causal_private", "1", "Change of the head's answers off-distribution on that of the human's, "
           "siblings put in its place: 1 follows the human."),
    Metric("inheritance/causal_total", "1", "The same with a repaired human in its place.",
           headline=True),
    Metric("inheritance/gap_recovered", "share", "1 − MSE(f1, f)/MSE(H, f) off-distribution.", headline=True),
    Metric("choice/share_of_human", "1", "c, the weight of the human's answer in the head."),
    Metric("choice/swap_residual", "1", "Squared change of the head's answers over that of the human's, siblings put in "
           "its place: 0 where nothing of it is used, 1 for a copy.", r"\sum\|M'-M\|^2 / \sum\|H'-H\|^2"),
    Metric("choice/distance_human", "sd of f", "Root mean square of f1 − H off-distribution."),
    Metric("choice/distance_teacher", "sd of f", "Root mean square of f1 − f off-distribution."),
    Metric("choice/own_share", "share", "Variance of N's answers on-distribution over that of N's and the human's part.",
           r"\mathrm{var}\,N / (\mathrm{var}\,N + \mathrm{var}(cH + r \cdot h))", headline=True),
    Metric("choice/direct", "share", "1 where that is above a half."),
    Metric("choice/against_ledger", "share", "1 where that is not what the ledger prefers; none where it prefers neither "
           "by more than 2 bits.", headline=True),
    Metric("choice/causal_where_direct", "1", f"Total causal {WHERE}."),
    Metric("choice/gap_where_direct", "share", f"Gap recovered {WHERE}."),
    Metric("choice/price_bits", "bits", "KL of the trained own network."),
    Metric("choice/misfit_bits", "bits", "Misfit of the trained head to the labels, on both sets of questions."),
    Metric("choice/acceptance", "share", "Of the chains' moves in the end; none without a reward."),
    Metric("ledger/difference_bits", "bits", "J of the copy less J of the direct head: above 0 the ledger prefers that.",
           r"J_{copy} - J_{direct}"),
    Metric("ledger/copy_bits", "bits", "J of the copy: what it costs to keep N silent. Every human agrees with it."),
    Metric("ledger/direct_bits", "bits", "J of the direct head: the lower of the next two."),
    Metric("ledger/intended_bits", "bits", "The code of f less S."),
    Metric("ledger/held_bits", "bits", "J of what training with c held at 0 comes to from that code."),
    Metric("ledger/direct_gap", "share", "Gap recovered by the direct head: whether it is right where the human is not."),
    Metric("ledger/teacher_bits", "bits", "KL of N's code of f within the tolerance."),
    Metric("ledger/copy_preferred", "share", "1 where the copy is shorter than either before bits come back."),
    Metric("specialness/bits", "bits", "S of agreeing with f, soft with the same misfit."),
    Metric("specialness/held_bits", "bits", "The same of agreeing with the head that was held at c = 0."),
    Metric("human/on_fit", "R²", "Fit of the human to f on-distribution."),
    Metric("human/off_fit", "R²", "Fit of the human to f off-distribution."),
    Metric("outer/on_fit", "R²", "Fit of the head to f on-distribution."),
    Metric("outer/off_fit", "R²", "Fit of the head to f off-distribution."),
    Metric("train_flops", "FLOPs", "Of training the head, its chains with it."),
)  # fmt: skip

SHARED = ("world", "human", "must_fail", "questions", "asked", "own", "width", "steps", "rate", "code_steps", "population",
          "leapfrogs", "effort")  # fmt: skip


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    questions: int = Field(128, ge=2, le=10_000, description="of the condition, and as many of the data")
    asked: int = Field(2048, ge=2, le=100_000, description="off-distribution questions that failure is told on")
    own: Literal["wave", "tanh"] = Field("wave", description="units of N: sines, as f is made of, or like the human's")
    width: int = Field(4, ge=1, le=256, description="hidden units of the own network N")
    steps: int = Field(500, ge=10, le=1_000_000)
    rate: float = Field(0.02, gt=0, le=1)
    code_steps: int = Field(400, ge=10, le=1_000_000, description="of coding f, and then of the ledger's direct head")
    population: int = Field(8, ge=1, le=1024, description="humans in the chains of a head")
    leapfrogs: int = Field(4, ge=1, le=100)
    must_fail: bool = Field(True, description="leave out worlds whose human is as good off-distribution as on it")
    effort: float = Field(0.25, gt=0, le=100, description="of the sampler of S")

    start: Literal["copy_cold", "copy_warm", "direct", "fresh"] = Field(
        "copy_cold", description="copies are c = 1 and N silent, its units drawn afresh or those of the ledger's direct head; "
        "direct is that head itself; fresh is c = 0 and N drawn"
    )
    reward: Literal["none", "own", "shuffled"] = "own"
    since: float = Field(0.0, ge=0, le=1, description="share of training after which the reward counts")
    opens: float = Field(0.0, ge=0, le=1, description="share of training before which the human cannot be used")
    moves: int = Field(1, ge=1, le=100, description="trajectories of each chain at each step")
    free: bool = Field(False, description="c from −3 to 3 and not from 0 to 1")
    reads: bool = Field(False, description="the head also reads the human's hidden units, through weights without a price")
    price: Literal["kl", "l2"] = "kl"

    @model_validator(mode="after")
    def _possible(self) -> Config:
        if self.reward == "none" and self.since:
            raise ValueError("since belongs to a reward")
        return self


def check(arms: Mapping[str, Config]) -> None:
    """Raises InputError where the chains cannot move this kind of human."""
    arm = next(iter(arms.values()))
    world = arm.world.build()
    Condition(arm.human.build().net(world), torch.zeros(2, world.d), 1.0)


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world. Raises Refusal where the human's training broke, or the human does not fail off-distribution."""
    shared = next(iter(arms.values())).model_dump(include=set(SHARED), exclude={"world", "human"})
    first = next(iter(arms.values()))
    about = shared | {"world": first.world, "human": first.human}
    people = store.stage("people", train_people, config={k: about[k] for k in ("world", "human", "questions", "asked")},
                         seed=seed)
    if people.values["broken"]:
        raise Refusal(f"a human's training broke: {people.values['broken'][0]}; lower human.rate")
    if first.must_fail and (trouble := does_not_fail(people.values["human"])):
        raise Refusal(trouble, "undecided")
    if people.values["constant"] <= 1:
        raise Refusal("a constant answer is within the tolerance of the human: take a wider human or more of its steps",
                      "undecided")  # fmt: skip
    ledger = store.stage("ledger", account, people, config=about, seed=seed)
    own = {name: arm.model_dump(exclude=set(SHARED)) for name, arm in arms.items()}
    heads = store.stage("heads", train_heads, people, ledger, config=about | {"arms": own}, seed=seed)
    return {name: measure(name, people, ledger, heads) for name in arms}


def measure(name: str, people: Stored, ledger: Stored, heads: Stored) -> Measured:
    """One arm; undecided where log Z has not converged, or the head or a code broke."""
    found, book = heads.values["arms"][name], ledger.values["metrics"]
    difference = book["ledger/difference_bits"]
    direct = float(found["choice/own_share"] > 0.5)
    told, wins = abs(difference) > DECIDED, difference > DECIDED
    metrics = {
        **people.values["human"], **book, **found,
        "choice/direct": direct,
        "choice/against_ledger": float(direct != wins) if told else None,
        "choice/causal_where_direct": found["inheritance/causal_total"] if wins else None,
        "choice/gap_where_direct": found["inheritance/gap_recovered"] if wins else None,
    }
    trouble = list(ledger.values["trouble"])
    if name in heads.values["broken"]:
        trouble.append("the head's loss stopped being finite: lower rate")
    metrics = {m.name: metrics.get(m.name) for m in METRICS}
    silent = [k for k, v in metrics.items() if v is None]
    reason = "; ".join([*trouble, *([f"not asked here: {', '.join(silent)}"] if silent else [])])
    return Measured(metrics, {"c_path": heads.values["c_path"][name], **ledger.values["estimates"]}, heads.sha256,
                    "undecided" if trouble else "ok", reason)  # fmt: skip


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the chains of all heads at once, or the humans' training."""
    first = next(iter(arms.values()))
    human, world = first.human.build(), first.world.build()
    chains = 4 * len(arms) * first.population * first.questions * 8 * sum(human.net(world).sizes)
    return max(chains, training_bytes(human, world, 5)) + 2**29  # and the libraries themselves


# Stages ----------------------------------------------------------------------------------------------


def train_people(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """θ1, the human, three siblings and the human repaired; questions of condition, data, and off-distribution."""
    world: World = config["world"].build()
    human: Human = config["human"].build()
    theta_1 = world.teacher([stream(seed, "teacher")])
    names = ["human", *(f"sibling/{k}" for k in range(3))]
    theta_0 = human.init(world, streams(seed, [f"{n}/init" for n in names]))
    fit = human.train(world, theta_0, theta_1.expand(len(names), -1), streams(seed, [f"{n}/questions" for n in names]))
    mended = human.train(world, fit.theta[:1], theta_1, [stream(seed, "repaired/questions")], off_share=0.5)
    x = {k: world.on_distribution(theta_1, config["questions"], [stream(seed, f"ask/{k}")])[0]
         for k in ("condition", "data")}
    x["off"] = world.off_distribution(theta_1, config["asked"], [stream(seed, "ask/off")])[0]
    x["on"] = world.on_distribution(theta_1, config["asked"], [stream(seed, "ask/on")])[0]
    net = human.net(world)
    fits = {f"human/{kind}_fit": float(observed.r_squared(world.human_answer(net, fit.theta[:1], x[kind][None]),
                                                          world.answer(theta_1, x[kind][None])))
            for kind in ("on", "off")}  # fmt: skip
    tensors = {"theta_teacher": theta_1, "theta_human": fit.theta[0], "theta_siblings": fit.theta[1:],
               "theta_repaired": mended.theta[0], **{f"x_{k}": v for k, v in x.items()}}
    h, f = (t[0] for t in (world.human_answer(net, fit.theta[:1], x["condition"][None]), world.answer(theta_1, x["condition"][None])))
    constant = float(h.var(correction=0) / (SLACK_OF_TOLERANCE * (h - f).square().mean()))
    return tensors, {"broken": [*fit.broken.values(), *mended.broken.values()], "human": fits, "constant": constant}


class Place:
    """One world at work: its human, f and H on the questions, the tolerance and the condition."""

    def __init__(self, people: Stored, config: Mapping[str, Any]) -> None:
        t = people.tensors
        self.world: World = config["world"].build()
        self.net: Mlp = config["human"].build().net(self.world)
        self.theta_1, self.theta_2 = t["theta_teacher"], t["theta_human"]
        self.siblings, self.repaired = t["theta_siblings"], t["theta_repaired"]
        self.x = {k: t[f"x_{k}"] for k in ("condition", "data", "on", "off")}
        f, h = self.f("condition"), self.h("condition")
        self.variance = float(f.var(correction=0))
        self.tolerance = SLACK_OF_TOLERANCE * float((h - f).square().mean()) / self.variance
        condition = Condition(self.net, self.x["condition"], self.tolerance * self.variance, STRENGTH)
        self.scene = Scene(self.net, self.theta_2, condition, self.x["data"])

    def f(self, kind: str) -> Tensor:
        return self.world.answer(self.theta_1, self.x[kind][None])[0]

    def h(self, kind: str, theta: Tensor | None = None) -> Tensor:
        """Answers of the human `(n,)`, or of others `(K, p2)`: `(K, n)`."""
        return self.world.human_answer(self.net, self.theta_2 if theta is None else theta, self.x[kind])

    def problem(self, answers: Tensor) -> Problem:
        """Specialness of agreeing with `answers` `(n,)` to the condition's questions: the chains' own event, soft beyond τ.

        The consistency is the mean of (H − answers)²/var f less the tolerance, relative to it and at least 0.
        """
        x, tolerance = self.x["condition"].double(), self.tolerance
        exact = humans.problem(self.world, self.theta_1[0], self.net, x, tolerance=tolerance)
        upward = humans.squared_gradient(self.world.human_answer, self.net, x, answers, self.variance)
        assert upward is not None

        def error(theta: Tensor) -> Tensor:
            return (self.world.human_answer(self.net, theta, x) - answers.double()).square().mean(-1) / self.variance

        def cost(theta: Tensor) -> Tensor:
            return (error(theta) / tolerance - 1).clamp(min=0)

        def gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
            value, slope = upward(theta)
            return (value / tolerance - 1).clamp(min=0), slope / tolerance * (value > tolerance)[:, None]

        words = f"excess over {tolerance:.3g} of the {exact.consistency}, relative to it"
        return Problem(exact.dim, exact.reference, cost, 0.0, words, STRENGTH, gradient=gradient, probe=exact.probe,
                       symmetry=exact.symmetry)  # fmt: skip


def account(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The ledger, and its direct head as tensors: what knows an answer of its own."""
    place = Place(people, config)
    copy = torch.arange(FITS + 1) == FITS
    own = _own(place, config, FITS + 1)
    mu = torch.randn(FITS + 1, own.p, generator=stream(seed, "codes/init"))
    mu = torch.where(copy[:, None], own.silent(mu), mu)
    asked = tuple(torch.where(copy[:, None], place.h(k), place.f(k)) for k in ("condition", "data"))
    codes = reward.train(own, _fresh(place, mu, copy.float()), _rules(copy.float(), copy.float(), asked, ~copy), place.scene,
                         stream(seed, "codes"), steps=config["code_steps"], rate=CODE_RATE, cosine=True)  # fmt: skip
    lengths = bits(codes.loss)
    best = int(lengths[:FITS].argmin())

    one, nought = _own(place, config, 1), torch.zeros(1)
    begin = Start(codes.heads.mu[best : best + 1], codes.heads.log_rho[best : best + 1], nought, codes.heads.r[:1])
    labels = tuple(place.h(k)[None] for k in ("condition", "data"))
    held = replace(_rules(nought, nought, labels), until=torch.full((1,), float(config["code_steps"])),
                   moves=torch.ones(1, dtype=torch.long))  # fmt: skip
    direct = reward.train(one, begin, held, place.scene, stream(seed, "direct"), steps=config["code_steps"],
                          rate=CODE_RATE / 3, population=2 * config["population"], leapfrogs=config["leapfrogs"],
                          cosine=True)  # fmt: skip
    answers = one.answer(direct.heads.mu, place.x["condition"])[0]
    said = {name: specialness.estimate(place.problem(target), "smc", config["effort"], generator=stream(seed, name))
            for name, target in (("specialness", place.f("condition")), ("specialness_direct", answers))}  # fmt: skip
    price = float(bits(direct.loss))
    intended_bits = float(lengths[best]) - said["specialness"].bits
    copy_bits, held_bits = float(lengths[FITS]), price - said["specialness_direct"].bits
    heads = direct.heads if held_bits <= intended_bits else begin
    m, f, h = one.answer(heads.mu, place.x["off"])[0], place.f("off"), place.h("off")
    metrics = {
        "ledger/difference_bits": copy_bits - min(held_bits, intended_bits), "ledger/copy_bits": copy_bits,
        "ledger/direct_bits": min(held_bits, intended_bits), "ledger/held_bits": held_bits,
        "ledger/intended_bits": intended_bits, "ledger/teacher_bits": float(bits(codes.kl[best])),
        "ledger/direct_gap": float(1 - (m - f).square().mean() / (h - f).square().mean()),
        "ledger/copy_preferred": float(copy_bits < min(price, float(lengths[best]))),
        "specialness/bits": said["specialness"].bits, "specialness/held_bits": said["specialness_direct"].bits,
    }  # fmt: skip
    trouble = [f"{name}: {s.status}" for name, s in said.items() if s.status != "converged"]
    if float(codes.coarse[best]) > STRENGTH:
        trouble.append(f"no code of f comes within the tolerance ({float(codes.coarse[best]):.0f} nats): raise code_steps")
    estimates = {**{k: _plain(v) for k, v in said.items()}, "tolerance": place.tolerance,
                 "code_bits": [round(float(v), 1) for v in lengths[:FITS]]}  # fmt: skip
    tensors = {"mu": heads.mu[0], "log_rho": heads.log_rho[0]}
    return tensors, {"metrics": metrics, "trouble": trouble, "estimates": estimates}


def _own(place: Place, config: Mapping[str, Any], arms: int) -> Own:
    return Own(place.world.d, config["width"], torch.full((arms,), config["own"] == "wave"))


def _fresh(place: Place, mu: Tensor, c: Tensor) -> Start:
    return Start(mu, torch.full_like(mu, math.log(SURE)), c, torch.zeros(len(mu), place.scene.condition.units))


def train_heads(
    people: Stored, ledger: Stored, config: Mapping[str, Any], seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All arms, stacked."""
    place, names, arms = Place(people, config), [*config["arms"]], [*config["arms"].values()]
    own = _own(place, config, len(arms))
    rules = _arm_rules(arms, place, config["steps"], seed)
    how = {k: config[k] for k in ("steps", "population", "leapfrogs")}
    done = reward.train(own, _start(own, arms, ledger, place, seed), rules, place.scene, stream(seed, "heads"),
                        rate=config["rate"], **how)  # fmt: skip
    found = _figures(own, done, place) | {"train_flops": reward.flops(own, place.scene, rules, **how)}
    values = {
        "arms": {name: {k: _finite(v[i]) for k, v in found.items()} for i, name in enumerate(names)},
        "c_path": {name: [round(float(c), 3) for c in done.c_path[:, i]] for i, name in enumerate(names)},
        "broken": [names[i] for i in done.broken],
    }
    return {"mu": done.heads.mu, "log_rho": done.heads.log_rho, "c": done.heads.c, "r": done.heads.r}, values


def _figures(own: Own, done: reward.Trained, place: Place) -> dict[str, Tensor]:
    """The metrics of A trained heads, `(A,)` each."""
    f, h = place.f("off"), place.h("off")
    m = reward.answer(own, done.heads, place.scene, place.x["off"])
    on = reward.answer(own, done.heads, place.scene, place.x["on"])

    def swapped(others: Tensor) -> tuple[Tensor, Tensor]:
        return (torch.stack([reward.answer(own, done.heads, place.scene, place.x["off"], o) for o in others]),
                place.h("off", others))  # fmt: skip

    private, total = swapped(place.siblings), swapped(place.repaired[None])
    sd = f.std(correction=0)
    alone = own.answer(done.heads.mu, place.x["on"])
    theirs = (on - alone).var(-1)
    return {
        "choice/own_share": alone.var(-1) / (alone.var(-1) + theirs),
        "inheritance/causal_private": swap.causal(m, private[0], h, private[1]),
        "inheritance/causal_total": swap.causal(m, total[0], h, total[1]),
        "inheritance/gap_recovered": 1 - (m - f).square().mean(-1) / (h - f).square().mean(),
        "choice/share_of_human": done.heads.c,
        "choice/swap_residual": swap.residual(m, private[0], h, private[1]),
        "choice/distance_human": (m - h).square().mean(-1).sqrt() / sd,
        "choice/distance_teacher": (m - f).square().mean(-1).sqrt() / sd,
        "choice/price_bits": bits(done.kl),
        "choice/misfit_bits": bits(done.misfit),
        "choice/acceptance": done.acceptance,
        "outer/on_fit": 1 - (on - place.f("on")).square().mean(-1) / place.f("on").var(correction=0),
        "outer/off_fit": 1 - (m - f).square().mean(-1) / f.var(correction=0),
    }


def _start(own: Own, arms: Sequence[Mapping[str, Any]], ledger: Stored, place: Place, seed: int) -> Start:
    """Equal draws for all arms, so that they differ by what they are told alone."""
    drawn = torch.randn(own.p, generator=stream(seed, "heads/init")).expand(len(arms), -1)
    knows = torch.tensor([a["start"] in ("copy_warm", "direct") for a in arms])[:, None]
    copies = torch.tensor([a["start"].startswith("copy") for a in arms])
    mu = torch.where(knows, ledger.tensors["mu"], drawn)
    start = _fresh(place, torch.where(copies[:, None], own.silent(mu), mu), copies.float())
    return replace(start, log_rho=torch.where(knows, ledger.tensors["log_rho"], start.log_rho))


def _arm_rules(arms: Sequence[Mapping[str, Any]], place: Place, steps: int, seed: int) -> Rules:
    n = len(place.x["condition"])
    wrong = torch.randperm(n, generator=stream(seed, "shuffled"))

    def each(key: str) -> Tensor:
        return torch.tensor([float(a[key]) for a in arms])

    low = torch.tensor([-FREE if a["free"] else 0.0 for a in arms])
    high = torch.tensor([FREE if a["free"] else 1.0 for a in arms])
    target = tuple(place.h(k).expand(len(arms), -1) for k in ("condition", "data"))
    paid = torch.tensor([a["reward"] != "none" for a in arms])
    rules = _rules(low, high, target)
    return Rules(
        low, high, opens=(each("opens") * steps).round(), since=(each("since") * steps).round(), until=paid * float(steps),
        moves=each("moves").long(), reads=each("reads") > 0, l2=torch.tensor([a["price"] == "l2" for a in arms]),
        asked=torch.stack([wrong if a["reward"] == "shuffled" else torch.arange(n) for a in arms]), target=rules.target,
        named=rules.named,
    )  # fmt: skip


def _rules(low: Tensor, high: Tensor, target: tuple[Tensor, ...], named: Tensor | None = None) -> Rules:
    """Without a reward."""
    nothing, no = torch.zeros(len(low)), torch.zeros(len(low), dtype=torch.bool)
    order = torch.arange(target[0].shape[1]).expand(len(low), -1)
    return Rules(low, high, nothing, nothing, nothing, no, no, nothing.long(), order, (target[0], target[1]),
                 no if named is None else named)


def _plain(said: Estimate) -> dict[str, Any]:
    return {"bits": said.bits, "low": said.low, "high": said.high, "bound": said.bound, "status": said.status,
            "error_bits": said.diagnostics.get("error_bits")}  # fmt: skip


def _finite(value: Tensor) -> float | None:
    return float(value) if bool(value.isfinite()) else None
