"""Finite: a world small enough that every probability is a sum over a table.

Questions are the eight vertices of {−1, 1}³. Teachers are all functions of them under the prior 2^−length of the
shortest formula; the table's humans are all perceptrons with small whole-numbered weights, counted. Every specialness
and every other entry of a ledger is then a ratio of whole numbers. On-distribution the last feature is off (−1),
off-distribution it is on. The humans that are trained have hidden units and are not in the table.

Inactive on-distribution: the answers of f to the four off-distribution questions.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import product
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.nets import Mlp, first_logit
from reuse_sim.types import Picture

Answers = tuple[int, ...]
"""A function: its answers −1 or 1 to the eight questions, in the order of `QUESTIONS`."""

QUESTIONS: tuple[Answers, ...] = tuple(product((-1, 1), repeat=3))
ON = tuple(i for i, x in enumerate(QUESTIONS) if x[2] < 0)
OFF = tuple(i for i, x in enumerate(QUESTIONS) if x[2] > 0)


@dataclass(frozen=True)
class Table:
    """The functions that teachers and humans may be, each with its prior probability; both priors sum to 1."""

    teacher_prior: Mapping[Answers, Fraction]
    human_prior: Mapping[Answers, Fraction]


@lru_cache
def table(symbol_bits: int = 1, weight: int = 2) -> Table:
    """Teachers: `formulas(symbol_bits)`. Humans: `perceptrons(weight)`."""
    return Table(MappingProxyType(formulas(symbol_bits)), MappingProxyType(perceptrons(weight)))


@lru_cache
def lengths() -> Mapping[Answers, int]:
    """Symbols of each of the 256 functions' shortest formula in x₁, x₂, x₃, not, and, or, xor (prefix notation)."""
    new: list[set[Answers]] = [set(), set(zip(*QUESTIONS, strict=True))]  # by symbols: functions not found before
    found = dict.fromkeys(sorted(new[1]), 1)
    operators: tuple[Callable[[int, int], int], ...] = (min, max, lambda a, b: -a * b)
    while len(found) < 2 ** len(QUESTIONS):
        here = {tuple(-a for a in f) for f in new[-1]}
        for left in range(1, len(new) - 1):
            pairs = product(new[left], new[len(new) - 1 - left], operators)
            here |= {tuple(map(operator, f, g)) for f, g, operator in pairs}
        new.append(here - found.keys())
        found |= dict.fromkeys(sorted(new[-1]), len(new) - 1)
    return MappingProxyType(found)


def formulas(symbol_bits: int) -> dict[Answers, Fraction]:
    """P(f) ∝ 2^−(`symbol_bits` · symbols of the shortest formula of f), over all 256 functions; 0 bits: counted."""
    mass = {f: Fraction(1, 2 ** (symbol_bits * symbols)) for f, symbols in lengths().items()}
    total = sum(mass.values())
    return {f: m / total for f, m in mass.items()}


@lru_cache
def settings(weight: int) -> Mapping[Answers, Answers]:
    """Answers of every perceptron of whole-numbered (w₁, w₂, w₃, b) within ±`weight`: 1 where w·x + b > 0, else −1."""
    answers = {
        w: tuple(1 if sum(a * b for a, b in zip(w, (*x, 1), strict=True)) > 0 else -1 for x in QUESTIONS)
        for w in product(range(-weight, weight + 1), repeat=4)
    }
    return MappingProxyType(answers)


def perceptrons(weight: int) -> dict[Answers, Fraction]:
    """Share of the (2 `weight` + 1)⁴ perceptrons of `settings` that express each function."""
    counts = Counter(settings(weight).values())
    return {h: Fraction(k, (2 * weight + 1) ** 4) for h, k in counts.items()}


def agreement(f: Answers, h: Answers, questions: Sequence[int] = range(8)) -> Fraction:
    """Share of the questions (by position) to which f and h give one answer."""
    return Fraction(sum(f[i] == h[i] for i in questions), len(questions))


def consistent(humans: Mapping[Answers, Fraction], f: Answers, tolerance: float, questions: Sequence[int]) -> Fraction:
    """μ{h : disagreement with f on the questions ≤ tolerance}, by enumeration of the humans."""
    return sum((p for h, p in humans.items() if 1 - agreement(f, h, questions) <= tolerance), Fraction(0))


def specialness_bits(
    f: Answers, tolerance: float = 0.0, humans: Mapping[Answers, Fraction] | None = None, questions: Sequence[int] = ON
) -> float:
    """−log₂ of `consistent`: the specialness of teacher f under the table's humans, infinite where none is."""
    return bits(consistent(table().human_prior if humans is None else humans, f, tolerance, questions))


