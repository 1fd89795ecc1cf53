"""What outer models are made of: named tensors in a flat θ, two heads, and the gradient dial between them.

Two shapes of heads: a `trunk` of ReLU units beside a linear skip from its inputs, read by both (`slot`,
`direct`, `gate`); and for each head ReLU units of its own beside a linear skip from what both share
(`context`, `in_context`). Shapes are `(A, H, units, n)`: arms, humans, units, questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from reuse_sim.types import World

Layout = Mapping[str, tuple[tuple[int, ...], float]]
"""Per tensor its shape and the standard deviation of its initial entries."""

Views = Mapping[str, Tensor]
"""The named tensors of θ, each `(A, *shape)`."""


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
    """`shared` `(A, …, n)` unchanged in value, its gradient multiplied by `pressure`: a number, `(A,)` or `(A, n)`."""
    if not shared.requires_grad:
        return shared
    factor = torch.as_tensor(pressure)
    if not factor.any():
        return shared.detach()
    if factor.dim():
        last = factor.shape[1] if factor.dim() == 2 else 1
        factor = factor.reshape(-1, *[1] * (shared.dim() - 2), last)
    scaled = shared.view_as(shared)
    scaled.register_hook(lambda gradient: gradient * factor)
    return scaled


def squash(world: World, z: Tensor) -> Tensor:
    """Raw outputs as answers: themselves in a regression, tanh(z/2) in a classification, as humans answer there."""
    return torch.tanh(z / 2) if world.kind == "classification" else z


# A trunk read by both heads --------------------------------------------------------------------------


def trunk(width: int, inputs: int, behaviours: int = 0) -> Layout:
    """ReLU units that see the inputs, and heads that see both: what is right, the human's answer, its behaviours."""
    heads = 2 + behaviours
    return {
        "trunk": ((width, inputs), (2 / inputs) ** 0.5),
        "heads": ((heads, width), (1 / width) ** 0.5),
        "skip": ((heads, inputs), 0.0),
    }


def trunk_units(v: Views, inputs: Tensor) -> Tensor:
    """What all heads read beside the inputs `(A, H, i, n)`: `(A, H, width, n)`."""
    return torch.relu(v["trunk"].unsqueeze(1) @ inputs)


def trunk_heads(v: Views, units: Tensor, inputs: Tensor, pressure: Tensor | float) -> tuple[Tensor, Tensor]:
    """Raw outputs of the heads, `(A, H, n)` for answers and `(A, H, 1 + behaviours, n)` for the human."""
    heads, skip = v["heads"].unsqueeze(1), v["skip"].unsqueeze(1) @ inputs
    answer = heads[..., :1, :] @ units + skip[..., :1, :]
    return answer.squeeze(-2), heads[..., 1:, :] @ scale_gradient(units, pressure) + skip[..., 1:, :]


def asked(x: Tensor, *beside: Tensor) -> Tensor:
    """Questions `(A, H, n, d)` and what stands beside them, each `(A, H, units, n)`, as inputs of a trunk."""
    return torch.cat([x.transpose(-1, -2).expand(*beside[0].shape[:2], x.shape[-1], x.shape[-2]), *beside], dim=-2)


# Heads with units of their own -----------------------------------------------------------------------


def heads(width: int) -> Layout:
    """Two heads of ReLU units with a linear skip that read z."""
    return {
        "units": ((2, width, width), (2 / width) ** 0.5),
        "units_bias": ((2, width), 0.0),
        "heads": ((2, width), (1 / width) ** 0.5),
        "skip": ((2, width), (1 / width) ** 0.5),
        "heads_bias": ((2, 1), 0.0),
    }


def head_units(v: Views, z: Tensor, head: int) -> Tensor:
    """The units of one head, beside which it reads z `(A, H, width, n)` itself."""
    return torch.relu(v["units"][:, None, head] @ z + v["units_bias"][:, None, head, :, None])


def own_heads(v: Views, z: Tensor, pressure: Tensor | float) -> tuple[Tensor, Tensor]:
    """Raw outputs `(A, H, n)` of the heads for answers and for the human."""
    raw = []
    for head, shared in enumerate((z, scale_gradient(z, pressure))):
        out = v["heads"][:, None, None, head] @ head_units(v, shared, head) + v["skip"][:, None, None, head] @ shared
        raw.append((out + v["heads_bias"][:, None, head, :, None]).squeeze(-2))
    return raw[0], raw[1]


def hidden(*read: Tensor) -> Tensor:
    """What an answer head reads, `(A, H, units, n)` each, as `(A, H, n, units)`."""
    return torch.cat(read, dim=-2).transpose(-1, -2)
