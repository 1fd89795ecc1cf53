"""The part of a human that is about answering questions, cut out of the rest, and told of by the human itself.

Answers are a network's first output; whatever it does beside them are further outputs on the same trunk. The part is
then exact: all parameters but the weights and biases of the further outputs, which no answer depends on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from reuse_sim.engines.spec import Head
from reuse_sim.nets import Mlp
from reuse_sim.train import value_and_grad
from reuse_sim.types import World

Gradient = Callable[[Tensor], tuple[Tensor, Tensor]]


def answering(net: Mlp) -> Tensor:
    """Which parameters `(p,)` lead to the first output."""
    theirs = torch.ones(net.p, dtype=torch.bool)
    last = len(net.sizes) - 2
    for name in (f"weight{last}", *([f"bias{last}"] if net.bias else [])):
        net.views(theirs)[name][1:] = False
    return theirs


def part(net: Mlp) -> Mlp:
    """The network with its first output alone, whose θ is `theta[..., answering(net)]`."""
    return Mlp((*net.sizes[:-1], 1), net.activation, net.bias)


def worst_output(net: Mlp, x: Tensor, told: Tensor, variance: Tensor) -> Callable[[Tensor], Tensor]:
    """The largest over outputs of the mean of (H_θ − told)²/variance over questions: θ `(n, p)` -> `(n,)`.

    x `(m, d)`, told `(m, outputs)`, variance `(outputs,)`. It is at most D exactly where every output is within D, so
    that whoever is within D of all that a human does is within D of its answers.
    """
    return lambda theta: ((net.forward(theta, x) - told).square().mean(-2) / variance).amax(-1)


def mean_output(net: Mlp, x: Tensor, told: Tensor, variance: Tensor) -> Gradient:
    """The mean over outputs in place of the largest, which has a gradient throughout: θ `(n, p)` -> `(n,)`, `(n, p)`.

    Computed by an engine in float32. It is within D where the largest is, so that no fewer θ are.
    """
    sd, scale = variance.sqrt(), torch.ones(net.p, dtype=torch.float64)
    # An output in units of its sd is that of a network whose last weights into it are divided by that.
    last = len(net.sizes) - 2
    for name in (f"weight{last}", *([f"bias{last}"] if net.bias else [])):
        field = net.views(scale)[name]
        field /= sd.reshape(-1, *[1] * (field.dim() - 1))
    heads = (Head("squared", net.sizes[-1]),)
    engine = value_and_grad(net, x.float(), (told / sd).float(), heads=heads)

    def gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = engine((theta * scale).float())
        return value.double(), slope.double() * scale

    return gradient


@dataclass(frozen=True)
class Told:
    """The same world to a learner who is told every second answer by a human `(1, p)` in the teacher's place."""

    world: World
    net: Mlp
    theta_human: Tensor
    human_loss: ClassVar[None] = None
    """An exact loss knows f alone."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world, name)

    def answer(self, theta_teacher: Tensor, x: Tensor) -> Tensor:
        """What is told of x `(N, n, d)`, `(N, n)`: f, H, f, H, …"""
        f = self.world.answer(theta_teacher, x)
        human = self.world.human_answer(self.net, self.theta_human, x)
        return torch.where(torch.arange(x.shape[-2]) % 2 == 0, f, human)
