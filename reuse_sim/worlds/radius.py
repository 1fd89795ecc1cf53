"""Radius: humans learn a sum of sines inside a ball and are asked outside of it.

On-distribution questions are uniform in the ball |x| ≤ 2 of R⁴; off-distribution ones lie in a
shell further out, where a small tanh network keeps the values of the ball's edge and the sines go on.

Active on-distribution: all of θ1. Not exercised: that the sines go on outside of the ball.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import pi
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from scipy.special import jv
from torch import Tensor

from reuse_sim.nets import Mlp, first_output
from reuse_sim.types import Picture
from reuse_sim.worlds.plane import plane

BALL = 2.0
SHELL = 1.2
FREQUENCY = 1.3


def build(
    sines: Annotated[int, Field(ge=1, le=256)] = 4,
    tolerance: Annotated[float, Field(gt=0, le=10)] = 0.5,
) -> Radius:
    """The radius world with teachers of `sines` terms; `tolerance` in units of the teacher's sd."""
    return Radius(sines, tolerance)


@dataclass(frozen=True)
class Radius:
    """f(x) = (Σ_k a_k sin(1.3 w_k·x + b_k) − mean) / sd, mean and sd over on-distribution questions.

    θ1 is `(w row-major, b, a, mean, sd)`, p1 = 6 sines + 2: the standardisation is part of the teacher.
    """

    sines: int = 4
    tolerance: float = 0.5
    d: int = 4

    kind: ClassVar[Literal["regression"]] = "regression"
    shifts: ClassVar[Mapping[str, str]] = {
        "shell": "Questions lie in a shell outside of the ball, further out with growing strength."
    }

    def teacher(self, generators: Sequence[torch.Generator]) -> Tensor:
        """θ1 `(T, p1)`: |w| ~ U[.8, 1.3] in a uniform direction, |a| ~ U[.7, 1.3] with a fair sign, b ~ U[0, 2π]."""
        return torch.stack([self._teacher(g) for g in generators]).float()

    def _teacher(self, generator: torch.Generator) -> Tensor:
        direction = torch.randn(self.sines, self.d, generator=generator, dtype=torch.float64)
        length, phase, size, sign = torch.rand(4, self.sines, generator=generator, dtype=torch.float64)
        w = direction / direction.norm(dim=1, keepdim=True) * (0.8 + 0.5 * length)[:, None]
        b = 2 * pi * phase
        a = (0.7 + 0.6 * size) * torch.where(sign < 0.5, -1.0, 1.0)
        mean, sd = moments(w, b, a)
        return torch.cat([w.flatten(), b, a, mean[None], sd[None]])

    def on_distribution(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Uniform in the ball |x| ≤ 2: `(N, n, 4)`."""
        # The first d coordinates of a uniform point on the sphere in d + 2 dimensions are uniform in the ball.
        z = torch.stack([torch.randn(n, self.d + 2, generator=g, dtype=theta_teacher.dtype) for g in generators])
        return BALL * z[..., : self.d] / z.norm(dim=-1, keepdim=True)

    def off_distribution(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        """Uniform in a shell of thickness 1.2 from 2 + .8 `strength` on, 2.8 to 4 by default: `(N, n, 4)`."""
        inner = BALL + 0.8 * strength
        outer = inner + SHELL
        z = torch.stack([torch.randn(n, self.d, generator=g, dtype=theta_teacher.dtype) for g in generators])
        u = torch.stack([torch.rand(n, 1, generator=g, dtype=theta_teacher.dtype) for g in generators])
        radius = (inner**self.d + u * (outer**self.d - inner**self.d)) ** (1 / self.d)
        return radius * z / z.norm(dim=-1, keepdim=True)

    def answer(self, theta_teacher: Tensor, x: Tensor) -> Tensor:
        """f(x) for θ1 `(N, p1)` on x `(N, n, 4)`: `(N, n)`."""
        w, b, a, standard = theta_teacher.split([self.sines * self.d, self.sines, self.sines, 2], dim=-1)
        w = w.unflatten(-1, (self.sines, self.d))
        waves = torch.sin(FREQUENCY * x @ w.transpose(-1, -2) + b.unsqueeze(-2))
        total = (waves @ a.unsqueeze(-1)).squeeze(-1)
        return (total - standard[..., :1]) / standard[..., 1:]

    def inactive(self, theta_teacher: Tensor) -> Tensor:
        """None of θ1, `(p1,)`."""
        return torch.zeros(theta_teacher.shape[-1], dtype=torch.bool)

    def human_net(self, width: int) -> Mlp:
        """A tanh perceptron 4-`width`-1."""
        return Mlp((self.d, width, 1), "tanh")

    human_answer = staticmethod(first_output)

    def picture(self, theta_teacher: Tensor) -> Picture:
        """The plane of the first two inputs, the others 0, as far out as the shell goes; learned is the ball."""
        across, down = torch.eye(self.d, dtype=theta_teacher.dtype)[:2]
        labels = "first input (the last two 0)", "second input"
        return plane(across, down, BALL + 0.8 + SHELL, labels, lambda x: x.norm(dim=-1) <= BALL)


def moments(w: Tensor, b: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Exact mean and sd of Σ_k a_k sin(1.3 w_k·x + b_k), x uniform in the ball: w `(K, 4)`, b and a `(K,)`.

    With c(k) = E cos(k·x) and E sin(k·x) = 0: E sin(k·x + b) = c(k) sin b, and products of sines
    are differences of cosines.
    """
    k = FREQUENCY * w
    mean = (a * torch.sin(b) * mean_cosine(k)).sum()
    minus = torch.cos(b[:, None] - b) * mean_cosine(k[:, None] - k)
    plus = torch.cos(b[:, None] + b) * mean_cosine(k[:, None] + k)
    return mean, (a @ (minus - plus) @ a / 2 - mean**2).sqrt()


def mean_cosine(k: Tensor) -> Tensor:
    """E cos(k·x) over the ball of radius 2 in R⁴, k `(…, 4)`: 8 J₂(z)/z² with z = 2|k|."""
    z = BALL * k.norm(dim=-1)
    safe = z.clamp_min(1e-2)
    bessel = torch.as_tensor(jv(2, safe.double().numpy()))  # torch's own are off by 3e-7 near 5
    return torch.where(z < 1e-2, 1 - z**2 / 12, 8 * bessel.to(k.dtype) / safe**2)
