"""Multilayer perceptrons as pure functions of a flat θ, over stacked populations.

θ of a network is one row of length p: layer by layer, weights `(out, in)` row-major, then biases.
A population is `(N, p)`; every operation runs over all N at once, and N = 1 takes the same path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

Activation = Literal["relu", "tanh"]
_ACTIVATE = {"relu": torch.relu, "tanh": torch.tanh}


@dataclass(frozen=True)
class Field:
    """One tensor inside θ: its name (`weight0`, `bias0`, …), shape, and first position."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def slice(self) -> slice:
        return slice(self.start, self.start + prod(self.shape))


@dataclass(frozen=True)
class Mlp:
    """A perceptron with layer widths `sizes` (inputs first, outputs last).

    The initialisation prior is independent normal: weights and biases of a layer with sd
    1/√fan_in, times √2 for the weights into ReLU units (He et al. 2015).
    """

    sizes: tuple[int, ...]
    activation: Activation = "tanh"
    bias: bool = True

    @property
    def fields(self) -> tuple[Field, ...]:
        out, start = [], 0
        for layer, (fan_in, fan_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            shapes = {"weight": (fan_out, fan_in), **({"bias": (fan_out,)} if self.bias else {})}
            for name, shape in shapes.items():
                out.append(Field(f"{name}{layer}", shape, start))
                start += prod(shape)
        return tuple(out)

    @property
    def p(self) -> int:
        """Number of parameters."""
        return self.fields[-1].slice.stop

    def prior_sd(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard deviations `(p,)` of the initialisation prior, whose mean is 0."""
        sd = torch.empty(self.p, dtype=dtype)
        last = len(self.sizes) - 2
        for f in self.fields:
            layer = int(f.name[-1])
            gain = 2.0 if self.activation == "relu" and layer < last and f.name.startswith("weight") else 1.0
            sd[f.slice] = (gain / self.sizes[layer]) ** 0.5
        return sd

    def init(self, generators: Sequence[torch.Generator], dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws `(N, p)` from the initialisation prior, one generator per network."""
        draws = [torch.randn(self.p, generator=g, dtype=dtype) for g in generators]
        return torch.stack(draws) * self.prior_sd(dtype)

    def views(self, theta: Tensor) -> dict[str, Tensor]:
        """The fields of θ `(…, p)` by name, each `(…, *shape)`, without copying."""
        return {f.name: theta[..., f.slice].unflatten(-1, f.shape) for f in self.fields}

    def layers(self, theta: Tensor, x: Tensor) -> list[Tensor]:
        """Every layer's output for θ `(…, p)` on questions `(…, n, d)`: hidden `(…, n, h)`, last `(…, n, out)`.

        Leading dimensions broadcast: questions `(n, d)` are asked of every network.
        """
        v, outputs = self.views(theta), []
        last = len(self.sizes) - 2
        for layer in range(last + 1):
            x = x @ v[f"weight{layer}"].transpose(-1, -2)
            if self.bias:
                x = x + v[f"bias{layer}"].unsqueeze(-2)
            x = x if layer == last else _ACTIVATE[self.activation](x)
            outputs.append(x)
        return outputs

    def forward(self, theta: Tensor, x: Tensor) -> Tensor:
        """Answers `(…, n, out)`."""
        return self.layers(theta, x)[-1]


def first_output(net: Mlp, theta_human: Tensor, x: Tensor) -> Tensor:
    """The answers `(…, n)` of humans who say what their network's first output is.

    A world with `human_answer = staticmethod(first_output)` has its humans trained by an engine.
    """
    return net.forward(theta_human, x)[..., 0]


def first_logit(net: Mlp, theta_human: Tensor, x: Tensor) -> Tensor:
    """The same for yes-or-no questions, answered by −1 to 1: tanh(z/2) = 2σ(z) − 1 of the first output z."""
    return torch.tanh(net.forward(theta_human, x)[..., 0] / 2)
