"""The teaching case: one scalar decides how much the outer model answers with the human.

    M(x) = g · H_θ̂2(x) + (1 − g) · own(x)

with g in (0, 1) and own(x) a trunk that sees the question alone, as `direct`'s.

Its causal figures are no evidence. With all bits leaked, M_k − M = g (H_k − H) whatever has been learned, so
the causal figure *equals the gate by construction*. And once own(x) answers as rightly as H does on-distribution,
nothing pulls at g: it stays near its start, or where the first steps have pushed it while own(x) knew nothing, so
that what it reports is the options `gate` and `rate`. It shows what the figures mean, and why an outer model whose
use of the human is one number cannot decide anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.nets import Mlp
from reuse_sim.outers import blocks
from reuse_sim.types import Access, World


@dataclass(frozen=True)
class Gate:
    gate: float
    width: int

    def _layout(self, net: Mlp) -> blocks.Layout:
        # `gate` is the logit of g less that of its start; `human` the weight of H in the predicted human.
        return {**blocks.trunk(self.width, net.sizes[0] + 1), "gate": ((1,), 0.0), "human": ((1,), 0.0)}

    def init(self, net: Mlp, generators: Sequence[torch.Generator]) -> Tensor:
        return blocks.init(self._layout(net), generators)

    def g(self, net: Mlp, theta: Tensor) -> Tensor:
        """The gate of each arm, `(A,)`."""
        return torch.sigmoid(blocks.views(self._layout(net), theta)["gate"][:, 0] + log(self.gate / (1 - self.gate)))

    def answer(
        self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access, pressure: Tensor | float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """A rival's answers are not read."""
        v, inputs, simulated = self._read(world, net, theta, x, access)
        own, human = blocks.trunk_heads(v, blocks.trunk_units(v, inputs), inputs, pressure)
        g, simulated = self.g(net, theta)[:, None, None], simulated.squeeze(-2)
        # Both parts are answers, so that their mixture is one too.
        mixed = g * simulated + (1 - g) * blocks.squash(world, own)
        return mixed, blocks.squash(world, human.squeeze(-2) + v["human"].unsqueeze(-1) * simulated)

    def hidden(self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access) -> Tensor:
        """The trunk's units, the question and the simulated human's answer, `(A, H, n, width + d + 1)`."""
        v, inputs, simulated = self._read(world, net, theta, x, access)
        return blocks.hidden(blocks.trunk_units(v, inputs), inputs[..., :-1, :], simulated)

    def _read(
        self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access
    ) -> tuple[blocks.Views, Tensor, Tensor]:
        simulated = world.human_answer(net, access.leaked.value, x).unsqueeze(-2)
        return blocks.views(self._layout(net), theta), blocks.asked(x, torch.ones_like(simulated)), simulated


def build(
    gate: Annotated[float, Field(gt=0, lt=1, description="g before training, near which it stays")] = 0.5,
    width: Annotated[int, Field(gt=0, le=4096, description="ReLU units of its own trunk")] = 48,
) -> Gate:
    """An outer model that mixes the human's answer with its own. For teaching; its causal figure is its gate."""
    return Gate(gate, width)
