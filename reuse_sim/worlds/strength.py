"""A world whose shift is stronger or milder than its own: what a scenario's `strength` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from reuse_sim.types import World


def at_strength(world: World, strength: float) -> World:
    """The same world with its off-distribution questions `strength` times as far off; all else is the world's own."""
    return world if strength == 1 else cast(World, _Stronger(world, strength))


@dataclass(frozen=True)
class _Stronger:
    world: World
    strength: float

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "world":  # not yet there, as while being copied
            raise AttributeError(name)
        return getattr(self.world, name)

    @property
    def labelled(self) -> Callable[..., tuple[Tensor, Tensor]]:
        """The world's own, where it has one, at this strength."""
        own = cast(Any, self.world).labelled
        return lambda n, generators, strength: own(
            n, generators, None if strength is None else self.strength * strength
        )

    def off_distribution(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        return self.world.off_distribution(theta_teacher, n, generators, self.strength * strength)
