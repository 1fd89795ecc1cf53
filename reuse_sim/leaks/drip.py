"""The leak that goes on through training: with every step some bits, wherever they fall.

Each step tells `bits` of all n, known ones among them again, so after t steps a share 1 − (1 − bits/n)^t is known
(the occupancy of n places). Every bit's step is drawn from that law, geometric, apart from the others.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.leaks.channel import At, Channel, Code, Flip, Of
from reuse_sim.nets import Mlp
from reuse_sim.types import BITS


def build(
    bits: Annotated[float, Field(ge=0, le=1e9, description="bits told with every training step, on average")] = 1.0,
    of: Of = "own",
    at: At = 0.0,
    flip: Flip = 0.0,
    code: Code = "fixed",
) -> Channel:
    """Random bits of all, some with every training step."""

    def arrival(net: Mlp, steps: int, generator: torch.Generator) -> Tensor:
        n = net.p * BITS
        if bits > n:
            raise InputError("leak.bits", bits, f"at most {n}, all bits of the human's {net.p} parameters")
        # Pr[later than t] = (1 − bits/n)^t = exp(−rate · t): an exponential time, rounded up.
        rate = torch.log1p(torch.tensor(-bits / n, dtype=torch.float64)).abs()
        time = torch.empty(net.p, BITS, dtype=torch.float64).exponential_(generator=generator)
        return (time / rate).ceil().clamp_min(1)

    return Channel(arrival, of, at, flip, code)
