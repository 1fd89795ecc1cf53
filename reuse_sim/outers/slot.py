"""One human, one slot: the leaked bits run as a simulated human whose answer the outer may use.

The slot holds θ̂2, the leaked bits with unknown ones at their cell's midpoint; the outer is fed
H_θ̂2(x), never the true human's answer. Beside it stands a trunk of its own (ReLU units that see the
question and the simulated answer) and a linear skip. Two heads read both: what is right, and what the
human answers. In the choice arm a rival's answer comes in beside the human's, so that using H is a
choice; in the other arms that input is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.nets import Mlp
from reuse_sim.outers import blocks
from reuse_sim.types import Access, World


@dataclass(frozen=True)
class Slot:
    width: int
    steps: int
    rate: float
    batch: int
    off_batch: int
    behaviour_weight: float
    off_labels: Literal["none", "teacher"]
    humans_per_step: int = 1

    def _layout(self, net: Mlp) -> blocks.Layout:
        inputs = net.sizes[0] + 3  # the question, the simulated human's answer, the rival's, and 1
        return blocks.trunk(self.width, inputs)

    def init(self, net: Mlp, generators: Sequence[torch.Generator]) -> Tensor:
        return blocks.init(self._layout(net), generators)

    def answer(
        self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access, pressure: Tensor | float = 1.0
    ) -> tuple[Tensor, Tensor]:
        v, inputs = blocks.views(self._layout(net), theta), _inputs(world, net, x, access)
        answer, human = blocks.trunk_heads(v, blocks.trunk_units(v, inputs), inputs, pressure)
        return blocks.squash(world, answer), blocks.squash(world, human)

    def hidden(self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access) -> Tensor:
        """The trunk's units and its inputs, `(A, H, n, width + d + 2)`."""
        v, inputs = blocks.views(self._layout(net), theta), _inputs(world, net, x, access)
        return blocks.hidden(blocks.trunk_units(v, inputs), inputs[..., :-1, :])


def _inputs(world: World, net: Mlp, x: Tensor, access: Access) -> Tensor:
    simulated = world.human_answer(net, access.leaked.value, x).unsqueeze(-2)
    rival = torch.zeros_like(simulated) if access.rival is None else access.rival.unsqueeze(-2)
    return blocks.asked(x, simulated, rival, torch.ones_like(simulated))


def build(
    width: Annotated[int, Field(gt=0, le=4096, description="ReLU units of its own trunk")] = 48,
    steps: Annotated[int, Field(gt=0, le=1_000_000, description="steps of Adam, cosine rate")] = 1500,
    rate: Annotated[float, Field(gt=0, le=10, description="first learning rate")] = 0.005,
    batch: Annotated[int, Field(gt=0, le=65_536, description="on-distribution questions per step")] = 64,
    off_batch: Annotated[int, Field(gt=0, le=65_536, description="off-distribution questions, likewise")] = 64,
    behaviour_weight: Annotated[
        float, Field(ge=0, le=1e6, description="weight of predicting the human in the shared trunk")
    ] = 1.0,
    off_labels: Annotated[
        Literal["none", "teacher"], Field(description="off-distribution truth in training: none, or the teacher's")
    ] = "none",
) -> Slot:
    """An outer model with a place for one human's bits."""
    return Slot(width, steps, float(rate), batch, off_batch, float(behaviour_weight), off_labels)
