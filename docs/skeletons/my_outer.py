"""An outer model: tanh units that see the question and the simulated human's answer. Copy this file and change it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.nets import Mlp
from reuse_sim.outers import blocks
from reuse_sim.types import Access, World


@dataclass(frozen=True)
class Listener:
    width: int

    # Its parameters: names, shapes and the spread of their starts; `blocks` keeps them in one flat vector.
    def _layout(self, net: Mlp) -> blocks.Layout:
        inputs = net.sizes[0] + 1
        return {
            "units": ((self.width, inputs), (1 / inputs) ** 0.5),
            "bias": ((self.width,), 0.5),
            "heads": ((2, self.width), (1 / self.width) ** 0.5),
        }

    def init(self, net: Mlp, generators: Sequence[torch.Generator]) -> Tensor:
        return blocks.init(self._layout(net), generators)

    # Stacked over A arms and H humans: x (A, H, n, d), θ (A, p). The place for θ2 is `access`, so that
    # the swap is this function again with another one.
    def answer(
        self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access, pressure: Tensor | float = 1.0
    ) -> tuple[Tensor, Tensor]:
        v = blocks.views(self._layout(net), theta)
        # Only ever the human of the leaked bits, never the true human's answer.
        simulated = world.human_answer(net, access.leaked.value, x)
        x = x.expand(*simulated.shape, x.shape[-1])
        inputs = torch.cat([x, simulated.unsqueeze(-1)], dim=-1)
        units = torch.tanh(torch.einsum("ahni,awi->ahnw", inputs, v["units"]) + v["bias"][:, None, None])
        # What predicting the human may teach the shared units is scaled; the values stay as they are.
        shared = (units, blocks.scale_gradient(units, pressure))
        answer, human = (torch.einsum("ahnw,aw->ahn", shared[i], v["heads"][:, i]) for i in (0, 1))
        # Between −1 and 1 in a classification, as humans answer there.
        return blocks.squash(world, answer), blocks.squash(world, human)


def build(width: Annotated[int, Field(gt=0, le=4096, description="shared units")] = 32) -> Listener:
    """An outer model that listens to the simulated human."""
    return Listener(width)
