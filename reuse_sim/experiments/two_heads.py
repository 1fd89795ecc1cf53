"""The two-head proposal in the finite world, where every probability is a sum over a table: what is rewarded, and when.

One cell is one teacher and one human of the table. Heads are all functions of a question and the human's answer to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from math import inf, log2
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from reuse_sim.artifacts import Store
from reuse_sim.plugins import STRICT
from reuse_sim.record import Measured, Metric, finite
from reuse_sim.remedies import grammar, two_head
from reuse_sim.remedies.two_head import Heads, Humans, Setting
from reuse_sim.rng import stream
from reuse_sim.worlds import finite as world
from reuse_sim.worlds.finite import Answers

WEIGHT = 2
"""Humans are perceptrons with weights within this."""
CODE = 3
"""Bits of each of a human's four weights, so that there are 12 to leak."""
COUNTED = 100
"""Heads that rejection must accept for its frequency to be told."""

METHOD = (
    "Questions are the eight vertices of a cube, four of them on-distribution. Humans are all perceptrons with weights "
    "from −2 to 2, alike; heads are all 65,536 functions of a question and the human's answer to it, each as likely as "
    "a random formula is to compute it. A teacher is drawn, and a human who answers as it does on-distribution and "
    "fails elsewhere. The law q(a, b) ∝ p(a) p(b) G(a, b)/p(G|a) D(a, b) is then a sum: G, that the head says what the "
    "human says on the condition's questions; D, that it says what is true on the labelled ones, and that some of the "
    "human's 12 bits are as they leaked. Without reward q ∝ p(a) p(b) D; the shuffled control is paid for how few "
    "humans agree with what the head says of the next question. Rejection runs the proposal's two loops as they are "
    "written."
)

METRICS = (
    Metric("remedies/odds_bits", "bits", "log₂ odds of direct heads to the head that copies, under q.", headline=True),
    Metric("remedies/leak_tv", "total variation", "Of the law of heads from that without a leak.",
           r"\tfrac12 \sum_a |q_k(a) - q_0(a)|", headline=True),
    Metric("remedies/causal_total", "share", "Of answers, on questions where the human fails, that change with the "
           "human's when a repaired one is swapped in, under q.", headline=True),
    Metric("remedies/gap_recovered", "share", "1 − the heads' wrong off-distribution answers over the human's.",
           headline=True),
    Metric("remedies/intended", "probability", "Under q, of the head that says what is true to all questions.",
           headline=True),
    Metric("remedies/formula_error_bits", "bits", "|log₂ odds − (log₂ p(direct, right where labelled) + r⁻ + S)|, S "
           "without the leak; given it where nothing is rewarded or the reward knows it.",
           r"\log_2 p_A(f|\mathrm{on}) + r^- + S"),
    Metric("remedies/intended_error", "probability", "|q(intended | direct) − p(f | right where labelled)|.",
           r"p_A(f_\mathrm{off} \mid f_\mathrm{on})"),
    Metric("remedies/rejection_z", "standard errors", "By how many the frequency of direct heads among those that "
           "rejection accepts differs from q."),
    Metric("remedies/spurious_mass", "ratio", "What the condition is worth to a human of chance: at most 1.",
           r"E_b \sum_a p(a)\, G/p(G|a)"),
    Metric("remedies/spurious_ratio", "ratio", "Largest of 2^k times the share of humans worth k bits: at most 1.",
           r"\max_k 2^k \Pr_b[\text{net bits} \ge k]"),
    Metric("ledger/intended_net_bits", "bits", "What the intended pair is cheaper by than reuse, bits given back.",
           r"S - |\theta_1| - |\text{head } f| + |\text{head } H|"),
    Metric("ledger/intended_wins", "share", "Worlds in which that is 0 or more.", binary=True),
    Metric("ledger/sign_holds", "share", "Worlds in which q prefers what that ledger does, and turns to the other when "
           "the copy is dearer, or cheaper, by a bit more than the difference.", binary=True),
    Metric("specialness/bits", "bits", "S: −log₂ of the share of humans who meet the condition with the teacher."),
)


