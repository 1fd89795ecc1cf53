"""The two-head proposal, exactly: heads that pay for themselves by a condition that few humans would meet.

A head a answers questions, given the human's answer to each; a human b is one of a table. Rejection (Scherlis 2022):
draw a from p(a); draw b from p(b) until the condition G(a, b) holds; accept where the data D(a, b) hold. So

    q(a, b) ∝ p(a) p(b) G(a, b)/p(G|a) D(a, b),

and a head is paid −log₂ p(G|a) bits, its specialness. G: shown b's answers, the head says what b says on the
condition's questions. D: it says what is true on the labelled ones, and b is as was told of it. The head that copies
meets G with every human, and is paid nothing. A head that ignores the human is *direct*.

With labels on exactly the condition's questions, for any leak,

    log₂ odds(direct : copy) = log₂ p(direct heads that are right there) + r⁻ + S,    r⁻ = −log₂ p(copy),

and q(intended | direct) = p(f | right there): what f says elsewhere earns nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

Reward = Literal["none", "special", "special_given_leak", "shuffled"]
"""`none`: q ∝ p(a) p(b) D. `special`: as above. `special_given_leak`: p(G | a, what was told) in place of p(G|a).
`shuffled`: in its place how many humans agree with what the head would answer to the condition's next question."""


@dataclass(frozen=True)
class Heads:
    """A heads: prior `(A,)`, and whether each says yes to each question where the human says no, yes: `(A, n, 2)`."""

    prior: Tensor
    answers: Tensor

    @cached_property
    def direct(self) -> Tensor:
        """Which heads `(A,)` never ask the human."""
        return (self.answers[..., 0] == self.answers[..., 1]).all(-1)

    @cached_property
    def copy(self) -> Tensor:
        """Which head `(A,)` always says what the human says."""
        return (~self.answers[..., 0] & self.answers[..., 1]).all(-1)

    def are(self, f: Tensor, questions: Sequence[int]) -> Tensor:
        """Which heads `(A,)` say what f `(n,)` says to the questions, whatever the human says."""
        at = list(questions)
        return (self.answers[:, at] == f[at, None]).flatten(1).all(-1)


@dataclass(frozen=True)
class Humans:
    """B humans with prior `(B,)`, and whether each says yes: `(B, n)`."""

    prior: Tensor
    answers: Tensor


@dataclass(frozen=True)
class Setting:
    """What is asked: the condition's and the labelled questions, the truth `(n,)`, the reward.

    `told` `(B,)` is how likely what leaked is of each human: all 1 where nothing did.
    """

    heads: Heads
    humans: Humans
    condition: tuple[int, ...]
    labels: tuple[int, ...]
    truth: Tensor
    told: Tensor
    reward: Reward = "special"


def say(heads: Heads, humans: Humans, questions: Sequence[int], truth: Tensor | None = None) -> Tensor:
    """Whether head a, shown human b's answers, says the truth to all questions, or where None what b says: `(A, B)`."""
    at = list(questions)
    wanted = torch.tensor([False, True]) if truth is None else truth[at, None]
    wrong = (heads.answers[:, at] != wanted).flatten(1).float()
    shown = torch.stack([~humans.answers[:, at], humans.answers[:, at]], dim=-1).flatten(1).float()
    return wrong @ shown.T == 0


def meets(s: Setting, told: Tensor | None = None) -> Tensor:
    """p(G|a) `(A,)` under the humans' prior, or under it given what was told."""
    weight = s.humans.prior if told is None else s.humans.prior * told
    return say(s.heads, s.humans, s.condition).double() @ (weight / weight.sum())


def meets_shuffled(s: Setting) -> Tensor:
    """How many humans say, at each question of the condition, what the head does about the next one, `(A,)`.

    The copy's is 1 still: only what a head says of itself is out of place. Of a head with whom nobody agrees that way
    it is the share of the rarest human, for it must not be paid without end.
    """
    at = list(s.condition)
    heads = Heads(s.heads.prior, s.heads.answers[:, at[1:] + at[:1]])
    humans = Humans(s.humans.prior, s.humans.answers[:, at])
    return (say(heads, humans, range(len(at))).double() @ humans.prior).clamp(min=float(humans.prior.min()))


def law(s: Setting) -> Tensor:
    """q(a, b) `(A, B)`, by sums over all heads and humans. A head whose condition nobody meets has no part in it."""
    q = say(s.heads, s.humans, s.labels, s.truth) * (s.heads.prior[:, None] * (s.humans.prior * s.told))
    if s.reward != "none":
        paid = meets(s, s.told if s.reward == "special_given_leak" else None)
        rate = meets_shuffled(s) if s.reward == "shuffled" else paid
        q = q * say(s.heads, s.humans, s.condition) / torch.where(paid > 0, rate, torch.inf)[:, None]
    return q / q.sum()


def marginal(s: Setting) -> Tensor:
    """q(a) `(A,)`, as `law(s).sum(-1)`: heads and humans who answer alike what is asked are first taken together."""
    asked = list(dict.fromkeys((*s.condition, *s.labels)))
    small, kind = _together(s, asked)
    able = (small.heads.answers == small.truth[:, None]).any(-1)[:, list(small.labels)].all(-1)  # right for some human
    few = replace(small, heads=Heads(small.heads.prior[able], small.heads.answers[able]))
    q = torch.zeros_like(small.heads.prior).masked_scatter(able, law(few).sum(-1))
    return q[kind] * s.heads.prior / small.heads.prior[kind].clamp(min=1e-300)


