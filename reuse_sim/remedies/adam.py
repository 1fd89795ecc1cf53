"""Adam (Kingma & Ba 2015) on rows that nothing couples, each with moments of its own.

State / step: State holds what the next step needs. Rows `(A, p)` are parameters of A learners.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

CLIP = 1000.0
"""Largest norm of a row's gradient, nats."""


@dataclass(frozen=True)
class State:
    """Means of the gradient and of its square, `(A, p)` each, and how many steps were made."""

    first: Tensor
    second: Tensor
    made: int = 0


def init(rows: Tensor) -> State:
    return State(torch.zeros_like(rows), torch.zeros_like(rows))


def clip(slope: Tensor) -> Tensor:
    """Gradients `(A, p)` no longer than CLIP."""
    return slope * (CLIP / (slope.norm(dim=1) + 1e-12)).clamp(max=1)[:, None]


def step(state: State, rows: Tensor, slope: Tensor, rate: float, alive: Tensor) -> tuple[State, Tensor]:
    """The next rows; those that are not `alive` `(A,)` stay where they are."""
    slope, made = torch.where(alive[:, None], slope, 0.0), state.made + 1
    first, second = state.first.lerp(slope, 0.1), state.second.lerp(slope.square(), 0.001)
    lean = (1 - 0.999**made) ** 0.5 / (1 - 0.9**made)
    return State(first, second, made), rows.detach() - rate * lean * alive[:, None] * first / (second.sqrt() + 1e-8)


def rate_at(rate: float, at: int, steps: int, cosine: bool) -> float:
    """Constant, or falling to 0 along half a cosine."""
    return rate * (0.5 * (1 + math.cos(math.pi * at / steps)) if cosine else 1.0)
