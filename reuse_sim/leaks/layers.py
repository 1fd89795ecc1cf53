"""The leak of some layers, from the questions on or from the answers back."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.leaks.channel import At, Channel, Code, Flip, Of, Width, at_once, leading
from reuse_sim.nets import Mlp


def build(
    layers: Annotated[int, Field(ge=0, le=1000, description="how many layers")] = 1,
    first: Annotated[Literal["input", "output"], Field(description="the layer told first")] = "input",
    every: Annotated[float, Field(ge=0, le=1, description="share of the outer's training between two layers")] = 0.0,
    bits: Width = 16,
    of: Of = "own",
    at: At = 0.0,
    flip: Flip = 0.0,
    code: Code = "fixed",
) -> Channel:
    """Weights and biases layer by layer, at once or one layer after the other."""

    def arrival(net: Mlp, steps: int, generator: torch.Generator) -> Tensor:
        depth = len(net.sizes) - 1
        if layers > depth:
            raise InputError("leak.layers", layers, f"at most {depth}, the human's layers")
        rank = torch.empty(net.p, dtype=torch.long)
        for f in net.fields:
            layer = int(f.name.removeprefix("weight").removeprefix("bias"))
            rank[f.slice] = layer if first == "input" else depth - 1 - layer
        return at_once(leading(bits, rank < layers)) + round(every * steps) * rank.unsqueeze(-1)

    return Channel(arrival, of, at, flip, code)