class Config(BaseModel):
    model_config = STRICT

    teacher: Literal["formula", "counted", "human"] = Field(
        "formula", description="drawn by its shortest formula, from all functions alike, or from the humans"
    )
    reward: Literal["none", "special", "special_given_leak", "shuffled"] = Field(
        "special", description="none, as proposed, with p(G|a) given what leaked, or for answers out of place"
    )
    condition: int = Field(4, ge=1, le=8, description="questions of the condition, on-distribution ones first")
    labels: int = Field(4, ge=1, le=8, description="questions with the truth told, in the same order")
    leak: int = Field(0, ge=0, le=12, description="bits of the human that leak")
    draws: int = Field(100_000, ge=1, le=10_000_000, description="heads that rejection proposes, where nothing leaks")


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One teacher and one human."""
    return {name: measure(config, seed, store) for name, config in arms.items()}


def measure(config: Config, seed: int, store: Store) -> Measured:
    """One arm; a metric that has no finite value is None, and said."""
    done = store.stage("two_heads", run, config=config.model_dump(), seed=seed)
    metrics = done.values["metrics"]
    silent = [name for name, value in metrics.items() if value is None]
    reason = f"not finite: {', '.join(silent)}" if silent else ""
    return Measured(metrics, done.values["diagnostics"], hashlib.sha256(done.sha256.encode()).hexdigest(), "ok", reason)


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: some tables of heads by humans."""
    return 2**30


@lru_cache
def heads() -> Heads:
    """All functions of a question and an answer to it, by the grammar over three features and the answer."""
    points = [(*x, h) for x in world.QUESTIONS for h in (-1, 1)]
    variables = tuple(tuple(point[i] > 0 for point in points) for i in range(4))
    return Heads(grammar.prior(variables), grammar.tables(16).unflatten(1, (8, 2)))


@lru_cache
def people() -> tuple[Humans, Mapping[Answers, int], Sequence[Answers]]:
    """The humans of `worlds.finite.perceptrons`, which of them each setting of the weights is, and their answers."""
    prior = world.perceptrons(WEIGHT)
    place = {h: i for i, h in enumerate(prior)}
    share = torch.tensor([float(p) for p in prior.values()], dtype=torch.float64)
    answers, functions = torch.tensor(list(prior)) > 0, {w: place[h] for w, h in world.settings(WEIGHT).items()}
    return Humans(share, answers), functions, list(prior)


