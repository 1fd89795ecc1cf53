"""What all leaks here have in common: when they begin, whose bits they tell, of which code, and how truly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.nets import Mlp
from reuse_sim.types import BITS, Schedule

Of = Annotated[
    Literal["own", "unrelated", "sibling", "random"],
    Field(description="whose: the human's own, the same human's of another world, a sibling's, or random bits"),
]
At = Annotated[
    float,
    Field(ge=0, le=1, description="when it begins, as share of the outer's training: 0 before it, 1 at its end"),
]
Flip = Annotated[float, Field(ge=0, le=1, description="probability that a bit is told wrongly")]
Code = Annotated[Literal["fixed", "half"], Field(description="bits of what: fixed point, or IEEE half precision")]
Width = Annotated[int, Field(ge=0, le=BITS, description="leading bits told of a parameter's 16")]

Arrival = Callable[[Mlp, int, torch.Generator], Tensor]
"""Per bit `(p, 16)` the training step, of so many and counted from the leak's beginning, before which it is known."""


@dataclass(frozen=True)
class Channel:
    """Bits that come as `arrival` says, from `at` on, each wrong with probability `flip`."""

    arrival: Arrival
    of: Literal["own", "unrelated", "sibling", "random"]
    at: float
    flip: float
    code: Literal["fixed", "half"]

    def schedule(self, net: Mlp, steps: int, generator: torch.Generator) -> Schedule:
        """When each bit becomes known over so many steps. Raises InputError where it would tell more than there is."""
        when = round(self.at * steps) + self.arrival(net, steps, generator)
        flipped = torch.rand(net.p, BITS, generator=generator) < self.flip
        return Schedule(when, flipped, self.code)


def at_once(shown: Tensor) -> Tensor:
    """Arrivals of a mask of bits: at the beginning where it is true, never elsewhere."""
    return torch.where(shown, 0.0, torch.inf).double()


def leading(bits: int, parameters: Tensor) -> Tensor:
    """A mask `(p, 16)` of the first bits of the parameters that are true in `(p,)`."""
    return parameters.unsqueeze(-1) & (torch.arange(BITS) < bits)
