"""Linear: yes-or-no questions answered by the side of a hyperplane, with a closed form for everything.

f(x) = sign(θ1·x), and the human is linear too. On-distribution questions vary in the first `active` coordinates only;
a human trained there keeps small initial weights in the others, which off-distribution questions ask about. Under
x ~ N(0, I) two such functions disagree on a share angle/π of the questions, so that specialness is the measure of a
spherical cap.

Inactive on-distribution: the weights of f on coordinates beyond the first `active`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from scipy.special import betainc, betaln, hyp2f1
from scipy.stats import binom
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp, first_logit
from reuse_sim.types import Picture
from reuse_sim.worlds.plane import seen_and_unseen

LN2 = math.log(2)
SMALL = 1e-290


@dataclass(frozen=True)
class Linear:
    """f(x) = sign(θ1·x), 1 at 0, with θ1 ~ N(0, I); p1 = d. The human is H(x) = tanh(θ2·x / 2)."""

    d: int
    active: int
    shift: Literal["unseen"] = "unseen"
    tolerance: float = 2.0

    kind: ClassVar[Literal["classification"]] = "classification"
    shifts: ClassVar[Mapping[str, str]] = {
        "unseen": "Coordinates that are 0 on-distribution vary with sd (1 + 3 strength)/4: all of x ~ N(0, I) at 1."
    }

    def sd(self, strength: float | None = None) -> Tensor:
        """Each coordinate's standard deviation `(d,)`, on-distribution (None) or off it at a strength."""
        unseen = 0.0 if strength is None else (1 + 3 * strength) / 4
        return torch.where(torch.arange(self.d) < self.active, 1.0, unseen)

    def teacher(self, generators: Sequence[torch.Generator]) -> Tensor:
        """θ1 ~ N(0, I), `(T, d)`: a draw from the reference under which specialness is a cap."""
        return torch.stack([torch.randn(self.d, generator=g) for g in generators])

    def on_distribution(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """x ~ N(0, I) in the first `active` coordinates, 0 in the others: `(N, n, d)`."""
        return self._normal(n, generators, theta_teacher, self.sd())

    def off_distribution(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        """As on-distribution, and with sd (1 + 3 `strength`)/4 in the coordinates never seen, `(N, n, d)`."""
        return self._normal(n, generators, theta_teacher, self.sd(strength))

    def answer(self, theta_teacher: Tensor, x: Tensor) -> Tensor:
        """sign(θ1·x), `(N, n)`."""
        z = (x @ theta_teacher.unsqueeze(-1)).squeeze(-1)
        return torch.where(z >= 0, 1.0, -1.0).to(z.dtype)

    def inactive(self, theta_teacher: Tensor) -> Tensor:
        """The weights on coordinates never seen, `(d,)`."""
        return torch.arange(self.d) >= self.active

    def human_net(self, width: int) -> Mlp:
        """d inputs, one output, no bias and no hidden units: `width` is of no account here."""
        return Mlp((self.d, 1), bias=False)

    human_answer = staticmethod(first_logit)

    def picture(self, theta_teacher: Tensor) -> Picture:
        """The plane of θ1's parts in the coordinates seen and in those never seen; learned is the line of the first."""
        return seen_and_unseen(theta_teacher, self.inactive(theta_teacher))

    def disagreement(self, theta: Tensor, other: Tensor, strength: float | None = None) -> Tensor:
        """Probability that sign(θ·x) and sign(θ'·x) differ, on-distribution (None) or off it: `(…, d)` twice -> `(…)`.

        angle(Dθ, Dθ')/π with D = diag(sd): x = Dz with z ~ N(0, I), and D moves over to θ.
        """
        sd = self.sd(strength).to(theta)
        return disagreement(theta * sd, other * sd)

    def _normal(self, n: int, generators: Sequence[torch.Generator], like: Tensor, sd: Tensor) -> Tensor:
        return torch.stack([torch.randn(n, self.d, generator=g, dtype=like.dtype) for g in generators]) * sd.to(like)


def disagreement(theta: Tensor, other: Tensor) -> Tensor:
    """Pr over x ~ N(0, I) that sign(θ·x) ≠ sign(θ'·x): the angle between them over π, `(…, d)` twice -> `(…)`.

    The angle is 2 atan2(|u − v|, |u + v|) of the unit vectors, exact near 0 and π (Kahan 2006).
    """
    u, v = (t / t.norm(dim=-1, keepdim=True) for t in torch.broadcast_tensors(theta, other))
    return 2 * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1)) / math.pi


