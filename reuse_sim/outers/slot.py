"""One human, one slot: the leaked bits run as a simulated human whose answer the outer may use.

The slot holds θ̂2, the leaked bits with unknown ones at their expectation; the outer is fed H_θ̂2(x), never the true
human's answer. Beside it stands a trunk of its own (ReLU units that see the question and the simulated answer) and a
linear skip. Two heads read both: what is right, and what the human answers. In the choice arm a rival's answer comes
in beside the human's, so that using H is a choice; in the other arms that input is zero.

A slot that `learns` fills in what is not leaked: θ̂2 = value + slack · tanh(φ), each parameter within what its known
bits allow, with φ learned from the human's behaviour alone, which it predicts by H_θ̂2 itself. With all bits leaked that
is the slot above; with none, a human model learned by gradient descent. What is right is learned on top of it.

With `reads: units` the simulated human's last hidden units (its outputs, where it has none) stand beside its answer, so
that parts of it may be used. Swaps then put in the copy of another human whose units match this one's best.

With `behaviours: k` the first k of the simulated human's other outputs stand beside its answer, and are predicted with
it: by k more heads, or where the slot learns by those outputs themselves, so that φ is learned from them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.outers import blocks, outputs
from reuse_sim.types import Access, World

SPREAD = 0.3
"""Standard deviation of φ before training, in units of what is not known."""


@dataclass(frozen=True)
class Slot:
    width: int
    learns: bool = False
    behaviours: int = 0
    reads: Literal["answer", "units"] = "answer"

    def _layout(self, net: Mlp) -> blocks.Layout:
        # The question, the simulated human's answer, behaviours and units, the rival's answer, and 1.
        inputs = net.sizes[0] + 3 + self.behaviours + (_place(net)[1] if self.reads == "units" else 0)
        layout = dict(blocks.trunk(self.width, inputs, self.behaviours))
        return {**layout, "free": ((net.p,), SPREAD)} if self.learns else layout

    def init(self, net: Mlp, generators: Sequence[torch.Generator]) -> Tensor:
        return blocks.init(self._layout(net), generators)

    def answer(
        self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access, pressure: Tensor | float = 1.0
    ) -> tuple[Tensor, ...]:
        v, simulated, inputs = self._read(world, net, theta, x, access)
        answer, human = blocks.trunk_heads(v, blocks.trunk_units(v, inputs), inputs, pressure)
        if self.learns:
            return blocks.squash(world, answer), *outputs.apart(blocks.scale_gradient(simulated, pressure))
        said, *does = outputs.apart(human)
        return blocks.squash(world, answer), blocks.squash(world, said), *does

    def hidden(self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access) -> Tensor:
        """The trunk's units and its inputs but 1, `(A, H, n, units)`."""
        v, _, inputs = self._read(world, net, theta, x, access)
        return blocks.hidden(blocks.trunk_units(v, inputs), inputs[..., :-1, :])

    def own(self, net: Mlp, theta: Tensor) -> Tensor:
        """The weights of the trunk, `(A, width · inputs)`."""
        return blocks.views(self._layout(net), theta)["trunk"].flatten(1)

    def _read(
        self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access
    ) -> tuple[blocks.Views, Tensor, Tensor]:
        """Named tensors, the simulated human's outputs `(A, H, 1 + behaviours, n)`, and what the trunk sees."""
        v, value = blocks.views(self._layout(net), theta), access.leaked.value
        if self.learns:
            if value.shape[1] > 1:
                got = f"a slot that learns, for {value.shape[1]} humans"
                raise InputError("outer.learns", got, "one human", "Take population.humans: 1 and held_out: 0.")
            value = value + access.leaked.slack * torch.tanh(v["free"]).unsqueeze(1)
        simulated = outputs.of_human(world, net, value, x, self.behaviours)
        # What is right must not bend the model of the human: φ follows behaviour alone.
        seen = simulated.detach()
        one = torch.ones_like(seen[..., :1, :])
        rival = torch.zeros_like(one) if access.rival is None else access.rival.unsqueeze(-2)
        if self.reads == "units":
            units = net.layers(value.detach(), x)[_place(net)[0]].transpose(-1, -2)
            seen = torch.cat([seen, units], dim=-2)
        return v, simulated, blocks.asked(x, seen, rival, one)


def _place(net: Mlp) -> tuple[int, int]:
    """Which layer's outputs count as the human's units, and how many there are."""
    layer = max(0, len(net.sizes) - 3)
    return layer, net.sizes[layer + 1]


def build(
    width: Annotated[int, Field(gt=0, le=4096, description="ReLU units of its own trunk")] = 48,
    learns: Annotated[
        bool, Field(description="whether what is not leaked is learned from the human's behaviour")
    ] = False,
    behaviours: Annotated[
        int, Field(ge=0, le=64, description="how many of the human's behaviours it predicts beside answers")
    ] = 0,
    reads: Annotated[
        Literal["answer", "units"], Field(description="of the simulated human: its answer alone, or its units as well")
    ] = "answer",
) -> Slot:
    """An outer model with a place for one human's bits."""
    return Slot(width, learns, behaviours, reads)
