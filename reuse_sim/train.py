"""One trainer for everything: Adam on stacked populations, each network on its own.

Nothing couples the networks of a stack: losses are summed (so gradients stay apart), the update is
elementwise, gradients are clipped per network, and one that breaks stops alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from reuse_sim.types import Fit

Schedule = Literal["cosine", "constant"]


def descend(
    loss: Callable[[Tensor, int], Tensor],
    theta_0: Tensor,
    *,
    steps: int,
    rate: float,
    schedule: Schedule = "cosine",
    clip: float | None = None,
) -> Fit:
    """Minimise each network's loss by Adam (Kingma & Ba 2015; β = .9, .999) from `theta_0` `(N, p)`.

    Args:
        loss: θ `(N, p)` and the step number to one loss per network `(N,)`.
        clip: largest gradient norm of one network, if any.

    A network whose loss or gradient stops being finite keeps its last finite θ and is named in
    `Fit.broken` with step and rate; the others go on.
    """
    theta = theta_0.detach().clone()
    first, second = torch.zeros_like(theta), torch.zeros_like(theta)
    alive = torch.ones(len(theta), dtype=torch.bool, device=theta.device)
    value = torch.full((len(theta),), math.nan, dtype=theta.dtype, device=theta.device)
    broken: dict[int, str] = {}
    for step in range(steps):
        now = rate * (0.5 * (1 + math.cos(math.pi * step / steps)) if schedule == "cosine" else 1.0)
        with torch.enable_grad():
            leaf = theta.requires_grad_(True)
            value = loss(leaf, step)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        theta, value = theta.detach(), value.detach()
        fine = torch.isfinite(value) & torch.isfinite(gradient).all(-1)
        if not bool((fine | ~alive).all()):
            for i in torch.nonzero(alive & ~fine).flatten().tolist():
                broken[i] = f"network {i}: loss not finite at step {step} with rate {now:.3g}"
            alive &= fine
        if not bool(alive.all()):
            gradient = torch.where(alive.unsqueeze(-1), gradient, 0.0)
        if clip is not None:
            gradient = gradient * (clip / gradient.norm(dim=-1, keepdim=True).clamp_min(clip))
        first.lerp_(gradient, 0.1)
        second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        update = (first / (1 - 0.9 ** (step + 1))) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        theta = theta - now * torch.where(alive.unsqueeze(-1), update, 0.0)
    return Fit(theta, value, broken)
