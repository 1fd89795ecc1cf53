"""Linear Gaussian: the world in which everything has a closed form.

f and H are linear. On-distribution questions vary in the first `active` coordinates only, with
variance 1/i in coordinate i; a human trained there by gradient descent keeps its initial weights in
the others, which off-distribution questions ask about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp, first_output
from reuse_sim.types import Picture
from reuse_sim.worlds.plane import seen_and_unseen


@dataclass(frozen=True)
class LinearGaussian:
    """f(x) = θ1·x with θ1 ~ N(0, I) scaled to var f = 1 on-distribution; p1 = d. The human is H(x) = θ2·x."""

    d: int
    active: int
    tolerance: float

    kind: ClassVar[Literal["regression"]] = "regression"
    shifts: ClassVar[Mapping[str, str]] = {"unseen": "Coordinates vary that never did, more with growing strength."}

    @property
    def variance(self) -> Tensor:
        """On-distribution variance of each coordinate, `(d,)`: 1, 1/2, …, 1/active, 0, …"""
        i = torch.arange(1, self.d + 1)
        return torch.where(i <= self.active, 1.0 / i, 0.0)

    def teacher(self, generators: Sequence[torch.Generator]) -> Tensor:
        """θ1 `(T, d)` with Σ_i variance_i θ1_i² = 1."""
        theta = torch.stack([torch.randn(self.d, generator=g) for g in generators])
        return theta / (theta.square() @ self.variance).sqrt().unsqueeze(-1)

    def on_distribution(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """x ~ N(0, diag(variance)), `(N, n, d)`."""
        return self._normal(n, generators, theta_teacher) * self.variance.to(theta_teacher).sqrt()

    def off_distribution(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        """As on-distribution, and with sd (1 + 3 `strength`)/2 in the coordinates never seen, `(N, n, d)`."""
        seen = self.variance.to(theta_teacher)
        sd = torch.where(seen > 0, seen.sqrt(), (1 + 3 * strength) / 2)
        return self._normal(n, generators, theta_teacher) * sd

    def answer(self, theta_teacher: Tensor, x: Tensor) -> Tensor:
        """θ1·x, `(N, n)`."""
        return (x @ theta_teacher.unsqueeze(-1)).squeeze(-1)

    def human_net(self, width: int) -> Mlp:
        """d inputs, one output, no bias and no hidden units: `width` is of no account here."""
        return Mlp((self.d, 1), bias=False)

    human_answer = staticmethod(first_output)

    def human_loss(self, net: Mlp, theta_human: Tensor, theta_teacher: Tensor) -> Tensor:
        """The exact E (H − f)² on-distribution, Σ_i variance_i (θ2_i − θ1_i)², `(N,)`."""
        return (theta_human - theta_teacher).square() @ self.variance.to(theta_human)

    def inactive(self, theta_teacher: Tensor) -> Tensor:
        """The coordinates that never vary, `(d,)`."""
        return self.variance == 0

    def features(self, x: Tensor) -> Tensor:
        """The human is linear in these, H(x) = features(x)·θ2: x `(n, d)` -> `(n, p2)`. Here x itself."""
        return x

    def picture(self, theta_teacher: Tensor) -> Picture:
        """The plane of θ1's parts in the coordinates seen and in those never seen; learned is the line of the first."""
        return seen_and_unseen(theta_teacher, self.inactive(theta_teacher))

    def _normal(self, n: int, generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
        return torch.stack([torch.randn(n, self.d, generator=g, dtype=like.dtype) for g in generators])


def build(
    d: Annotated[int, Field(ge=2, le=1000, description="inputs, and parameters of teacher and human")] = 10,
    active: Annotated[int, Field(ge=1, le=999, description="coordinates that vary on-distribution")] = 6,
    tolerance: Annotated[float, Field(gt=0, le=10, description="answers within half of this are right")] = 0.1,
) -> LinearGaussian:
    """The linear Gaussian world. Raises InputError unless `active` is below `d`."""
    if active >= d:
        raise InputError("active", active, f"fewer than d = {d} coordinates, so that some are never seen")
    return LinearGaussian(d, active, float(tolerance))
