"""A leak: some parameters shown in full, the others not at all. Copy this file and change it."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.types import Leaked


@dataclass(frozen=True)
class Scattered:
    share: float
    # Whose bits are shown: the human's own, an unrelated human's or a sibling's (the placebos).
    of: Literal["own", "unrelated", "sibling"]

    def reveal(self, theta_human: Tensor, scale: Tensor, generator: torch.Generator) -> Leaked:
        if bool((theta_human.abs() > scale).any()):
            raise InputError("leak", "a parameter outside its range", "every parameter within its range")
        # From the generator alone, never from θ2: the swap must show the same places of the sibling.
        shown = torch.rand(theta_human.shape[-1], generator=generator) < self.share
        # Of a parameter about which nothing is known, the midpoint of its range stands in: 0.
        return Leaked(torch.where(shown, theta_human, 0.0), shown.to(theta_human).expand_as(theta_human))


def build(
    share: Annotated[float, Field(ge=0, le=1, description="share of the parameters that is shown")] = 0.5,
    of: Annotated[Literal["own", "unrelated", "sibling"], Field(description="whose bits")] = "own",
) -> Scattered:
    """Parameters shown in full, at places drawn once."""
    return Scattered(share, of)