def run(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Draw a teacher and a human, and take the sums."""
    f, w = pair(config["teacher"], seed)
    order = [part[i] for name, part in (("on", world.ON), ("off", world.OFF))
             for i in torch.randperm(4, generator=stream(seed, f"order/{name}")).tolist()]
    condition, labels = (tuple(order[: config[name]]) for name in ("condition", "labels"))
    truth, humans = torch.tensor(f) > 0, people()[0]
    told = leaked(w, config["leak"], seed)
    asked = Setting(heads(), humans, condition, labels, truth, told, config["reward"])
    unleaked = replace(asked, told=torch.ones_like(told))
    human = humans.answers[people()[1][w]]
    values = laws(asked, unleaked, human)
    if set(condition) == set(labels) and config["reward"] != "shuffled":
        values |= formulas(asked, f)
    if config["leak"] == 0:  # what no leak enters, and rejection, which would accept too few
        values |= spurious(asked) | ledger(asked, f)
        if config["reward"] == "special":
            values |= rejected(asked, config["draws"], stream(seed, "rejection"))
    metrics, _ = finite(values)
    drawn = {"teacher": list(f), "human": list(w)}
    return {"teacher": truth, "human": human}, {"metrics": metrics, "diagnostics": drawn}


def pair(kind: str, seed: int) -> tuple[Answers, Answers]:
    """A teacher, and the weights of a human who agrees with it on-distribution and not elsewhere.

    Of teachers by their prior, those that have such humans; of these humans any alike.
    """
    table = {"formula": world.formulas(1), "counted": world.formulas(0), "human": world.perceptrons(WEIGHT)}[kind]
    settings = world.settings(WEIGHT)

    def agree(f: Answers) -> list[Answers]:
        return [w for w, h in settings.items() if world.agreement(f, h, world.ON) == 1 and h != f]

    weights, functions = torch.tensor([float(p) for p in table.values()], dtype=torch.float64), list(table)
    generator = stream(seed, f"teacher/{kind}")
    while True:
        f = functions[int(torch.multinomial(weights, 1, generator=generator))]
        if found := agree(f):
            return f, found[int(torch.randint(len(found), (), generator=stream(seed, f"human/{kind}")))]


def leaked(w: Answers, bits: int, seed: int) -> Tensor:
    """How likely each human function `(B,)` is to have a setting with the bits that leaked of w, in a drawn order."""
    humans, place, _ = people()
    order = torch.randperm(4 * CODE, generator=stream(seed, "leak"))[:bits]

    def code(setting: Answers) -> Tensor:
        return torch.tensor([(v + WEIGHT) >> k & 1 for v in setting for k in reversed(range(CODE))])[order]

    own, settings = code(w), list(place)
    same = (torch.stack([code(s) for s in settings]) == own).all(-1).double()
    at = torch.tensor([place[s] for s in settings])
    return torch.zeros_like(humans.prior).index_add(0, at, same / len(settings)) / humans.prior


def laws(asked: Setting, unleaked: Setting, human: Tensor) -> dict[str, float]:
    """What q says, and how it differs from that without the leak."""
    q, before = two_head.marginal(asked), two_head.marginal(unleaked)
    intended = asked.heads.are(asked.truth, range(8))
    follows, gap = two_head.inherited(q, asked.heads, human, asked.truth, world.OFF)
    return {
        "remedies/odds_bits": two_head.odds_bits(q, asked.heads.direct, asked.heads.copy),
        "remedies/leak_tv": float((q - before).abs().sum() / 2),
        "remedies/causal_total": follows, "remedies/gap_recovered": gap, "remedies/intended": float(q[intended].sum()),
    }  # fmt: skip


def spurious(asked: Setting) -> dict[str, float]:
    """What the condition is worth to humans of chance, whether the head is right or not."""
    worth, prior = two_head.spurious_bits(asked), asked.humans.prior
    return {
        "remedies/spurious_mass": float(worth.exp2() @ prior),
        "remedies/spurious_ratio": max(2.0**k * float(prior[worth >= k].sum()) for k in range(17)),
    }


def formulas(asked: Setting, f: Answers) -> dict[str, float]:
    """How far the sums are from the formulas, whose S is counted by the world."""
    q = two_head.marginal(asked)
    prior, given = asked.humans.prior, asked.reward != "special"
    weight = prior * asked.told if given else prior
    table = dict(zip(people()[2], map(Fraction, weight.tolist()), strict=True))
    share = world.consistent(table, f, 0, asked.condition) / sum(table.values())
    direct, right = asked.heads.direct, asked.heads.are(asked.truth, asked.labels)
    intended = asked.heads.are(asked.truth, range(8))
    left = float(asked.heads.prior[intended].sum() / asked.heads.prior[direct & right].sum())
    expected = two_head.formula_bits(asked.heads, asked.truth, asked.labels, -log2(share))
    return {
        "remedies/formula_error_bits": abs(two_head.odds_bits(q, direct, asked.heads.copy) - expected),
        "remedies/intended_error": abs(float(q[intended].sum() / q[direct].sum()) - left),
    }


def ledger(asked: Setting, f: Answers) -> dict[str, float]:
    """The whole ledger, and whether the law follows it: at its prices, and with the copy's a bit off even."""
    special = world.specialness_bits(f, 0.0, world.perceptrons(WEIGHT), asked.condition)
    net = two_head.ledger_bits(asked.heads, asked.truth, special)
    wins = float(0 <= net < inf)  # where no human meets the condition the intended head has no part in the law
    values = {"specialness/bits": special, "ledger/intended_net_bits": net, "ledger/intended_wins": wins}
    if asked.reward != "special" or set(asked.condition) != set(asked.labels):
        return values
    intended, copy = asked.heads.are(asked.truth, range(8)), asked.heads.copy

    def odds(dearer: float) -> float:
        priced = replace(asked, heads=two_head.repriced(asked.heads, copy, dearer))
        return two_head.odds_bits(two_head.marginal(priced), intended, copy)

    holds = abs(odds(0) - net) < 1e-9 and odds(-net - 1) < 0 < odds(-net + 1)
    return values | {"ledger/sign_holds": float(holds)}


def rejected(asked: Setting, draws: int, generator: torch.Generator) -> dict[str, float]:
    """How far rejection is from the law, where it accepts enough to tell."""
    accepted = two_head.rejection(asked, draws, generator)
    if len(accepted) < COUNTED:
        return {}
    p = float(two_head.marginal(asked)[asked.heads.direct].sum())
    found = float(asked.heads.direct[accepted].double().mean())
    return {"remedies/rejection_z": abs(found - p) / (p * (1 - p) / len(accepted)) ** 0.5}

