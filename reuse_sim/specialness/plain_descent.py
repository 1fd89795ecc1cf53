"""A descent as learners make it: Adam on C from draws of the reference, every iterate kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness.known import Leak
from reuse_sim.specialness.problem import Problem
from reuse_sim.specialness.space import Space
from reuse_sim.train import descend


@dataclass(frozen=True)
class Iterates:
    """z `(steps + 1, K, d)` in the coordinates of `space`, the first the draws, and the gradient of C at each."""

    space: Space
    z: Tensor
    slope: Tensor

    @property
    def theta(self) -> Tensor:
        """θ `(steps + 1, K, d)`."""
        return self.space.theta(self.z.flatten(0, 1)).unflatten(0, self.z.shape[:2])


def iterates(
    problem: Problem, generator: torch.Generator, *, count: int = 4, steps: int = 400, rate: float = 0.03,
    leak: Leak | None = None,
) -> Iterates:
    """`count` descents side by side; what leaks is set to its value on the way and held.

    Raises InputError where C has no gradient.
    """  # fmt: skip
    if not problem.smooth:
        raise InputError("plain descent", "a cost without a gradient", "a smooth one", "take method smc")
    space = Space(problem)
    told = space.z(leak.theta) if leak else None
    zs, slopes = [], []

    def seen(z: Tensor, step: int) -> Tensor:
        return torch.where(leak.held(step / steps), told, z) if leak and told is not None else z

    def loss(z: Tensor, step: int) -> Tensor:
        # The gradient is the problem's own where that is faster; what is held has none.
        at = seen(z, step)
        state = space.state(at, slopes=True)
        assert state.cost_slope is not None
        zs.append(at.detach().clone())
        slopes.append(state.cost_slope)
        return state.cost + (state.cost_slope * (at - at.detach())).sum(-1)

    last = descend(loss, space.draw(count, generator), steps=steps, rate=rate, schedule="cosine").theta
    loss(last, steps)
    return Iterates(space, torch.stack(zs), torch.stack(slopes))
