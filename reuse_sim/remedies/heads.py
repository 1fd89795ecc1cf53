"""Answer heads that know the human: f1(x) = c H(x) + r·h(x) + N(x), N a network of the outer model's own.

The intended head is c = 0, the instrumental one (a copy) c = 1 with N silent, everything between is hybrid; r reads the
human's hidden units h and is 0 where they cannot be read. The own network is uncertain: its parameters θ1 are
N(m, diag s²), which costs KL to the prior in nats. Everything is stacked over A heads that nothing couples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp


@dataclass(frozen=True)
class Own:
    """The outer model's own networks, one hidden layer of `width` units over d inputs.

    `wave` `(A,)` is true where units are sines. Prior sds: those of initialisation for tanh; for sines weights about
    the frequencies that the radius world has, phases 1, and outputs so that the variance of a draw is 1/2 + 1/4.
    """

    d: int
    width: int
    wave: Tensor

    def __post_init__(self) -> None:
        if self.d < 1 or self.width < 1 or self.wave.dtype != torch.bool or self.wave.ndim != 1:
            raise InputError("Own", f"d {self.d}, width {self.width}, wave {tuple(self.wave.shape)}",
                             "d and width of at least 1, and one yes or no for each head")

    @property
    def net(self) -> Mlp:
        return Mlp((self.d, self.width, 1), "tanh")

    @property
    def p(self) -> int:
        return self.net.p

    @cached_property
    def prior_sd(self) -> Tensor:
        """`(A, p)`."""
        tanh, wave = self.net.prior_sd(), torch.empty(self.p)
        for f, sd in zip(self.net.fields, (0.7, 1.0, self.width**-0.5, 0.5), strict=True):
            wave[f.slice] = sd
        return torch.where(self.wave[:, None], wave, tanh)

    def answer(self, mu: Tensor, x: Tensor) -> Tensor:
        """N(x) for whitened parameters μ = θ1/sd `(…, A, p)` and questions `(n, d)`: `(…, A, n)`."""
        v = self.net.views(mu * self.prior_sd.to(mu.dtype))
        before = v["weight0"] @ x.T + v["bias0"].unsqueeze(-1)
        unit = torch.where(self.wave[:, None, None], torch.sin(before), torch.tanh(before))
        return (v["weight1"] @ unit).squeeze(-2) + v["bias1"]

    def silent(self, mu: Tensor) -> Tensor:
        """μ with the output layer at 0: a network that says nothing, whatever its units know."""
        out, first = mu.clone(), self.net.fields[2].start
        out[:, first:] = 0
        return out


def kl_nats(mu: Tensor, log_rho: Tensor) -> Tensor:
    """KL of N(μ, diag ρ²) to N(0, I), whitened, `(A, p)` twice -> `(A,)` nats: Σ (ρ² + μ² − 1)/2 − log ρ."""
    return ((2 * log_rho).exp() + mu.square() - 1).sum(-1) / 2 - log_rho.sum(-1)


def l2_nats(mu: Tensor) -> Tensor:
    """What a weight decay takes for the price: Σ μ²/2, `(A,)`. No code is that long: precision is free."""
    return mu.square().sum(-1) / 2


def misfit_nats(answer: Tensor, target: Tensor, unit: Tensor | float, strength: float, slack: float = 1.0) -> Tensor:
    """strength · (MSE/unit − slack)₊ over questions, answers `(…, n)` -> `(…,)`: nothing within the tolerance.

    `unit` is τ var f. With slack 0 it is the misfit under normal noise of that variance, strength n/2.
    """
    return strength * ((answer - target).square().mean(-1) / unit - slack).clamp(min=0)


def bits(nats: Tensor) -> Tensor:
    return nats / math.log(2)
