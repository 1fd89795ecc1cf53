"""Humans whose weights have few bits, and who learn with them.

Each parameter is one of 2^b values in equal steps around 0; 0 itself is not among them, but stays where it is, being
the weight of what a human does not see. They are the cell midpoints of a fixed-point code of b bits of the same range.
While the human learns, its parameters are rounded in every forward pass, and gradients pass as if they were not
(straight-through estimator, Bengio, Léonard & Courville 2013, arXiv 1308.3432).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.nets import Mlp

RANGE = 4.0
"""Half-range in standard deviations of the initialisation prior, rounded up to a power of two."""


@dataclass(frozen=True)
class Rounded:
    """The network `net` with parameters of `bits` bits; trained as any other network, by its latent θ."""

    net: Mlp
    bits: int

    @property
    def p(self) -> int:
        return self.net.p

    def half_range(self, like: Tensor) -> Tensor:
        """Largest magnitude of each parameter, `(p,)`."""
        return torch.exp2(torch.log2(RANGE * self.net.prior_sd(like.dtype)).ceil()).to(like.device)

    def value(self, theta: Tensor) -> Tensor:
        """The nearest values of `bits` bits, `(…, p)`; their gradient is that of θ."""
        levels = 2 ** (self.bits - 1)
        step = self.half_range(theta) / levels
        cell = (theta.abs() / step).floor().clamp_max(levels - 1)
        return theta + (theta.sign() * (cell + 0.5) * step - theta).detach()

    def forward(self, theta: Tensor, x: Tensor) -> Tensor:
        return self.net.forward(self.value(theta), x)
