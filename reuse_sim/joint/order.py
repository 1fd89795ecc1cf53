"""How much of what produced a human is left in it: bits of its behaviour given all of its making but one part.

Humans who share all but that part, the order of data or the initialisation, answer the same questions. What the part
says about one of them is what its answers tell beyond what is common to all, to within the tolerance D, a mean square
over questions. With λ the eigenvalues of the covariance of the answers of n questions (taken for normal):

    rate   Σ ½ log₂⁺(λ_i / θ),  Σ min(θ, λ_i) = n D       the fewest bits that bring answers within D on average
                                                          (reverse water-filling; Cover & Thomas, 10.3.3)
    noisy  Σ ½ log₂(1 + λ_i / D)                          what answers with normal noise of variance D tell: more

and, with nothing taken for normal, −log₂ of the share of the others who are within D of the one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.errors import InputError


@dataclass(frozen=True)
class Spread:
    """Bits of one human's answers given others who share all but one part of its making.

    `count` is at most log₂(N + 1) of N others; where `censored` none was near, and it is at least that.
    """

    rate: float
    noisy: float
    count: float
    censored: bool


def spread(answers: Tensor, others: Tensor, distortion: float) -> Spread:
    """Of answers `(n,)` and those of N others `(N, n)`; `distortion` in units of answers squared.

    The covariance is that of all N + 1, for they are draws of the same. Raises InputError for a distortion that is not
    above 0.
    """
    if not distortion > 0:
        raise InputError("distortion", distortion, "a number above 0", "exact answers have infinitely many bits")
    lambdas = eigenvalues(torch.cat([answers[None], others]))
    bits, censored = count_bits(answers, others, distortion)
    return Spread(rate_bits(lambdas, distortion), noisy_bits(lambdas, distortion), bits, censored)


def eigenvalues(answers: Tensor) -> Tensor:
    """Of the unbiased covariance of N humans' answers `(N, n)` over humans: all n of them, the smallest first."""
    apart = (answers - answers[:1]).double()  # so that those of equal answers are 0 to the last bit
    centred = apart - apart.mean(0)
    few = torch.linalg.svdvals(centred).square() / (len(answers) - 1)
    lambdas = torch.zeros(answers.shape[1], dtype=torch.float64)
    lambdas[: len(few)] = few[: len(lambdas)]
    return lambdas.sort().values


def rate_bits(lambdas: Tensor, distortion: float) -> float:
    """The rate of normal components of variances `lambdas` `(n,)` at a mean squared error of `distortion` > 0.

    0 where their mean is at most that.
    """
    level = water_level(lambdas, distortion)
    return float((lambdas / level).clamp(min=1).log2().sum()) / 2 if level > 0 else 0.0


def water_level(lambdas: Tensor, distortion: float) -> float:
    """θ with mean min(θ, λ) = `distortion`; the largest λ where even that leaves the mean at most there."""
    low = lambdas.sort().values
    n, total = len(low), len(low) * distortion
    if float(low.sum()) <= total:
        return float(low[-1])
    # With the k smallest under water, the others share what is left of the total alike.
    under = torch.cat([low.new_zeros(1), low.cumsum(0)[:-1]])
    levels = (total - under) / (n - torch.arange(n, dtype=low.dtype))
    return float(levels[int((levels <= low).nonzero()[0])])


def noisy_bits(lambdas: Tensor, distortion: float) -> float:
    """What answers of these variances tell through normal noise of variance `distortion`; never less than the rate."""
    return float((lambdas / distortion).log1p().sum()) / (2 * math.log(2))


def count_bits(answers: Tensor, others: Tensor, distortion: float) -> tuple[float, bool]:
    """−log₂ of the share of N others `(N, n)` within `distortion` of the answers `(n,)`, and whether none was.

    Then it is log₂(N + 1), which is the least it may be.
    """
    near = int(((others - answers).square().mean(-1) <= distortion).sum())
    n = len(others)
    return (math.log2(n / near), False) if near else (math.log2(n + 1), True)
