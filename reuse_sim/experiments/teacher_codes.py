"""How a teacher is told in a world's own terms: what its family fixes costs nothing, what it leaves open is spread.

A chart takes θ1 to free coordinates and back. For sums of sines these are the waves, each turned so that its size and
the first part of its frequency are positive; mean and sd follow from them. Elsewhere they are θ1 as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import torch
from torch import Tensor

from reuse_sim.ledger.shortest import shortest
from reuse_sim.rng import stream
from reuse_sim.types import World
from reuse_sim.worlds.radius import BALL, FREQUENCY, Radius, moments

FAMILY = 256
"""Teachers that say how the free coordinates of one are spread, for its code."""
LENGTH = 1.3
"""Of the frequencies of coarse teachers, the longest of the family."""
DIRECTIONS = torch.tensor([d for d in product((1.0, 0.0, -1.0), repeat=4) if next((v for v in d if v), 0.0) > 0])
"""`(40, 4)`, those with parts −1, 0, 1, one of each two opposite ones."""
PHASES = 4
COEFFICIENTS = [2 / (math.factorial(m) * math.factorial(m + 2)) for m in range(25)]


class Chart(Protocol):
    """Free coordinates of a family of teachers."""

    def free(self, theta: Tensor) -> Tensor:
        """θ1 `(T, p1)` -> `(T, q)`, in float64."""
        ...

    def theta(self, free: Tensor) -> Tensor:
        """And back, differentiably."""
        ...

    def units(self, free: Tensor) -> list[tuple[float, ...]]:
        """Parts of one `(q,)` that may stand in any order."""
        ...


def chart(world: World) -> Chart:
    """The chart of the world's teachers."""
    return Waves(world.sines) if isinstance(world, Radius) else Whole()


@dataclass(frozen=True)
class Whole:
    """θ1 as it is."""

    def free(self, theta: Tensor) -> Tensor:
        return theta.double()

    def theta(self, free: Tensor) -> Tensor:
        return free

    def units(self, free: Tensor) -> list[tuple[float, ...]]:
        return [tuple(free.tolist())]


@dataclass(frozen=True)
class Waves:
    """Waves one after the other, `(w, b, a)` each: a sin(1.3 w·x + b), a > 0, w's first part > 0, b in [0, 2π)."""

    sines: int

    def free(self, theta: Tensor) -> Tensor:
        theta = theta.double()
        w, b, a, _ = theta.split([4 * self.sines, self.sines, self.sines, 2], dim=-1)
        w = w.unflatten(-1, (self.sines, 4))
        b = torch.where(a < 0, b + math.pi, b)
        back = w[..., 0] < 0  # sin(−u + π − b) = sin(u + b)
        w, b = torch.where(back[..., None], -w, w), torch.where(back, math.pi - b, b)
        return torch.cat([w, (b % (2 * math.pi))[..., None], a.abs()[..., None]], -1).flatten(-2)

    def theta(self, free: Tensor) -> Tensor:
        waves = free.unflatten(-1, (self.sines, 6))
        w, b, a = waves[..., :4], waves[..., 4], waves[..., 5]
        mean, sd = standard(w, b, a)
        return torch.cat([w.flatten(-2), b, a, mean[..., None], sd[..., None]], -1)

    def units(self, free: Tensor) -> list[tuple[float, ...]]:
        return [tuple(wave) for wave in free.unflatten(-1, (self.sines, 6)).tolist()]


def standard(w: Tensor, b: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sd over the ball of sums of waves, `worlds.radius.moments` for stacks: w `(…, K, 4)` -> `(…,)` each."""
    k = FREQUENCY * w
    pairs = torch.stack([k[..., :, None, :] - k[..., None, :, :], k[..., :, None, :] + k[..., None, :, :]])
    angles = torch.stack([b[..., :, None] - b[..., None, :], b[..., :, None] + b[..., None, :]])
    minus, plus = torch.cos(angles) * mean_cosine(pairs)
    mean = (a * torch.sin(b) * mean_cosine(k)).sum(-1)
    square = torch.einsum("...i,...ij,...j->...", a, minus - plus, a) / 2 - mean**2
    return mean, square.clamp(min=1e-6).sqrt()


def mean_cosine(k: Tensor) -> Tensor:
    """8 J₂(z)/z² with z = 2|k|, k `(…, 4)`: Σ_m (−z²/4)^m 2/(m! (m + 2)!), to 1e-9 for z up to 10."""
    q = -k.square().sum(-1) * BALL**2 / 4
    total = torch.full_like(q, COEFFICIENTS[-1])
    for c in COEFFICIENTS[-2::-1]:
        total = total * q + c
    return total


# Coarse teachers -------------------------------------------------------------------------------------


def coarse(world: Radius, generator: torch.Generator) -> Tensor:
    """θ1 `(1, p1)` of a teacher of different directions out of 40, one frequency and size, and phases by quarters."""
    chosen = torch.randperm(len(DIRECTIONS), generator=generator)[: world.sines]
    phase = torch.randint(PHASES, (world.sines,), generator=generator)
    w = DIRECTIONS[chosen].double()
    w = LENGTH * w / w.norm(dim=1, keepdim=True)
    b, a = phase.double() * math.pi / 2, torch.ones(world.sines, dtype=torch.float64)
    mean, sd = moments(w, b, a)
    return torch.cat([w.flatten(), b, a, mean[None], sd[None]])[None].float()


def coarse_bits(world: Radius) -> int:
    """Bits of a coarse teacher: which directions, of all sets of so many alike, and a phase each."""
    return (math.comb(len(DIRECTIONS), world.sines) * PHASES**world.sines - 1).bit_length()


def spread(world: World, count: int) -> tuple[Tensor, Tensor]:
    """Mean and sd `(q,)` of the free coordinates over `count` teachers, the same for every world that is drawn.

    Trained networks all approximate one truth, which their mean would tell; for them it is 0, and the sd a root mean
    square.
    """
    draws: Sequence[torch.Generator] = [stream(0, f"family/{i}") for i in range(count)]
    drawn = chart(world)
    free = drawn.free(world.teacher(draws))
    mean = torch.zeros_like(free[0]) if isinstance(drawn, Whole) else free.mean(0)
    return mean, (free - mean).square().mean(0).sqrt().clamp(min=1e-6)


def told(world: World, theta_1: Tensor, x: Tensor, error: float, name: str) -> tuple[Tensor, int]:
    """f `(1, p1)` as decoded from its shortest message within a mean square `error` on x `(n, d)`, and its bits.

    The reader knows the spread of the free coordinates in the family; `name` is of the streams that it shares.
    """
    drawn, (mean, sd) = chart(world), spread(world, FAMILY)
    f = world.answer(theta_1.double(), x[None])

    def distortion(free: Tensor) -> Tensor:
        said = world.answer(drawn.theta(mean + free), x.expand(len(free), *x.shape))
        return (said - f).square().mean(-1).nan_to_num(math.inf, math.inf)

    code = shortest(drawn.free(theta_1)[0] - mean, sd, distortion, error, name)
    return drawn.theta(mean + code.theta)[None].to(theta_1.dtype), code.bits