def agreement_table(tab: Table) -> dict[tuple[Fraction, Fraction], Fraction]:
    """P(agreement on-distribution, agreement off it) of a teacher and a human drawn from their priors."""
    out: defaultdict[tuple[Fraction, Fraction], Fraction] = defaultdict(Fraction)
    for (f, p), (h, q) in product(tab.teacher_prior.items(), tab.human_prior.items()):
        out[agreement(f, h, ON), agreement(f, h, OFF)] += p * q
    return dict(out)


def off_given_on(prior: Mapping[Answers, Fraction], f: Answers) -> Fraction:
    """P(f off-distribution | f on-distribution): the prior of the answers that on-distribution data leave open."""
    return prior[f] / consistent(prior, f, 0, ON)


def bits(probability: Fraction) -> float:
    """−log₂ of a probability, infinite at 0. Of P(f): |θ1|; of `off_given_on`: its part that earns nothing back."""
    return math.log2(probability.denominator) - math.log2(probability.numerator) if probability else math.inf


@dataclass(frozen=True)
class Finite:
    """f(x) looks x up in θ1, its eight answers in the order of `QUESTIONS`; p1 = 8. Teachers from `formulas`."""

    symbol_bits: int
    shift: Literal["third_on"] = "third_on"
    tolerance: float = 2.0
    d: int = 3

    kind: ClassVar[Literal["classification"]] = "classification"
    shifts: ClassVar[Mapping[str, str]] = {
        "third_on": "The third feature, always off on-distribution, is on with probability (1 + 3 strength)/4."
    }

    def teacher(self, generators: Sequence[torch.Generator]) -> Tensor:
        """θ1 `(T, 8)`, −1 or 1: functions with the probabilities of `formulas(symbol_bits)`."""
        prior = table(self.symbol_bits).teacher_prior
        every = torch.tensor(list(prior), dtype=torch.float32)
        ends = torch.tensor([float(p) for p in prior.values()], dtype=torch.float64).cumsum(0)
        drawn = torch.cat([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
        return every[torch.searchsorted(ends, drawn, right=True).clamp_max(len(every) - 1)]

    def on_distribution(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Uniform over the four questions of `ON`, `(N, n, 3)`."""
        return self._questions(theta_teacher, n, generators, 0.0)

    def off_distribution(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        """Uniform over `OFF` with probability (1 + 3 `strength`)/4, at most 1, else over `ON`: `(N, n, 3)`."""
        return self._questions(theta_teacher, n, generators, (1 + 3 * strength) / 4)

    def answer(self, theta_teacher: Tensor, x: Tensor) -> Tensor:
        """The entries of θ1 at the positions of x in `QUESTIONS`, `(N, n)`."""
        return theta_teacher.gather(-1, ((x > 0) * torch.tensor([4, 2, 1], device=x.device)).sum(-1))

    def inactive(self, theta_teacher: Tensor) -> Tensor:
        """The answers to `OFF`, `(8,)`."""
        return torch.tensor([i in OFF for i in range(8)])

    def human_net(self, width: int) -> Mlp:
        """A tanh perceptron 3-`width`-1."""
        return Mlp((self.d, width, 1), "tanh")

    human_answer = staticmethod(first_logit)

    def picture(self, theta_teacher: Tensor) -> Picture:
        """All eight questions: the third feature down, the first two across; learned is the row where it is off."""
        x = torch.tensor([[QUESTIONS[i] for i in part] for part in (ON, OFF)], dtype=theta_teacher.dtype)
        names = ["".join("−+"[b > 0] for b in QUESTIONS[i][:2]) for i in ON]
        return Picture(x, "first two features", "third feature", names, ["−", "+"], x[..., 2] < 0)

    def _questions(self, like: Tensor, n: int, generators: Sequence[torch.Generator], share: float) -> Tensor:
        drawn = []
        for g in generators:
            seen = torch.randint(2, (n, 2), generator=g)
            third = torch.rand(n, 1, generator=g) < share
            drawn.append(2 * torch.cat([seen, third], dim=1) - 1)
        return torch.stack(drawn).to(like.dtype)


def build(
    symbol_bits: Annotated[int, Field(ge=0, le=16, description="what a symbol of a teacher's formula costs")] = 1,
    shift: Annotated[Literal["third_on"], Field(description="what off-distribution questions are like")] = "third_on",
    tolerance: Annotated[float, Field(gt=0, le=10, description="2: an answer on the right side of 0 is right")] = 2.0,
) -> Finite:
    """The finite world."""
    return Finite(symbol_bits, shift, float(tolerance))
