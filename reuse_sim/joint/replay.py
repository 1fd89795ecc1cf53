"""The process again: the same questions in the same order, so that f, an initialisation and the process give H.

By an engine, in float32: a hundred times as fast as a training that keeps its derivative (`unrolled`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.engines.spec import BLOCK, Optimizer, Rows
from reuse_sim.nets import Mlp
from reuse_sim.train import train


@dataclass(frozen=True)
class Process:
    """How a human came to be, without its start: step t asked x[t] `(b, d)`, told y[t] `(b,)`.

    x is `(steps, b, d)` and y `(steps, b)`; the rate falls as half a cosine.
    """

    net: Mlp
    x: Tensor
    y: Tensor
    optimizer: Optimizer

    @property
    def steps(self) -> int:
        return len(self.x)

    @property
    def flops(self) -> float:
        """2 p an answer and 4 p more its gradient, for every question of every step."""
        return 6.0 * self.net.p * self.steps * self.x.shape[1]

    def __call__(self, theta_0: Tensor) -> Tensor:
        """θ_T `(N, p)` of θ₀ `(N, p)`, each network as if alone; in float32, returned as θ₀ came."""
        x, y = (t.float() for t in (self.x, self.y.unsqueeze(-1)))
        fit = train(self.net, theta_0.float(), _Ordered(x, y), steps=self.steps, optimizer=self.optimizer, threads=1)
        return fit.theta.to(theta_0.dtype)


class _Ordered:
    """Questions to an engine, block after block; chunks of networks each go through them from the first."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y, self.asked = x, y, dict[int, int]()

    def block(self, members: slice) -> Rows:
        """The next BLOCK steps' questions, shared by all networks."""
        first = self.asked.get(members.start, 0)
        self.asked[members.start] = first + BLOCK
        rows = slice(first, first + BLOCK)
        return Rows(self.x[rows].flatten(0, 1)[None], self.y[rows].flatten(0, 1)[None], batch=self.x.shape[1])


def replays(process: Callable[[Tensor], Tensor], theta_0: Tensor, theta_human: Tensor) -> bool:
    """Whether the process turns θ₀ `(N, p)` into θ2 `(N, p)` to the last bit."""
    return torch.equal(process(theta_0), theta_human)
