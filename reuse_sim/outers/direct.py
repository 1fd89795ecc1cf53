"""No access at all: the control that must learn the truth, and the human, from the questions alone.

A trunk as `slot`'s (ReLU units and a linear skip, two heads) that sees the question and 1. It reads nothing
of `access`, so that the swap changes nothing and its causal figures are 0 by construction: what it shows is
where β, the contrast and the fits stand without any access. It may have more heads, for the human's other behaviour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.nets import Mlp
from reuse_sim.outers import blocks, outputs
from reuse_sim.types import Access, World


@dataclass(frozen=True)
class Direct:
    width: int
    behaviours: int = 0

    has_place: ClassVar[bool] = False

    def _layout(self, net: Mlp) -> blocks.Layout:
        return blocks.trunk(self.width, net.sizes[0] + 1, self.behaviours)

    def init(self, net: Mlp, generators: Sequence[torch.Generator]) -> Tensor:
        return blocks.init(self._layout(net), generators)

    def answer(
        self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access, pressure: Tensor | float = 1.0
    ) -> tuple[Tensor, ...]:
        outputs.check(world, net, self.behaviours)
        v, inputs = blocks.views(self._layout(net), theta), _inputs(theta, x)
        answer, human = blocks.trunk_heads(v, blocks.trunk_units(v, inputs), inputs, pressure)
        said, *does = outputs.apart(human)
        return blocks.squash(world, answer), blocks.squash(world, said), *does

    def hidden(self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access) -> Tensor:
        """The trunk's units and the question, `(A, H, n, width + d)`."""
        v, inputs = blocks.views(self._layout(net), theta), _inputs(theta, x)
        return blocks.hidden(blocks.trunk_units(v, inputs), inputs[..., :-1, :])


def _inputs(theta: Tensor, x: Tensor) -> Tensor:
    return blocks.asked(x, theta.new_ones(len(theta), x.shape[1], 1, x.shape[2]))


def build(
    width: Annotated[int, Field(gt=0, le=4096, description="ReLU units of its trunk")] = 48,
    behaviours: Annotated[
        int, Field(ge=0, le=64, description="how many of the human's behaviours it predicts beside answers")
    ] = 0,
) -> Direct:
    """An outer model without a place for a human's bits."""
    return Direct(width, behaviours)
