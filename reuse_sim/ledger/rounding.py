"""Which way to round: the cheapest point of a lattice within a tolerance, by moves that are all tried at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ROUNDS = 400
"""Most rounds of moves of either kind."""
TRIED = 512
"""Points asked about at once."""
PAIRS = 6
"""Shortening moves too far that are tried together with every move that may mend them."""


@dataclass(frozen=True)
class Lattice:
    """Points θ = k · cell with k `(p,)` whole, at most `reach` `(p,)` from 0, and `bits(k)`, both `(…, p)`."""

    cell: Tensor
    bits: Callable[[np.ndarray], np.ndarray]
    reach: np.ndarray


def search(
    lattice: Lattice, k: np.ndarray, distortion: Callable[[Tensor], Tensor], tolerance: float
) -> np.ndarray | None:
    """A cheap point within the tolerance, from k `(p,)` on; None where none was found.

    First moves by one that lessen the distortion, until it is within the tolerance; then moves towards zero that
    leave it there, those first that save most for what they distort; where there are none left, such a move
    together with another that mends it. Each round tries all moves from where it is, and takes as many of the best
    together as do.
    """

    def cost(points: np.ndarray) -> np.ndarray:
        parts = [distortion(torch.from_numpy(part) * lattice.cell)
                 for part in np.array_split(points, -(-len(points) // TRIED))]
        return torch.cat(parts).nan_to_num(torch.inf, torch.inf).numpy()

    k = np.clip(k, -lattice.reach, lattice.reach)
    here = float(cost(k[None])[0])
    for _ in range(ROUNDS):
        if here <= tolerance:
            break
        moves = _steps(k, lattice.reach)
        each = cost(k + moves)
        order = np.argsort(each)
        together = _together(k, moves[order[each[order] < here]])
        if not len(together):
            return None
        costs = cost(together)
        # No further than needed: the first that is within the tolerance, or the best.
        best = int(np.argmax(costs <= tolerance)) if (costs <= tolerance).any() else int(np.argmin(costs))
        k, here = together[best], float(costs[best])
    if here > tolerance:
        return None
    for _ in range(ROUNDS):
        after = _shorter(lattice, k, here, cost, tolerance)
        if after is None:
            return k
        k, here = after
    return k


def _shorter(
    lattice: Lattice, k: np.ndarray, here: float, cost: Callable[[np.ndarray], np.ndarray], tolerance: float
) -> tuple[np.ndarray, float] | None:
    """A shorter point within the tolerance and its distortion; None where none was found."""
    bits = lattice.bits(k)
    down = _steps(k, lattice.reach)
    down = down[np.abs(k + down).sum(1) < np.abs(k).sum()]
    moves = np.concatenate([down, -np.diag(k)[(k != 0) & (np.abs(k) > 1)]])
    saved = bits.sum() - lattice.bits(k + moves).sum(1)
    moves, saved = moves[saved > 1e-9], saved[saved > 1e-9]
    if not len(moves):
        return None
    each = cost(k + moves)
    dear = np.maximum(each - here, 1e-12 * tolerance) / saved
    fits = each <= tolerance
    if fits.any():
        order = np.argsort(np.where(fits, dear, np.inf))[: int(fits.sum())]
        together = _together(k, moves[order])
        costs = cost(together)
        good = np.flatnonzero(costs <= tolerance)
        best = good[np.argmin(lattice.bits(together[good]).sum(1))]
        return together[best], float(costs[best])
    for i in np.argsort(dear)[:PAIRS]:
        ways = k + moves[i] + _steps(k, lattice.reach)
        gains = bits.sum() - lattice.bits(ways).sum(1)
        ways, gains = ways[gains > 1e-9], gains[gains > 1e-9]
        if len(ways):
            costs = cost(ways)
            if (costs <= tolerance).any():
                best = int(np.argmax(np.where(costs <= tolerance, gains, -np.inf)))
                return ways[best], float(costs[best])
    return None


def _steps(k: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """All moves of one coordinate by one that stay within reach: `(m, p)`."""
    moves = np.concatenate([np.eye(len(k)), -np.eye(len(k))])
    return moves[(np.abs(k + moves) <= reach).all(1)]


def _together(k: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """k after the first 1, 2, 3, 4, 6, 8, 12, … moves `(m, p)`; of two of one coordinate only the first is made."""
    _, first = np.unique(np.abs(moves).argmax(1), return_index=True)
    moves = moves[np.sort(first)]
    counts = sorted({int(2 ** (j / 2)) for j in range(40)} & set(range(1, len(moves) + 1)) | {len(moves)} - {0})
    return k + np.cumsum(moves, 0)[np.array(counts, dtype=int) - 1]
