"""Network: f is itself a network of the humans' kind, asked where the radius world asks.

The control for rewards that make a model differ from its human: nothing about such an f is un-human, only this human is
not yet there. Active on-distribution: all of θ1. Not exercised: a truth of another kind than the human's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.nets import Mlp, first_output
from reuse_sim.types import Picture
from reuse_sim.worlds.radius import Radius

STANDARD = 4096
"""On-distribution questions over which a teacher is standardised."""


def build(
    width: Annotated[int, Field(ge=1, le=256)] = 6,
    gain: Annotated[float, Field(gt=0, le=10)] = 2.0,
    tolerance: Annotated[float, Field(gt=0, le=10)] = 0.5,
) -> Network:
    """Teachers 4-`width`-1 with first-layer weights `gain` times those of initialisation; `tolerance` in their sds."""
    return Network(width, float(gain), float(tolerance))


@dataclass(frozen=True)
class Network:
    """f(x) = (tanh network − mean)/sd, mean and sd over 4096 on-distribution questions.

    θ1 is `(θ of the network, mean, sd)`, p1 = 6 width + 3: the standardisation is part of the teacher.
    """

    width: int = 6
    gain: float = 2.0
    tolerance: float = 0.5
    d: int = 4

    kind: ClassVar[Literal["regression"]] = "regression"
    shifts: ClassVar[Mapping[str, str]] = Radius.shifts

    def teacher(self, generators: Sequence[torch.Generator]) -> Tensor:
        """θ1 `(T, p1)`: a draw of the initialisation prior, weights into the units times `gain`."""
        net = self.human_net(self.width)
        theta = net.init(generators)
        theta[:, net.fields[0].slice] *= self.gain
        said = first_output(net, theta, self.on_distribution(theta, STANDARD, generators))
        return torch.cat([theta, said.mean(1, keepdim=True), said.std(1, keepdim=True)], 1)

    def on_distribution(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Uniform in the ball |x| ≤ 2: `(N, n, 4)`."""
        return Radius(d=self.d).on_distribution(theta_teacher, n, generators)

    def off_distribution(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        """In the radius world's shell: `(N, n, 4)`."""
        return Radius(d=self.d).off_distribution(theta_teacher, n, generators, strength)

    def answer(self, theta_teacher: Tensor, x: Tensor) -> Tensor:
        """f(x) for θ1 `(N, p1)` on x `(N, n, 4)`: `(N, n)`."""
        theta, mean, sd = theta_teacher.split([theta_teacher.shape[-1] - 2, 1, 1], dim=-1)
        return (first_output(self.human_net(self.width), theta, x) - mean) / sd

    def inactive(self, theta_teacher: Tensor) -> Tensor:
        """None of θ1, `(p1,)`."""
        return torch.zeros(theta_teacher.shape[-1], dtype=torch.bool)

    def human_net(self, width: int) -> Mlp:
        """A tanh perceptron 4-`width`-1."""
        return Mlp((self.d, width, 1), "tanh")

    human_answer = staticmethod(first_output)

    def picture(self, theta_teacher: Tensor) -> Picture:
        """As the radius world's."""
        return Radius(d=self.d).picture(theta_teacher)
