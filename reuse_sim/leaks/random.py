"""The leak of bits, or of whole parameters, here and there."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.leaks.channel import At, Channel, Code, Flip, Of, at_once
from reuse_sim.nets import Mlp
from reuse_sim.types import BITS


def build(
    share: Annotated[float, Field(ge=0, le=1, description="share of all bits, or of all parameters")] = 0.5,
    by: Annotated[Literal["bit", "parameter"], Field(description="what is drawn: bits, or whole parameters")] = "bit",
    of: Of = "own",
    at: At = 0.0,
    flip: Flip = 0.0,
    code: Code = "fixed",
) -> Channel:
    """A share of the bits at random places, all at once; a larger share has all places of a smaller one."""

    def arrival(net: Mlp, steps: int, generator: torch.Generator) -> Tensor:
        n = net.p * BITS if by == "bit" else net.p
        shown = torch.randperm(n, generator=generator) < round(share * n)
        return at_once(shown.reshape(net.p, -1).expand(net.p, BITS))

    return Channel(arrival, of, at, flip, code)