def _together(s: Setting, asked: list[int]) -> tuple[Setting, Tensor]:
    """The same with one head and one human for all who answer what is asked alike; which one each head became."""
    (heads, tables, kind), (humans, says, which) = (
        _alike(part.prior, part.answers[:, asked]) for part in (s.heads, s.humans)
    )
    there = humans > 0
    told = torch.bincount(which, s.humans.prior * s.told, len(humans))[there] / humans[there]
    condition, labels = (tuple(asked.index(i) for i in part) for part in (s.condition, s.labels))
    people = Humans(humans[there], says[there])
    return Setting(Heads(heads, tables), people, condition, labels, s.truth[asked], told, s.reward), kind


def _alike(prior: Tensor, answers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Summed prior `(2^w,)` and answers `(2^w, …)` of all tables of w answers, and which one each row is."""
    flat = answers.flatten(1)
    width = flat.shape[1]
    kind = (flat.float() @ (2.0 ** torch.arange(width))).long()
    tables = (torch.arange(2**width)[:, None] >> torch.arange(width)) & 1 == 1
    return torch.bincount(kind, prior, 2**width), tables.unflatten(1, answers.shape[1:]), kind


def odds_bits(q: Tensor, these: Tensor, those: Tensor) -> float:
    """log₂ of the odds of two sets of heads under the law of heads q `(A,)`: infinite where one has no part in it."""
    first, second = float(q[these].sum()), float(q[those].sum())
    if first == 0 or second == 0:
        return math.inf if first > second else -math.inf if second > first else math.nan
    return math.log2(first / second)


def formula_bits(heads: Heads, f: Tensor, questions: Sequence[int], specialness_bits: float) -> float:
    """log₂ p(direct heads that say what f says to the questions) + r⁻ + S."""
    right = heads.direct & heads.are(f, questions)
    return math.log2(float(heads.prior[right].sum() / heads.prior[heads.copy].sum())) + specialness_bits


def ledger_bits(heads: Heads, f: Tensor, specialness_bits: float) -> float:
    """S − |θ1| − |head f| + |head H|, what the intended head is cheaper by: θ1 is the head's formula, in one length."""
    intended = heads.prior[heads.are(f, range(len(f)))].sum()
    return specialness_bits + math.log2(float(intended / heads.prior[heads.copy].sum()))


def repriced(heads: Heads, which: Tensor, bits: float) -> Heads:
    """The same with some heads dearer by `bits`, the others' prior as it was."""
    return Heads(torch.where(which, heads.prior * 2.0**-bits, heads.prior), heads.answers)


def spurious_bits(s: Setting) -> Tensor:
    """What each human `(B,)` is worth to all heads, log₂ Σ_a p(a) G(a, b)/p(G|a), whatever is true.

    Its exponential is at most 1 on average over humans, so that k bits or more are there by chance in at most 2^−k of
    them.
    """
    prior, answers, _ = _alike(s.heads.prior, s.heads.answers[:, list(s.condition)])
    few = Humans(s.humans.prior, s.humans.answers[:, list(s.condition)])
    holds = say(Heads(prior, answers), few, range(len(s.condition))).double()
    paid = holds @ s.humans.prior
    return (torch.where(paid > 0, prior / paid, 0.0) @ holds).log2()


def rejection(s: Setting, draws: int, generator: torch.Generator) -> Tensor:
    """Heads (by number) that the proposal's own sampler accepts of `draws` proposed, its two loops as they are written.

    With the reward `special` only. A head whose condition nobody meets is passed over; the sampler would never return.
    """
    proposed = torch.multinomial(s.heads.prior, draws, replacement=True, generator=generator)
    drawn, a = proposed.unique(return_inverse=True)
    heads = Heads(s.heads.prior[drawn], s.heads.answers[drawn])
    holds, right = say(heads, s.humans, s.condition), say(heads, s.humans, s.labels, s.truth)
    a = a[holds[a].any(-1)]
    b, waiting = torch.zeros_like(a), torch.arange(len(a))
    while len(waiting):
        b[waiting] = torch.multinomial(s.humans.prior, len(waiting), replacement=True, generator=generator)
        waiting = waiting[~holds[a[waiting], b[waiting]]]
    kept = torch.rand(len(a), generator=generator, dtype=torch.float64) < s.told[b]
    return drawn[a[right[a, b] & kept]]


def inherited(q: Tensor, heads: Heads, human: Tensor, truth: Tensor, questions: Sequence[int]) -> tuple[float, float]:
    """Under the law's heads, and on those of the questions where the human `(n,)` is wrong: the swap and the gap.

    q is the law of heads `(A,)`. The first is the share of answers that change with the human's when a repaired one is
    swapped in, less those that change the other way; the second is 1 − the heads' wrong answers to all of the
    questions over the human's.
    """
    at = torch.tensor(list(questions))
    fails = at[human[at] != truth[at]]
    said = heads.answers[:, torch.arange(len(human)), human.long()]
    repaired = heads.answers[:, torch.arange(len(human)), truth.long()]
    follows = (said == human)[:, fails].double() - (repaired == human)[:, fails].double()
    wrong = (said != truth)[:, at].double().sum(-1)
    return float(q @ follows.mean(-1)), 1 - float(q @ wrong) / len(fails)
