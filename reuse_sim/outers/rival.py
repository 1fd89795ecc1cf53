"""The rival of the choice arm: an equally on-accurate answerer of another kind than the human.

A wide perceptron with the other activation learns f from on-distribution questions and answers
f + s (g − f), with s such that its mean squared error on-distribution equals the human's: beside it,
answering with H is a choice. The shrinking keeps the kind of its error and sets only the size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reuse_sim.engines.spec import Adam, Fresh
from reuse_sim.nets import Mlp
from reuse_sim.train import train as fit
from reuse_sim.types import Fit, World

WIDTH, STEPS, RATE, BATCH = 128, 1000, 0.01, 256


def rival_net(human: Mlp) -> Mlp:
    """Tanh beside ReLU humans and the reverse."""
    return Mlp((human.sizes[0], WIDTH, 1), "tanh" if human.activation == "relu" else "relu")


def train(world: World, net: Mlp, theta_teacher: Tensor, generators: Sequence[torch.Generator]) -> Fit:
    """One rival per row of θ1 `(N, p1)`; `generators` give starts and questions."""

    def draw(members: slice, n: int) -> tuple[Tensor, Tensor]:
        x = world.on_distribution(theta_teacher[members], n, generators[members])
        return x, world.answer(theta_teacher[members], x).unsqueeze(-1)

    return fit(net, net.init(generators), Fresh(draw, BATCH), steps=STEPS, optimizer=Adam(RATE))


def shrinkage(raw: Tensor, truth: Tensor, human: Tensor) -> Tensor:
    """s `(N,)` that makes the rival's mean squared error equal the human's on the same questions `(N, n)`."""
    return ((human - truth).square().mean(-1) / (raw - truth).square().mean(-1)).sqrt()


def answer(world: World, net: Mlp, theta: Tensor, s: Tensor, theta_teacher: Tensor, x: Tensor) -> Tensor:
    """f + s (g − f), `(N, n)`, for rivals θ `(N, p)`, s `(N,)`, questions `(N, n, d)`."""
    truth = world.answer(theta_teacher, x)
    return truth + s.unsqueeze(-1) * (net.forward(theta, x)[..., 0] - truth)
