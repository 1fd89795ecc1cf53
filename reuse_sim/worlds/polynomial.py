"""Polynomial: humans learn a cubic where questions are common and are asked where it grows.

On-distribution x ~ N(0, I); off-distribution x lies further out, where a small tanh network levels off and a
cubic does not. With `hidden` > 0 the world has inputs that are 0 on-distribution and matter off it: the
coefficients of all terms with such an input are inactive there, and a human keeps its initial weights into them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from math import sqrt
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from scipy.special import gammaincinv
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp, first_output
from reuse_sim.types import Picture
from reuse_sim.worlds.plane import plane

DEGREE = 3


@dataclass(frozen=True)
class Polynomial:
    """f(x) = Σ_α θ1_α Π_i φ_{α_i}(x_i) over all exponents α of total degree 1 to 3; θ1 has one entry for each.

    For a seen input φ_k = He_k/√k! (1, x, (x² − 1)/√2, (x³ − 3x)/√6), orthonormal under N(0, 1), so that f has mean 0
    and variance Σ θ1_α² over the terms in seen inputs. For a hidden one φ_k = x^k/√(2k−1)!!, which is 0 at 0 for
    k > 0 and has mean square 1 under N(0, 1).
    """

    seen: int
    hidden: int
    growth: float
    shift: Literal["further", "hidden"]
    tolerance: float

    kind: ClassVar[Literal["regression"]] = "regression"
    shifts: ClassVar[Mapping[str, str]] = {
        "further": "Seen inputs lie in a shell further out than most on-distribution ones; hidden inputs are normal.",
        "hidden": "Hidden inputs are normal with sd `strength`; seen inputs are as on-distribution.",
    }

    @property
    def d(self) -> int:
        return self.seen + self.hidden

    @cached_property
    def exponents(self) -> Tensor:
        """α of every term, by degree: `(p1, d)` integers."""
        factors = [c for g in range(1, DEGREE + 1) for c in combinations_with_replacement(range(self.d), g)]
        return torch.tensor([[c.count(i) for i in range(self.d)] for c in factors])

    def teacher(self, generators: Sequence[torch.Generator]) -> Tensor:
        """θ1 `(T, p1)`, normal, scaled so that the terms of degree g in seen inputs have variance ∝ growth^g, 1 in all.

        Terms with hidden inputs are scaled as the others of their degree.
        """
        theta = torch.stack([torch.randn(len(self.exponents), generator=g, dtype=torch.float64) for g in generators])
        degree, active = self.exponents.sum(-1), ~self.inactive(theta)
        shares = torch.tensor([self.growth**g for g in range(1, DEGREE + 1)], dtype=torch.float64)
        for g, share in enumerate(shares / shares.sum(), start=1):
            of = degree == g
            theta[:, of] *= (share / theta[:, of & active].square().sum(-1, keepdim=True)).sqrt()
        return theta.float()

    def on_distribution(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Seen inputs ~ N(0, I), hidden ones 0: `(N, n, d)`."""
        z = self._normal(theta_teacher, n, generators)
        z[..., self.seen :] = 0
        return z

    def off_distribution(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        """`further`: |seen inputs|/√seen uniform between 1 + strength and 1.5 + strength, hidden ~ N(0, strength²).

        `hidden`: seen inputs ~ N(0, I), hidden ones ~ N(0, strength²). `(N, n, d)`.
        """
        z = self._normal(theta_teacher, n, generators)
        u = torch.stack([torch.rand(n, 1, generator=g, dtype=z.dtype) for g in generators])
        seen, hidden = z.split([self.seen, self.hidden], dim=-1)
        if self.shift == "further":
            seen = sqrt(self.seen) * (1 + strength + u / 2) * seen / seen.norm(dim=-1, keepdim=True)
        return torch.cat([seen, strength * hidden], dim=-1)

    def answer(self, theta_teacher: Tensor, x: Tensor) -> Tensor:
        """f(x) for θ1 `(N, p1)` on x `(N, n, d)`: `(N, n)`."""
        return (self.terms(x) @ theta_teacher.unsqueeze(-1)).squeeze(-1)

    def terms(self, x: Tensor) -> Tensor:
        """Π_i φ_{α_i}(x_i) of every term: x `(…, d)` -> `(…, p1)`."""
        seen, hidden = x.split([self.seen, self.hidden], dim=-1)
        powers = [torch.ones_like(hidden), hidden, hidden**2 / sqrt(3), hidden**3 / sqrt(15)]
        hermite = [torch.ones_like(seen), seen, (seen**2 - 1) / sqrt(2), (seen**3 - 3 * seen) / sqrt(6)]
        phi = torch.cat([torch.stack(hermite, -1), torch.stack(powers, -1)], dim=-2)
        product = phi[..., 0, self.exponents[:, 0]]
        for i in range(1, self.d):
            product = product * phi[..., i, self.exponents[:, i]]
        return product

    def human_net(self, width: int) -> Mlp:
        """A tanh perceptron d-`width`-1."""
        return Mlp((self.d, width, 1), "tanh")

    human_answer = staticmethod(first_output)

    def inactive(self, theta_teacher: Tensor) -> Tensor:
        """The terms with a hidden input, `(p1,)`; with none hidden all of θ1 is active on-distribution.

        Not exercised on-distribution besides: how f goes on where N(0, I) has little mass.
        """
        return (self.exponents[:, self.seen :] > 0).any(-1)

    def picture(self, theta_teacher: Tensor) -> Picture:
        """The plane of the first input and the next (`further`), or the first hidden one (`hidden`), the others 0.

        Learned is where hidden inputs are 0 and seen ones in the ball that holds 95 % of N(0, I).
        """
        ball = sqrt(2 * gammaincinv(self.seen / 2, 0.95))
        reach, second = (2.25 * sqrt(self.seen), 1) if self.shift == "further" else (3.0, self.seen)
        axes = torch.eye(max(self.d, 2), self.d, dtype=theta_teacher.dtype)  # a second input, 0 where there is one only

        def learned(x: Tensor) -> Tensor:
            seen, hidden = x.split([self.seen, self.hidden], dim=-1)
            return (seen.norm(dim=-1) <= ball) & (hidden == 0).all(-1)

        labels = "first input (the others 0)", "second input" if self.shift == "further" else "first hidden input"
        return plane(axes[0], axes[second], reach, labels, learned)

    def _normal(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        return torch.stack([torch.randn(n, self.d, generator=g, dtype=theta_teacher.dtype) for g in generators])


def build(
    seen: Annotated[int, Field(ge=1, le=24, description="inputs that vary on-distribution")] = 4,
    hidden: Annotated[int, Field(ge=0, le=24, description="inputs that are 0 on-distribution and vary off it")] = 0,
    growth: Annotated[float, Field(gt=0, le=10, description="variance of a degree over that of the one below")] = 1.0,
    shift: Annotated[
        Literal["further", "hidden"], Field(description="off-distribution: further out, or hidden inputs alone vary")
    ] = "further",
    tolerance: Annotated[float, Field(gt=0, le=10, description="answers within half of this are right")] = 0.5,
) -> Polynomial:
    """The polynomial world. Raises InputError for the shift `hidden` where nothing is hidden."""
    if shift == "hidden" and hidden == 0:
        raise InputError("shift", shift, "'further' while hidden = 0", "Set hidden to 1 or more.")
    return Polynomial(seen, hidden, float(growth), shift, float(tolerance))
