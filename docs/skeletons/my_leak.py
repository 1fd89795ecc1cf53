"""A leak: parameters come to light one by one while the outer model learns. Copy this file and change it."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field

from reuse_sim.nets import Mlp
from reuse_sim.types import BITS, Schedule


@dataclass(frozen=True)
class OneByOne:
    share: float
    # Whose bits: the human's own; an unrelated human's, a sibling's or random ones (the placebos).
    of: Literal["own", "unrelated", "sibling", "random"]

    # A leak is one time per bit of θ2. It never sees θ2: the swap must show the same places of the sibling.
    def schedule(self, net: Mlp, steps: int, generator: torch.Generator) -> Schedule:
        # Everything random from the generator. Steps after the last are never reached; torch.inf is never, too.
        when = steps / self.share * torch.rand(net.p, 1, generator=generator)
        # All 16 bits of a parameter at once, and none of them told wrongly.
        return Schedule(when.expand(net.p, BITS), torch.zeros(net.p, BITS, dtype=torch.bool), code="fixed")


def build(
    share: Annotated[float, Field(gt=0, le=1, description="share of the parameters known in the end")] = 0.5,
    of: Annotated[Literal["own", "unrelated", "sibling", "random"], Field(description="whose bits")] = "own",
) -> OneByOne:
    """Whole parameters in random order, at an even pace."""
    return OneByOne(share, of)
