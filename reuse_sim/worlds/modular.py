"""Modular: what matters of a question is a sum round a circle, and humans see part of the way round.

`cosine`: f is a cosine of a linear form. Humans are asked inside a cube, which the form crosses about once
round; outside it f repeats itself, and a small tanh network goes on as it left. `sum`: f is a cosine of
(a + b) mod p, with a and b told as one-hot inputs. Humans see a part of the p × p pairs, and can learn
them by heart; off-distribution are the pairs held out.

Active on-distribution: all of θ1, in both. Not exercised: that f is periodic beyond the cube (`cosine`); the
answers to the pairs held out, which the seen ones determine only for those who know that f is a cosine (`sum`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt, pi, sqrt
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp, first_output
from reuse_sim.types import Picture
from reuse_sim.worlds.plane import plane


def no_parameters(theta_teacher: Tensor) -> Tensor:
    """The mask `(p1,)` of no entry of θ1 `(N, p1)`."""
    return torch.zeros(theta_teacher.shape[-1], dtype=torch.bool)


@dataclass(frozen=True)
class Cosine:
    """f(x) = (cos(w·x + b) − mean) / sd, with the exact mean and sd over the cube [−1, 1]^d; θ1 = (w, b), p1 = d + 1.

    With c(k) = E cos(k·x) = Π_i sin(k_i)/k_i: mean = c(w) cos b and E cos² = (1 + c(2w) cos 2b)/2.
    """

    d: int
    frequency: float
    tolerance: float

    kind: ClassVar[Literal["regression"]] = "regression"
    shifts: ClassVar[Mapping[str, str]] = {
        "outside": "Questions lie in a shell outside of the cube, further out with growing strength."
    }

    def teacher(self, generators: Sequence[torch.Generator]) -> Tensor:
        """θ1 `(T, d + 1)`: |w| = `frequency` in a uniform direction, b ~ U[0, 2π]."""
        rows = []
        for g in generators:
            w = torch.randn(self.d, generator=g)
            rows.append(torch.cat([self.frequency * w / w.norm(), 2 * pi * torch.rand(1, generator=g)]))
        return torch.stack(rows)

    def on_distribution(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Uniform in the cube [−1, 1]^d: `(N, n, d)`."""
        return self._cube(n, generators, theta_teacher)

    def off_distribution(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        """Directions of the cube's points, at max |x_i| uniform between 1 + `strength`/2 and 1.5 + `strength`/2."""
        x = self._cube(n, generators, theta_teacher)
        u = torch.stack([torch.rand(n, 1, generator=g, dtype=x.dtype) for g in generators])
        return x / x.abs().amax(-1, keepdim=True) * (1 + (strength + u) / 2)

    def answer(self, theta_teacher: Tensor, x: Tensor) -> Tensor:
        """f(x) for θ1 `(N, d + 1)` on x `(N, n, d)`: `(N, n)`."""
        w, b = theta_teacher.split([self.d, 1], dim=-1)
        mean = torch.sinc(w / pi).prod(-1, keepdim=True) * b.cos()
        square = (1 + torch.sinc(2 * w / pi).prod(-1, keepdim=True) * (2 * b).cos()) / 2
        return (torch.cos((x @ w.unsqueeze(-1)).squeeze(-1) + b) - mean) / (square - mean**2).sqrt()

    def human_net(self, width: int) -> Mlp:
        """A tanh perceptron d-`width`-1."""
        return Mlp((self.d, width, 1), "tanh")

    human_answer = staticmethod(first_output)
    inactive = staticmethod(no_parameters)

    def picture(self, theta_teacher: Tensor) -> Picture:
        """The plane of w and a direction at right angles to it, along which f is constant; learned is the cube."""
        w = theta_teacher[: self.d] / theta_teacher[: self.d].norm()
        down = torch.eye(self.d).to(w)[w.abs().argmin()]
        down = down - (w @ down) * w
        labels = "x along w", "x at right angles to w"
        return plane(w, down / down.norm(), 2.5, labels, lambda x: x.abs().amax(-1) <= 1)

    def _cube(self, n: int, generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
        return torch.stack([2 * torch.rand(n, self.d, generator=g, dtype=like.dtype) - 1 for g in generators])


@dataclass(frozen=True)
class Sum:
    """f(a, b) = √2 cos(2π key (a + b)/p + phase), a and b one-hot in the first and last p inputs; θ1 = (key, phase).

    Held out are the pairs whose (a + 2b) mod p is one of the first `held_out` squares 0, 1, 4, 9, … mod p. That is a
    Latin square orthogonal to (a + b) mod p: every a, every b and every sum occurs p − `held_out` times among the
    p(p − `held_out`) seen pairs, so that f has mean 0 and variance 1 exactly over them, and over those held out. As p
    is prime the keys differ by a renaming of a and b; squares are spread so evenly that none is much the hardest.
    """

    p: int
    held_out: int
    tolerance: float

    kind: ClassVar[Literal["regression"]] = "regression"
    shifts: ClassVar[Mapping[str, str]] = {"held_out": "That share of questions (all, from 1 on) is on pairs held out."}

    @property
    def d(self) -> int:
        return 2 * self.p

    def pairs(self, held_out: bool) -> Tensor:
        """All pairs (a, b) held out, or all seen: `(m, 2)` integers."""
        ab = torch.cartesian_prod(torch.arange(self.p), torch.arange(self.p))
        squares = torch.arange(self.held_out) ** 2 % self.p
        return ab[torch.isin((ab[:, 0] + 2 * ab[:, 1]) % self.p, squares) == held_out]

    def teacher(self, generators: Sequence[torch.Generator]) -> Tensor:
        """θ1 `(T, 2)`: the key uniform on 1, …, (p − 1)/2, the phase on [0, 2π]."""
        keys = torch.stack([torch.randint(1, (self.p + 1) // 2, (1,), generator=g).float() for g in generators])
        return torch.cat([keys, 2 * pi * torch.stack([torch.rand(1, generator=g) for g in generators])], dim=-1)

    def on_distribution(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Seen pairs, uniform: `(N, n, 2p)`."""
        return self.off_distribution(theta_teacher, n, generators, 0.0)

    def off_distribution(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        """Each question with probability `strength` (at most 1) about a pair held out, else about a seen one."""
        seen, hidden = self.pairs(False), self.pairs(True)
        which, far = torch.stack([torch.rand(2, n, generator=g, dtype=torch.float64) for g in generators], dim=1)
        old, new = (part[(which * len(part)).long()] for part in (seen, hidden))
        ab = torch.where((far < strength).unsqueeze(-1), new, old)
        return torch.nn.functional.one_hot(ab, self.p).flatten(-2).to(theta_teacher.dtype)

    def answer(self, theta_teacher: Tensor, x: Tensor) -> Tensor:
        """f(x) for θ1 `(N, 2)` on one-hot x `(N, n, 2p)`: `(N, n)`."""
        key, phase = theta_teacher.unsqueeze(-2).unbind(-1)
        total = x.unflatten(-1, (2, self.p)).argmax(-1).sum(-1) % self.p
        return sqrt(2) * torch.cos(2 * pi / self.p * key * total + phase)

    def human_net(self, width: int) -> Mlp:
        """A ReLU perceptron 2p-`width`-1."""
        return Mlp((self.d, width, 1), "relu")

    human_answer = staticmethod(first_output)
    inactive = staticmethod(no_parameters)

    def picture(self, theta_teacher: Tensor) -> Picture:
        """The table of a (down) and b (across), the first 41 of each at most; learned are the seen pairs."""
        number = range(min(self.p, 41))
        a, b = torch.meshgrid(torch.tensor(number), torch.tensor(number), indexing="ij")
        x = torch.nn.functional.one_hot(torch.stack([a, b], -1), self.p).flatten(-2).to(theta_teacher.dtype)
        seen = torch.zeros(self.p, self.p, dtype=torch.bool)
        seen[self.pairs(False).unbind(-1)] = True
        return Picture(x, "b", "a", number, number, seen[a, b])


def build(
    form: Annotated[
        Literal["cosine", "sum"], Field(description="a cosine of a linear form, or of (a + b) mod p")
    ] = "cosine",
    d: Annotated[int, Field(ge=2, le=64, description="inputs (cosine)")] = 4,
    frequency: Annotated[float, Field(gt=0, le=100, description="length of w in cos(w.x + b) (cosine)")] = 4.0,
    p: Annotated[int, Field(ge=5, le=199, description="the modulus, a prime (sum)")] = 13,
    held_out: Annotated[int, Field(ge=1, le=100, description="pairs of each a that are held out (sum)")] = 5,
    tolerance: Annotated[float, Field(gt=0, le=10, description="answers within half of this are right")] = 0.5,
) -> Cosine | Sum:
    """The modular world in one of its forms. Raises InputError unless p is prime and `held_out` at most half of it."""
    if form == "cosine":
        return Cosine(d, float(frequency), float(tolerance))
    if not all(p % q for q in range(2, isqrt(p) + 1)):
        raise InputError("p", p, "a prime, so that no key is another problem than the others")
    if 2 * held_out > p:
        raise InputError("held_out", held_out, f"at most {p // 2}, half of p = {p}")
    return Sum(p, held_out, float(tolerance))
