"""The lowest point near a start, and how the cost and the reference curve there: what local methods stand on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness.problem import checked
from reuse_sim.specialness.space import Space
from reuse_sim.train import descend

ROWS = 256
"""Rows of a Hessian that are computed side by side."""
NUDGE = 1e-9
"""Modes like to lie where |θ| or ReLU have their kink, and autograd's convention there (slope 0) is no derivative."""


def hessian(function: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient `(d,)` and Hessian `(d, d)` at z `(d,)` of a batched function `(n, d)` -> `(n,)`.

    Row i is the gradient of the gradient's entry i at a copy of z of its own. Zero where nothing depends on z.
    """
    d, rows, slope = len(z), [], torch.zeros_like(z)
    unit = torch.eye(d, dtype=z.dtype)
    aside = NUDGE * (1 + z.abs()) * torch.cos(torch.arange(d, dtype=z.dtype))
    z = z + aside
    for at in unit.split(ROWS):
        with torch.enable_grad():
            leaf = z.detach().expand(len(at), d).clone().requires_grad_(True)
            value = function(leaf)
            if not value.requires_grad:
                return slope, torch.zeros(d, d, dtype=z.dtype)
            (first,) = torch.autograd.grad(value.sum(), leaf, create_graph=True)
            slope = first[0].detach()
            second = torch.zeros_like(first)
            if first.requires_grad:
                second = torch.autograd.grad((first * at).sum(), leaf, allow_unused=True)[0]
            rows.append(second if second is not None else torch.zeros_like(leaf))
    full = torch.cat(rows).detach()
    full = (full + full.T) / 2
    return slope - full @ aside, full


def log_base(space: Space, z: Tensor) -> Tensor:
    """Log density of the reference in nats at z `(n, d)`: that of N(0, I) where z is normal, up to its constant."""
    return -z.square().sum(-1) / 2 if space.normal else space.problem.reference.log_prob(z)


def base_curvature(space: Space, z: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient and minus the Hessian of `log_base` at z `(d,)`."""
    if space.normal:
        return -z, torch.eye(len(z), dtype=z.dtype)
    slope, curve = hessian(lambda at: log_base(space, at), z)
    return slope, -curve


def cost_curvature(space: Space, z: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian of C at z `(d,)`."""
    return hessian(lambda at: checked(space.problem.cost, space.theta(at)), z)


def need_smooth(space: Space, where: str) -> None:
    """Raises InputError where C has no gradient."""
    if not space.problem.smooth:
        raise InputError(where, "a cost without a gradient", "a smooth one", "take method subset")


def down(space: Space, strength: float, starts: Tensor, steps: int = 300, rate: float = 0.05) -> Tensor:
    """Each of z `(n, d)` brought down on −log base + strength C by Adam; those that break stay where they broke."""
    def height(z: Tensor, _: int) -> Tensor:
        return strength * checked(space.problem.cost, space.theta(z)) - log_base(space, z)

    return descend(height, starts, steps=steps, rate=rate).theta


def settle(space: Space, strength: float, z: Tensor, rounds: int = 20) -> Tensor:
    """Newton's method on −log base + strength C from z `(d,)`, damped until it goes down, to a gradient near 0."""
    def height(at: Tensor) -> Tensor:
        with torch.no_grad():
            return strength * checked(space.problem.cost, space.theta(at)) - log_base(space, at)

    for _ in range(rounds):
        base_slope, base = base_curvature(space, z)
        cost_slope, cost = cost_curvature(space, z)
        slope, curve = strength * cost_slope - base_slope, base + strength * cost
        values, turn = torch.linalg.eigh(curve)
        floor = 1e-8 * values.abs().max().clamp(min=1e-300)
        step = -turn @ ((turn.T @ slope) / values.abs().clamp(min=floor))
        sizes = 2.0 ** -torch.arange(12, dtype=z.dtype)
        heights = height(torch.cat([z[None], z + sizes[:, None] * step])).nan_to_num(torch.inf, torch.inf)
        best = int(heights.argmin())
        if best == 0:
            return z
        z = z + sizes[best - 1] * step
        if float(slope.abs() @ step.abs()) < 1e-14 * (1 + abs(float(heights[0]))):
            return z
    return z
