"""Learn an initialisation by descent through training: from another one, until what it trains to behaves as the human.

The seed of a θ₃ that holds the teacher, the process and a learned start in place of θ₂. What the start then costs is
for a code to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.engines.spec import need
from reuse_sim.joint.unrolled import MEMORY, Training

PASSES = 4.0
"""What a gradient through training costs in trainings: forwards, forwards again, and backwards twice that."""


@dataclass(frozen=True)
class Recovered:
    """N searches side by side, and k tolerances from wide to narrow.

    Attributes:
        theta: the first start within each tolerance, `(k, N, p)`; where none was, the nearest there was.
        drift: what training from it drifts, `(k, N)`.
        steps: descent steps until then `(k, N)`, all of them where it was not reached.
        reached: `(k, N)`.
        tolerances: as given, in that order.
    """

    theta: Tensor
    drift: Tensor
    steps: Tensor
    reached: Tensor
    tolerances: tuple[float, ...]

    def flops(self, training_flops: float) -> Tensor:
        """What the searches cost `(k, N)`: each step goes through training and back, and a last training checks."""
        return training_flops * (PASSES * self.steps + 1)


def recover(
    training: Training,
    starts: Tensor,
    scale: Tensor,
    drift: Callable[[Tensor], Tensor],
    tolerances: Sequence[float],
    *,
    steps: int = 100,
    rate: float = 0.1,
    memory: float = MEMORY,
) -> Recovered:
    """Descend by Adam on log drift(Train(θ₀)) from each of `starts` `(N, p)`, at most `steps` steps.

    Args:
        scale: standard deviations `(p,)` of the initialisation; steps are in these units.
        drift: behaviour drift from the human, θ `(N, p)` -> `(N,)`, differentiable.
        tolerances: drifts that count as the human's behaviour; the search ends when all searches are within all.
        rate: of Adam, constant: a search is to end where it first gets there.
        memory: bytes that the gradient through training may take.

    Raises InputError for tolerances that training in this precision cannot resolve, and where memory does not do.
    """
    levels = tuple(sorted(map(float, tolerances), reverse=True))
    finest = resolution(starts.dtype)
    need(bool(levels) and levels[-1] >= finest, "tolerances", levels[-1] if levels else "none",
         f"at least {finest:.0e}, what {str(starts.dtype).removeprefix('torch.')} resolves",
         "Take a wider tolerance, or float64.")
    need(steps >= 0, "steps", steps, "at least 0")
    z = (starts / scale).detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=rate)
    k, n = len(levels), len(starts)
    theta, least = starts.expand(k, n, -1).clone(), torch.full((k, n), torch.inf, dtype=starts.dtype)
    taken, reached = torch.full((k, n), steps), torch.zeros(k, n, dtype=torch.bool)
    bound = torch.tensor(levels, dtype=starts.dtype).unsqueeze(1)
    for step in range(steps + 1):
        with torch.enable_grad():
            there = drift(training(z * scale, memory))
        value = there.detach().nan_to_num(torch.inf)
        better = ~reached & (value < least)
        theta = torch.where(better.unsqueeze(-1), z.detach() * scale, theta)
        least = torch.where(better, value, least)
        now = ~reached & (value <= bound)
        taken, reached = torch.where(now, step, taken), reached | now
        if step == steps or bool(reached.all()):
            break
        optimizer.zero_grad()
        there.log().sum().backward()
        assert z.grad is not None
        z.grad.nan_to_num_(0.0, 0.0, 0.0)
        optimizer.step()
    order = [levels.index(float(t)) for t in tolerances]
    return Recovered(theta[order], least[order], taken[order], reached[order], tuple(map(float, tolerances)))


def resolution(dtype: torch.dtype) -> float:
    """The least drift worth asking for: answers are right to about √ε of their size after a training's roundings."""
    return torch.finfo(dtype).eps
