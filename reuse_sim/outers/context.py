"""Many humans, one outer: each human's leaked bits come in as one token per hidden neuron.

A token is a neuron's weights, bias and outgoing weight, its share of the output bias, and the known
share of each. The outer reads it into a unit of its own,

    z(x) = Σ_j (D t_j + d) ⊙ tanh((A t_j)·x + B t_j + C x) / √h,

and two heads of ReLU units with a linear skip read z: what is right, and what the human answers. It can
become any human it is shown; whether it does is the question. For humans of one hidden layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.outers import blocks
from reuse_sim.types import Access, World


@dataclass(frozen=True)
class Context:
    width: int

    def _layout(self, net: Mlp) -> blocks.Layout:
        d, t = net.sizes[0], 2 * (net.sizes[0] + 3)  # token: weights, bias, outgoing weight, output bias; known shares
        k = self.width
        return {
            "A": ((k, d, t), (1 / t) ** 0.5),
            "B": ((k, t), (1 / t) ** 0.5),
            "C": ((k, d), (1 / d) ** 0.5),
            "D": ((k, t), (1 / t) ** 0.5),
            "D_bias": ((k,), 1.0),
            **blocks.heads(k),
        }

    def init(self, net: Mlp, generators: Sequence[torch.Generator]) -> Tensor:
        return blocks.init(self._layout(net), generators)

    def answer(
        self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access, pressure: Tensor | float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Raises InputError where a rival is handed in: this outer is not handed H's answers either."""
        if access.rival is not None:
            raise InputError("rival", "matched", "none with outer: context, which sees no answers", "use outer: slot")
        v = blocks.views(self._layout(net), theta)
        answer, human = blocks.own_heads(v, _units(v, net, x, access), pressure)
        return blocks.squash(world, answer), blocks.squash(world, human)

    def hidden(self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access) -> Tensor:
        """The answer head's units and z, `(A, H, n, 2 width)`."""
        v = blocks.views(self._layout(net), theta)
        z = _units(v, net, x, access)
        return blocks.hidden(blocks.head_units(v, z, 0), z)


def _units(v: blocks.Views, net: Mlp, x: Tensor, access: Access) -> Tensor:
    """z(x), `(A, H, width, n)`."""
    tokens = torch.cat([neuron_tokens(net, access.leaked.value), neuron_tokens(net, access.leaked.known)], dim=-1)
    x = x.expand(*tokens.shape[:2], *x.shape[-2:])
    directions = torch.einsum("akdt,ahjt->ahjkd", v["A"], tokens) + v["C"][:, None, None]
    offsets = torch.einsum("akt,ahjt->ahjk", v["B"], tokens)
    gains = torch.einsum("akt,ahjt->ahjk", v["D"], tokens) + v["D_bias"][:, None, None]
    inner = torch.einsum("ahjkd,ahnd->ahjkn", directions, x) + offsets.unsqueeze(-1)
    return (gains.unsqueeze(-1) * torch.tanh(inner)).sum(2) / tokens.shape[2] ** 0.5


def neuron_tokens(net: Mlp, theta: Tensor) -> Tensor:
    """One row per hidden neuron of a one-hidden-layer human: `(…, p2)` -> `(…, h, d + 3)`.

    Raises InputError for other architectures.
    """
    if len(net.sizes) != 3 or net.sizes[2] != 1 or not net.bias:
        raise InputError(
            "outer: context",
            f"humans of layers {net.sizes}, bias {net.bias}",
            "humans of one hidden layer, one answer and biases",
            "use outer: slot",
        )
    v = net.views(theta)
    shared = (v["bias1"] / net.sizes[1]).unsqueeze(-2).expand(*v["bias0"].shape, 1)
    return torch.cat([v["weight0"], v["bias0"].unsqueeze(-1), v["weight1"].transpose(-1, -2), shared], dim=-1)


def build(
    width: Annotated[int, Field(gt=0, le=1024, description="units of its own")] = 12,
) -> Context:
    """An outer model that reads the bits of whichever human it is asked about."""
    return Context(width)
