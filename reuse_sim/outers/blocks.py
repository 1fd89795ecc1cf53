"""What outer models are made of: named tensors in a flat θ, and the gradient dial between two heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor

Layout = Mapping[str, tuple[tuple[int, ...], float]]
"""Per tensor its shape and the standard deviation of its initial entries."""


def size(layout: Layout) -> int:
    """Number of parameters."""
    return sum(prod(shape) for shape, _ in layout.values())


def init(layout: Layout, generators: Sequence[torch.Generator]) -> Tensor:
    """Normal draws `(A, p)`, one generator per row."""
    sd = torch.cat([torch.full((prod(shape),), s) for shape, s in layout.values()])
    return torch.stack([torch.randn(len(sd), generator=g) for g in generators]) * sd


def views(layout: Layout, theta: Tensor) -> dict[str, Tensor]:
    """The named tensors of θ `(A, p)`, each `(A, *shape)`, without copying."""
    parts = theta.split([prod(shape) for shape, _ in layout.values()], dim=-1)
    return {name: part.unflatten(-1, shape) for (name, (shape, _)), part in zip(layout.items(), parts, strict=True)}


def scale_gradient(shared: Tensor, pressure: Tensor | float) -> Tensor:
    """`shared` `(A, …)` unchanged in value, its gradient multiplied by `pressure` (`(A,)` or a number)."""
    if not shared.requires_grad:
        return shared
    factor = torch.as_tensor(pressure)
    if not factor.any():
        return shared.detach()
    scaled = shared.view_as(shared)
    scaled.register_hook(lambda gradient: gradient * factor.reshape(-1, *[1] * (shared.dim() - 1)))
    return scaled
