"""Boolean: sums of Fourier characters, learned where one combination of features is rare.

Questions are x in {−1, 1}^n, that is bits b in {0, 1}^n through x_i = (−1)^{b_i}; the character χ_S(x) = Π_{i∈S} x_i
is then the parity of the bits in S. The first three coordinates are features that are seldom on (+1) together
on-distribution, though every other combination of them is common; off-distribution questions have all three on.

Grades of teachers: `low_degree` is a random sum, `staircase` climbs one coordinate at a time (leap 1), `needle` has
characters of the same degrees without a ladder up to them (leap = degree). The code that names each character's
coordinates spends Σ_S log₂ C(n, |S|) bits on either; one that knows ladders is shorter for the staircase.

With `exceptions` a share of f's characters are turned round where all three features are on, and only there: what holds
elsewhere then says little about them, and who has learned it well is consistently wrong.

Inactive on-distribution: nothing. The combination is rare, never absent, so every coefficient carries variance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Activation, Mlp, first_output
from reuse_sim.types import Picture

TRIPLE = 3
Grade = Literal["low_degree", "staircase", "needle"]


@dataclass(frozen=True)
class Boolean:
    """f(x) = (Σ_k c_k χ_{S_k}(x) − mean) / sd, exactly standardised on-distribution.

    A character that is turned round where all three are on is c χ_S (1 − 2·1_{+++}), and 1_{+++} = Σ_T χ_T / 8 over the
    subsets T of the triple: eight characters χ_{S △ T} with −c/4 each, beside its own.

    θ1 is `(S as 0/1 rows of n, c, mean, sd)`, p1 = K (n + 1) + 2 for K characters.
    """

    n: int
    grade: Grade
    degree: int
    terms: int
    rare: float
    exceptions: float = 0.0
    shift: Literal["rare"] = "rare"
    activation: Activation = "relu"
    tolerance: float = 0.5

    kind: ClassVar[Literal["regression"]] = "regression"
    shifts: ClassVar[Mapping[str, str]] = {
        "rare": "The rare combination's frequency goes from the on-distribution one at strength 0 to always at 1."
    }

    @property
    def d(self) -> int:
        return self.n

    def teacher(self, generators: Sequence[torch.Generator]) -> Tensor:
        """θ1 `(T, p1)`: |c| ~ U[.75, 1.25], fair signs; coordinates relabelled within and outside of the triple."""
        return torch.stack([self._teacher(g) for g in generators]).float()

    def _teacher(self, generator: torch.Generator) -> Tensor:
        sets = self._sets(generator)
        size, sign = torch.rand(2, len(sets), generator=generator, dtype=torch.float64)
        c = (0.75 + 0.5 * size) * torch.where(sign < 0.5, -1.0, 1.0)
        turned = round(self.exceptions * len(sets))
        sets = sets + [s ^ t for s in sets[:turned] for t in subsets(range(TRIPLE))]
        c = torch.cat([c, (-c[:turned] / 4).repeat_interleave(2**TRIPLE)])
        mean, sd = moments(sets, c, self.rare)
        rows = torch.tensor([[i in s for i in range(self.n)] for s in sets]).double()
        return torch.cat([rows.flatten(), c, mean[None], sd[None]])

    def _sets(self, generator: torch.Generator) -> list[frozenset[int]]:
        if self.grade == "low_degree":
            every = crossing(self.n, self.degree)
            return [every[i] for i in torch.randperm(len(every), generator=generator)[: self.terms].tolist()]
        inside = torch.randperm(TRIPLE, generator=generator).tolist()
        outside = (TRIPLE + torch.randperm(self.n - TRIPLE, generator=generator)).tolist()
        # The ladder's second rung then stands alone where the triple is on: no other cancels it, and f varies there.
        order = [inside[0], *outside[:2], inside[1], outside[2], inside[2], *outside[3:]]
        return ladder(order, self.degree) if self.grade == "staircase" else needles(order, self.degree)

    def on_distribution(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Uniform in {−1, 1}^n, but for the triple: all on with probability `rare`, else one of seven: `(N, n, d)`."""
        return self._questions(theta_teacher, n, generators, self.rare)

    def off_distribution(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        """The same with probability rare + (1 − rare) · strength, at most 1: `(N, n, d)`."""
        return self._questions(theta_teacher, n, generators, min(1.0, self.rare + (1 - self.rare) * strength))

    def answer(self, theta_teacher: Tensor, x: Tensor) -> Tensor:
        """f(x) for θ1 `(N, p1)` on x `(N, n, d)`: `(N, n)`."""
        count = (theta_teacher.shape[-1] - 2) // (self.n + 1)
        rows, c, standard = theta_teacher.split([count * self.n, count, 2], dim=-1)
        odd = torch.remainder((1 - x) / 2 @ rows.unflatten(-1, (count, self.n)).transpose(-1, -2), 2)
        total = ((1 - 2 * odd) @ c.unsqueeze(-1)).squeeze(-1)
        return (total - standard[..., :1]) / standard[..., 1:]

    def inactive(self, theta_teacher: Tensor) -> Tensor:
        """Nothing, `(p1,)`: every character varies on-distribution."""
        return torch.zeros(theta_teacher.shape[-1], dtype=torch.bool)

    def human_net(self, width: int) -> Mlp:
        """A perceptron n-`width`-1."""
        return Mlp((self.n, width, 1), self.activation)

    human_answer = staticmethod(first_output)

    def picture(self, theta_teacher: Tensor) -> Picture:
        """The triple down, 40 settings of the others across, in order of f at the rare combination, the last row.

        Of all settings in that order, the middles of as many equal parts. Learned are the other seven combinations.
        """
        triple, others = (torch.tensor(list(product((-1, 1), repeat=k))) for k in (TRIPLE, self.n - TRIPLE))
        rare = torch.cat([torch.ones(len(others), TRIPLE), others], dim=-1).to(theta_teacher.dtype)
        order, count = self.answer(theta_teacher[None], rare[None])[0].argsort(stable=True), min(40, len(others))
        others = others[order[((torch.arange(count) + 0.5) * len(order) / count).long()]]
        x = torch.cat([triple.unsqueeze(1).expand(-1, count, -1), others.expand(len(triple), -1, -1)], dim=-1)
        names = ["".join("−+"[feature > 0] for feature in combination) for combination in triple.tolist()]
        learned = (x[..., :TRIPLE] < 0).any(-1)
        labels = f"features {TRIPLE + 1} to {self.n}, in order of f in the last row", "first three features"
        return Picture(x.to(theta_teacher.dtype), *labels, range(1, count + 1), names, learned)

    def _questions(self, like: Tensor, n: int, generators: Sequence[torch.Generator], share: float) -> Tensor:
        drawn = []
        for g in generators:
            bits = torch.randint(2, (n, self.n), generator=g)
            some_off = torch.randint(1, 2**TRIPLE, (n, 1), generator=g) >> torch.arange(TRIPLE) & 1
            bits[:, :TRIPLE] = torch.where(torch.rand(n, 1, generator=g) < share, 0, some_off)
            drawn.append(1 - 2 * bits)
        return torch.stack(drawn).to(like.dtype)


def subsets(coordinates: Sequence[int]) -> list[frozenset[int]]:
    """All 2^k of them, the empty one first."""
    return [frozenset(s) for size in range(len(coordinates) + 1) for s in combinations(coordinates, size)]


def ladder(order: Sequence[int], degree: int) -> list[frozenset[int]]:
    """The staircase of degrees 1, …, `degree`: {o₁}, {o₁, o₂}, …"""
    return [frozenset(order[:k]) for k in range(1, degree + 1)]


def needles(order: Sequence[int], degree: int) -> list[frozenset[int]]:
    """Disjoint sets of the staircase's degrees k = `degree`, …, 1; takes `degree`·(`degree` + 1)/2 coordinates."""
    sets, start = [], 0
    for k in range(degree, 0, -1):
        sets.append(frozenset(order[start : start + k]))
        start += k
    return sets


@lru_cache
def crossing(n: int, degree: int) -> tuple[frozenset[int], ...]:
    """All sets of at most `degree` coordinates that hold one or two of the triple and one or more of the others."""
    return tuple(
        frozenset(inside + outside)
        for a in (1, 2)
        for b in range(1, degree - a + 1)
        for inside in combinations(range(TRIPLE), a)
        for outside in combinations(range(TRIPLE, n), b)
    )


def leap(sets: Iterable[Iterable[int]]) -> int:
    """The least over orderings of the sets of the most coordinates that one of them adds to all before it.

    Abbe, Boix-Adserà & Misiakiewicz 2023, arXiv 2302.11055, definition 1. Taking whichever set adds fewest is
    optimal: what one ordering has added by then never makes another set add more.
    """
    left, seen, most = [frozenset(s) for s in sets], frozenset(), 0
    while left:
        following = min(left, key=lambda s: len(s - seen))
        most, seen = max(most, len(following - seen)), seen | following
        left.remove(following)
    return most


def description_bits(sets: Iterable[Iterable[int]], n: int) -> float:
    """Σ_S log₂ C(n, |S|): what naming each set's coordinates costs when its size is known."""
    return sum(math.log2(math.comb(n, len(frozenset(s)))) for s in sets)


def moments(sets: Sequence[frozenset[int]], c: Tensor, rare: float) -> tuple[Tensor, Tensor]:
    """Mean and sd on-distribution of Σ_k c_k χ_{S_k}, c `(K,)`.

    The triple's distribution is 8(1 − rare)/7 of the uniform one plus β = (8 rare − 1)/7 of the point +++, so that
    E χ_S is 1 for the empty set, β for any other subset of the triple, and else 0; and χ_S χ_S' = χ_{S △ S'}.
    """
    triple, beta = frozenset(range(TRIPLE)), (8 * rare - 1) / 7

    def expected(s: frozenset[int]) -> float:
        return (beta if s else 1.0) if s <= triple else 0.0

    mean = c @ torch.tensor([expected(s) for s in sets], dtype=c.dtype)
    products = torch.tensor([[expected(s ^ t) for t in sets] for s in sets], dtype=c.dtype)
    return mean, (c @ products @ c - mean**2).sqrt()


def spectrum(values: Tensor) -> Tensor:
    """Fourier coefficients 2^−n Σ_x f(x) χ_S(x) `(2^n,)` of f's values at x_i = (−1)^{b_i}, b counting up.

    Bit i of the position, least significant first, is b_i, and of the result's position whether i is in S: the fast
    Walsh–Hadamard transform.
    """
    n = len(values).bit_length() - 1
    out = values.reshape(2**n, 1)
    for _ in range(n):
        even, odd = out[0::2], out[1::2]
        out = torch.cat([even + odd, even - odd], dim=1)
    return out.flatten() / 2**n


def build(
    n: Annotated[int, Field(ge=6, le=16, description="features of a question, three of them rarely on together")] = 12,
    grade: Annotated[Grade, Field(description="a random sum, a staircase of leap 1, or needles, leap = degree")] = (
        "low_degree"
    ),
    degree: Annotated[int, Field(ge=2, le=6, description="highest degree of a character")] = 3,
    terms: Annotated[int, Field(ge=1, le=1000, description="characters of a low_degree teacher")] = 24,
    rare: Annotated[float, Field(gt=0, lt=0.125, description="on-distribution share with all three on")] = 0.02,
    exceptions: Annotated[
        float, Field(ge=0, le=1, description="share of characters turned round where all three are on")
    ] = 0.0,
    shift: Annotated[Literal["rare"], Field(description="what off-distribution questions are like")] = "rare",
    activation: Annotated[Activation, Field(description="of the humans' hidden units")] = "relu",
    tolerance: Annotated[float, Field(gt=0, le=10, description="answers within half of this are right")] = 0.5,
) -> Boolean:
    """The Boolean world. Raises InputError where n has too few coordinates for the characters asked for."""
    if grade == "low_degree" and terms > len(crossing(n, degree)):
        raise InputError("terms", terms, f"at most {len(crossing(n, degree))} for n = {n} and degree = {degree}")
    if grade == "needle" and degree * (degree + 1) // 2 > n:
        raise InputError("n", n, f"at least {degree * (degree + 1) // 2}, disjoint needles up to degree {degree}")
    return Boolean(n, grade, degree, terms, float(rare), float(exceptions), shift, activation, float(tolerance))
