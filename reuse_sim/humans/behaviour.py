"""What a human does beside answering questions: further outputs of its network, learned from tastes of its own.

A taste is a random smooth function of the question, another for every human, so that nobody who knows the teacher
knows it: whoever predicts a human's behaviour needs its θ2. The outputs share the human's trunk with its answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.nets import Mlp
from reuse_sim.types import World

UNITS, STEEP, SAMPLE = 8, 2.0, 512


@dataclass(frozen=True)
class Tastes:
    """K tastes of each of N humans: tanh perceptrons θ `(N, K, p)` of the question less `centre`, times `scale`.

    `mean` and `sd` `(N, K)` are theirs over SAMPLE on-distribution questions.
    """

    net: Mlp
    theta: Tensor
    centre: Tensor
    scale: Tensor
    mean: Tensor
    sd: Tensor

    def answer(self, x: Tensor, members: slice = slice(None)) -> Tensor:
        """What tastes say to x `(c, n, d)` of some of the humans, standardised: `(c, n, K)`."""
        raw = _raw(self.net, self.theta[members], self.centre[members], self.scale[members], x)
        return (raw - self.mean[members, None]) / self.sd[members, None]


def tastes(world: World, theta_teacher: Tensor, count: int, generators: Sequence[torch.Generator]) -> Tastes:
    """Draw `count` tastes per human, one generator each; θ1 `(N, p1)` tells where questions lie.

    Weights into the UNITS tanh units have sd STEEP where questions are scaled to norm 1 about their mean, the others 1.
    """
    net = Mlp((world.d, UNITS, 1), "tanh")
    x = world.on_distribution(theta_teacher, SAMPLE, generators)
    theta = torch.stack([torch.randn(count, net.p, generator=g, dtype=x.dtype) for g in generators])
    net.views(theta)["weight0"].mul_(STEEP)
    centre = x.mean(1, keepdim=True)
    scale = 1 / (x - centre).square().sum(-1, keepdim=True).mean(1, keepdim=True).sqrt()
    raw = _raw(net, theta, centre, scale, x)
    return Tastes(net, theta, centre, scale, raw.mean(1), raw.std(1))


def _raw(net: Mlp, theta: Tensor, centre: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    return net.forward(theta, ((x - centre) * scale).unsqueeze(1))[..., 0].transpose(-1, -2)