def cap(d: int, tolerance: float) -> float:
    """μ{θ2 : disagreement(θ1, θ2) ≤ τ} for any θ1 under μ = N(0, I_d), d ≥ 2.

    A cap of half-angle πτ: ½ I_{sin²(πτ)}((d − 1)/2, ½) for τ ≤ ½ (Li 2011, Concise formulas for the area and volume
    of a hyperspherical cap), and one less the opposite cap beyond. Underflows where `cap_bits` does not.
    """
    if tolerance > 0.5:
        return 1 - cap(d, 1 - tolerance)
    return float(betainc((d - 1) / 2, 0.5, math.sin(math.pi * tolerance) ** 2)) / 2


def cap_bits(d: int, tolerance: float) -> float:
    """Specialness of a linear teacher, −log₂ of `cap`; d ≥ 2, infinite at τ = 0, exactly 1 at τ = ½.

    Where the fraction is below the smallest float it is taken in logs, by
    I_y(a, b) = yᵃ(1 − y)ᵇ ₂F₁(a + b, 1; a + 1; y) / (a B(a, b)) (DLMF 8.17.8).
    """
    if not 0 <= tolerance <= 1:
        raise InputError("tolerance", tolerance, "a share of questions between 0 and 1")
    if tolerance == 0:
        return math.inf
    if (share := cap(d, tolerance)) > SMALL:
        return -math.log2(share)
    a, b, y = (d - 1) / 2, 0.5, math.sin(math.pi * tolerance) ** 2
    log_i = a * math.log(y) + b * math.log1p(-y) - math.log(a) - float(betaln(a, b))
    return 1 - (log_i + math.log(float(hyp2f1(a + b, 1, a + 1, y)))) / LN2


def binomial_bits(m: int, tolerance: float) -> float:
    """Specialness of a teacher of m yes-or-no questions under the counting measure of all 2^m answer sheets.

    −log₂ Pr[Bin(m, ½) ≤ τm], about m(1 − h(τ)) (Cover & Thomas 2006, §11.1).
    """
    # A hair more than τm, so that a product such as .07 · 100 that floats put above or below 7 counts as 7.
    return -float(binom.logcdf(math.floor(tolerance * m + 1e-9), m, 0.5)) / LN2


def perceptron_count(n: int) -> Tensor:
    """P(T = t) for t = 0, …, 2^n, T how many of {0, 1}^n a bias-free perceptron answers 1, θ·x > 0: `(2^n + 1,)`.

    2^−n for every t < 2^n and 0 for t = 2^n, x = 0 being answered 0: for weights whose distribution every flip of
    their signs leaves as it is and whose subsets' sums are distinct (Mingard et al. 2019, arXiv 1909.11522).
    """
    return torch.cat([torch.full((2**n,), 2.0**-n, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])


def build(
    d: Annotated[int, Field(ge=2, le=1000, description="inputs, and parameters of teacher and human")] = 20,
    active: Annotated[int, Field(ge=1, le=999, description="coordinates that vary on-distribution")] = 8,
    shift: Annotated[Literal["unseen"], Field(description="what off-distribution questions are like")] = "unseen",
    tolerance: Annotated[float, Field(gt=0, le=10, description="2: an answer on the right side of 0 is right")] = 2.0,
) -> Linear:
    """The linear world. Raises InputError unless `active` is below `d`."""
    if active >= d:
        raise InputError("active", active, f"fewer than d = {d} coordinates, so that some are never seen")
    return Linear(d, active, shift, float(tolerance))
