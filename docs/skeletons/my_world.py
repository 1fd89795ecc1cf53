"""A world: humans learn a wave inside a cube and are asked outside of it. Copy this file and change it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.nets import Mlp, first_output


# What `build` returns: plain values in, no state, no randomness but from the generators handed in.
@dataclass(frozen=True)
class Wave:
    d: int
    tolerance: float
    kind: ClassVar = "regression"
    shifts: ClassVar = {"faces": "Questions lie outside of the cube, further out with growing strength."}

    # One row of parameters per generator. A row must not depend on the others.
    def teacher(self, generators: Sequence[torch.Generator]) -> Tensor:
        directions = torch.stack([torch.randn(self.d, generator=g) for g in generators])
        return 3 * directions / directions.norm(dim=-1, keepdim=True)

    # Row i asks teacher i; `n` questions each.
    def on_distribution(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        return self._cube(theta_teacher, n, generators)

    def off_distribution(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        x = self._cube(theta_teacher, n, generators)
        # Away from the cube along each axis: the mildest shift begins at its faces.
        return x + (1 + strength) * x.sign()

    # The right answers, with standard deviation 1 on-distribution: `tolerance` is in these units.
    def answer(self, theta_teacher: Tensor, x: Tensor) -> Tensor:
        return sqrt(2) * torch.sin((x @ theta_teacher.unsqueeze(-1)).squeeze(-1))

    # What a human of this world looks like, and how its outputs are read as answers.
    def human_net(self, width: int) -> Mlp:
        return Mlp((self.d, width, 1), "tanh")

    human_answer = staticmethod(first_output)

    def _cube(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        cubes = [2 * torch.rand(n, self.d, generator=g) - 1 for g in generators]
        return torch.stack(cubes).to(theta_teacher.dtype)


# The options of `use: my_world:build`. Types and limits are checked when the scenario is read.
def build(
    d: Annotated[int, Field(ge=1, le=64, description="inputs")] = 3,
    tolerance: Annotated[float, Field(gt=0, le=10, description="an answer is right within half of this")] = 0.5,
) -> Wave:
    """The wave world."""
    return Wave(d, tolerance)
