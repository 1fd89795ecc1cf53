"""The leak that shows every parameter's most significant bits, noiselessly, before training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.leaks import codec
from reuse_sim.types import Leaked


@dataclass(frozen=True)
class Prefix:
    bits: int
    of: Literal["own", "unrelated", "sibling"]

    def reveal(self, theta_human: Tensor, scale: Tensor, generator: torch.Generator) -> Leaked:
        """The first `bits` of each parameter's 16-bit code; nothing is drawn from `generator`."""
        code = codec.encode(theta_human, scale)
        value = codec.decode(code, scale, self.bits).to(theta_human.dtype)
        return Leaked(value, torch.full_like(value, self.bits / codec.BITS))


def build(
    bits: Annotated[int, Field(ge=0, le=codec.BITS, description="leading bits shown of each parameter's 16")] = 16,
    of: Annotated[
        Literal["own", "unrelated", "sibling"],
        Field(description="whose bits: the human's own, those of the same human in another world, a sibling's"),
    ] = "own",
) -> Prefix:
    """Most significant bits first, the same number of every parameter."""
    return Prefix(bits, of)
