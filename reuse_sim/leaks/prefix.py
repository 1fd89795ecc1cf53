"""The leak of every parameter's most significant bits."""

from __future__ import annotations

import torch
from torch import Tensor

from reuse_sim.leaks.channel import At, Channel, Code, Flip, Of, Width, at_once, leading
from reuse_sim.nets import Mlp


def build(bits: Width = 16, of: Of = "own", at: At = 0.0, flip: Flip = 0.0, code: Code = "fixed") -> Channel:
    """Most significant bits first, the same number of every parameter, all at once."""

    def arrival(net: Mlp, steps: int, generator: torch.Generator) -> Tensor:
        return at_once(leading(bits, torch.ones(net.p, dtype=torch.bool)))

    return Channel(arrival, of, at, flip, code)
