"""Pictures of a plane through the origin, for worlds whose questions are points."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reuse_sim.types import Picture

HALF = 20
"""Steps from the middle, which is 0, to either side."""


def plane(
    across: Tensor, down: Tensor, reach: float, labels: tuple[str, str], learned: Callable[[Tensor], Tensor]
) -> Picture:
    """Questions s·across + t·down, s along columns and t along rows, from −`reach` to `reach` in 41 equal steps.

    The directions are `(d,)`, `labels` say what they are; `learned` tells of questions `(…, d)` whether they were.
    """
    at = torch.arange(-HALF, HALF + 1, dtype=torch.float64) * reach / HALF
    x = (at.unsqueeze(-1) * across + at[:, None, None] * down).to(across.dtype)
    return Picture(x, *labels, at.tolist(), at.tolist(), learned(x))


def seen_and_unseen(theta_teacher: Tensor, inactive: Tensor) -> Picture:
    """For f of θ1·x: across along θ1's part in the inputs seen, down along that in those never seen, `inactive`.

    Learned is the line on which the latter are 0. θ1 and inactive are `(d,)`.
    """
    parts = [theta_teacher.masked_fill(mask, 0) for mask in (inactive, ~inactive)]
    across, down = (part / part.norm() for part in parts)
    labels = "x along θ₁ in the inputs seen", "x along θ₁ in the inputs never seen"
    return plane(across, down, 3.0, labels, lambda x: (x[..., inactive] == 0).all(-1))
