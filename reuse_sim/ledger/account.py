"""The account in bits: what it takes to answer with the human, and with f when specialness is given back.

    L_reuse = |θ2| + |head H|,  L_intended = |θ1| + |θ2| + |head f| − S.

All entries are of one event: the same questions, consistency, tolerance, reference and convention on copies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.errors import InputError

LN2 = math.log(2)


@dataclass(frozen=True)
class Ledger:
    """Lengths in bits: |θ1|, |θ2|, the heads that answer with f and with H, and what is given back.

    Raises InputError where an entry is not finite or a length is below 0.
    """

    teacher: float
    human: float
    head_teacher: float
    head_human: float
    specialness: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = -math.inf if name == "specialness" else 0.0  # a soft specialness less its misfit may be below 0
            if not (math.isfinite(value) and value >= least):
                raise InputError(f"Ledger.{name}", value, "a finite number of bits, at least 0")

    @property
    def reuse(self) -> float:
        """|θ2| + |head H|."""
        return self.human + self.head_human

    @property
    def plain(self) -> float:
        """The intended pair with nothing given back: |θ1| + |θ2| + |head f|."""
        return self.teacher + self.human + self.head_teacher

    @property
    def intended(self) -> float:
        """|θ1| + |θ2| + |head f| − S."""
        return self.plain - self.specialness

    @property
    def profit(self) -> float:
        """L_reuse − L_intended = S − |θ1| − |head f| + |head H|: the intended pair wins where it is above 0."""
        return self.specialness - self.teacher - self.head_teacher + self.head_human


def overpaid_bits(specialness: float) -> float:
    """log2(1 + S ln 2), to be charged where the tolerance is the human's own consistency.

    S is then −log2 of a p-value: over humans of the reference 2^S, capped at 2^s, is 1 + s ln 2 on average, while for
    a tolerance that is fixed beforehand it is 1.
    """
    return math.log2(1 + specialness * LN2)


def covering_bits(specialness: Tensor, shares: Tensor | None = None) -> float:
    """The least |θ1| where teachers of these S `(n,)` are coded at one length and at the tolerance of the event.

    2^|θ1| consistency balls must cover all, so that |θ1| ≥ −log2 of the mean of 2^−S, by `shares` `(n,)` where given;
    not the mean of S, which can lie above |θ1|.
    """
    weights = torch.ones_like(specialness) / len(specialness) if shares is None else shares / shares.sum()
    return -float(torch.logsumexp(weights.log() - specialness * LN2, 0)) / LN2


def off_only_deficit(on: float, whole: float) -> float:
    """What a generic teacher with parts that no on-distribution answer depends on costs over what it gives back.

    `whole` is S for agreement on all questions, which the covering bound makes the least |θ1|; `on` is S for
    agreement on-distribution, which is all that is given back.
    """
    return whole - on


def soft_return_bits(specialness: float, strength: float, consistency: float) -> float:
    """S_soft − strength C/ln 2: what the soft reward gives back to a human of consistency C.

    2^ of it is 1 on average over the reference, so that nothing is given for nothing. `strength` in nats, nβ where C
    is a mean over n questions.
    """
    return specialness - strength * consistency / LN2


def expected_to_hard_bits(multiplier: float, sd: float) -> float:
    """log2(β σ_C √2π): how many more bits the event C ≤ τ takes than E C ≤ τ, where many parameters share in C.

    `multiplier` β in nats per unit of C and `sd` σ_C are of the Gibbs law with E C = τ. By Laplace's method on the
    mass of the event, which lies within about 1/β of its edge.
    """
    return math.log2(multiplier * sd * math.sqrt(2 * math.pi))
