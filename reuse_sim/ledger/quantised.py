"""The shortest code of a network at a tolerance of its behaviour: rounded parameters, written and read back.

A message begins with the step and the spread of the parameters, both in prior sds, and holds whole numbers k with
θ = k · step · prior sd. The encoder searches among roundings: no reader cares which network within the tolerance it
gets. With weighting `sensitive` steps are as reverse water-filling has them, step² ∝ 1/h with h the curvature of the
distortion, to whole octaves that are written too; what varies less than the water level falls to zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, get_args

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.ledger import message
from reuse_sim.ledger.message import Code
from reuse_sim.ledger.rounding import Lattice, search

Distortion = Callable[[Tensor], Tensor]
Weighting = Literal["best", "uniform", "sensitive"]

COARSEST, STEPS = 3.0, 61
"""The steps: 2³ prior sds, and each next one smaller by a quarter of an octave, down to 2⁻¹²."""
NARROWEST, SPREADS = -2.0, 13
"""The spreads: 2⁻² prior sds, and each next one larger by √2, up to 2⁴."""
COARSE_FIRST = [2.0 ** (-place / 8) for place in range(STEPS)]
NEAR_PRIOR = [2.0 ** -abs(NARROWEST + place / 2) for place in range(SPREADS)]
"""How likely a message has each step, and each spread."""
OCTAVES = 5
"""How much coarser than the step a parameter's own may be."""
GROUPS = 8
"""Most runs of parameters of one prior sd that have a spread each."""
REACH = 16
"""Spreads that a parameter can be away from 0."""


def shortest(
    theta: Tensor, prior_sd: Tensor, distortion: Distortion, tolerance: float, weighting: Weighting = "best"
) -> Code:
    """The shortest code found for a network within `tolerance` of θ.

    Args:
        theta: `(p,)`, what is to be told; only where the search begins, for any network within the tolerance will do.
        prior_sd: `(p,)`, known to the reader: what is told is told in these.
        distortion: θ `(n, p)` -> `(n,)`, in float64; may be infinite, and need not be smooth.
        tolerance: the largest distortion that will do.
        weighting: one step for all, a step each, or the shorter of both.

    Raises InputError where a θ or sd is not finite or the tolerance not above 0, or below what the finest step leaves.
    """
    theta, prior_sd = _checked(theta, prior_sd)
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise InputError("tolerance", tolerance, "a finite number above 0, the largest distortion that will do")
    if weighting not in get_args(Weighting):
        raise InputError("weighting", repr(weighting), " or ".join(get_args(Weighting)))
    kinds: list[Literal["uniform", "sensitive"]] = ["uniform", "sensitive"] if weighting == "best" else [weighting]
    found = [code for kind in kinds if (code := _shortest(theta, prior_sd, distortion, tolerance, kind)) is not None]
    if not found:
        finest = torch.round(theta / prior_sd / _step(STEPS - 1)) * _step(STEPS - 1) * prior_sd
        left = float(distortion(finest[None])[0])
        raise InputError("tolerance", tolerance, f"more than {left:.3g}, the distortion that the finest step of "
                         f"{_step(STEPS - 1):.2g} prior sds leaves", "take a larger tolerance")
    return min(found, key=lambda code: code.bits)


def decode(words: np.ndarray, prior_sd: Tensor) -> Tensor:
    """θ `(p,)` of a message in float64, given the prior sds `(p,)` it was written with."""
    prior_sd = prior_sd.double()
    blank = np.zeros(len(prior_sd), np.int64)
    empty = _Told(0, blank, [0] * len(_groups(prior_sd)), blank)
    return _theta(message.read(lambda pen: _model(pen, prior_sd, empty), words), prior_sd)


# The message -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Told:
    """What a message holds: the step's place in the list, octaves `(p,)`, a spread's place per group, and k `(p,)`."""

    step: int
    octaves: np.ndarray
    spreads: list[int]
    k: np.ndarray


def _model(pen: message.Pen, prior_sd: Tensor, told: _Told) -> _Told:
    """The order of a message. Octaves are learned as they come, in each group apart: a half seen of each before."""
    groups = _groups(prior_sd)
    step = pen.one_of(told.step, COARSE_FIRST)
    weighted = pen.one_of(int(told.octaves.any()), [3, 1])
    octaves = np.zeros(len(prior_sd), np.int64)
    if weighted:
        for group in groups:
            seen = np.full(OCTAVES, 0.5)
            for i in range(group.start, group.stop):
                octaves[i] = pen.one_of(int(told.octaves[i]), seen.tolist())
                seen[octaves[i]] += 1
    spreads = [pen.one_of(s, NEAR_PRIOR) for s in told.spreads]
    sd, k = _spread(groups, spreads, len(prior_sd)), np.zeros(len(prior_sd), np.int64)
    for size in np.unique(octaves):
        those, cell = octaves == size, _step(step) * 2.0**size
        reach = math.ceil(REACH * float(sd.max()) / cell)
        k[those] = pen.normal(told.k[those], sd[those] / cell, reach)
    return _Told(step, octaves, spreads, k)


def _theta(told: _Told, prior_sd: Tensor) -> Tensor:
    return torch.from_numpy(told.k * _step(told.step) * 2.0**told.octaves) * prior_sd


def _step(place: int) -> float:
    return 2.0 ** (COARSEST - place / 4)


def _groups(prior_sd: Tensor) -> list[slice]:
    """Runs of parameters of one prior sd, or all together where there are too many."""
    runs = [len(list(run)) for _, run in groupby(prior_sd.tolist())]
    if len(runs) > GROUPS:
        runs = [len(prior_sd)]
    ends = np.cumsum(runs)
    return [slice(int(end - n), int(end)) for n, end in zip(runs, ends, strict=True)]


def _spread(groups: list[slice], spreads: list[int], p: int) -> np.ndarray:
    sd = np.empty(p)
    for group, place in zip(groups, spreads, strict=True):
        sd[group] = 2.0 ** (NARROWEST + place / 2)
    return sd


# The search ------------------------------------------------------------------------------------------


def _shortest(
    theta: Tensor, prior_sd: Tensor, distortion: Distortion, tolerance: float, kind: Literal["uniform", "sensitive"]
) -> Code | None:
    """The shortest code over the steps: every other one, coarse to fine, until finer ones only lengthen it twice.

    Then those beside the best.
    """
    octaves = _octaves(theta, prior_sd, distortion) if kind == "sensitive" else np.zeros(len(theta), np.int64)
    found: dict[int, Code] = {}

    def attempt(place: int) -> None:
        told = _round(theta, prior_sd, distortion, tolerance, place, octaves)
        if told is None:
            return
        written = message.write(lambda pen: _model(pen, prior_sd, told))
        decoded = decode(written.words, prior_sd)
        left = float(distortion(decoded[None])[0])
        if left <= tolerance:
            found[place] = Code(written.bits, written.words, decoded, left)

    for place in range(0, STEPS, 2):
        attempt(place)
        if found and place >= _best(found) + 4:
            break
    if not found:
        return None
    middle = _best(found)
    for place in (middle - 1, middle + 1):
        if 0 <= place < STEPS:
            attempt(place)
    return found[_best(found)]


def _best(found: dict[int, Code]) -> int:
    return min(found, key=lambda place: found[place].bits)


def _round(
    theta: Tensor, prior_sd: Tensor, distortion: Distortion, tolerance: float, place: int, octaves: np.ndarray
) -> _Told | None:
    """The cheapest roundings found at one step; None where none is within the tolerance."""
    cell = _step(place) * 2.0**octaves
    groups, z = _groups(prior_sd), (theta / prior_sd).numpy()
    k, spreads = np.round(z / cell), [0] * len(groups)
    for _ in range(2):  # the spread from what was rounded, the roundings by what the spread makes them cost
        spreads = [_fitted(k[g] * cell[g], cell[g]) for g in groups]
        sd = _spread(groups, spreads, len(z))
        reach = np.ceil(REACH * float(sd.max()) / cell)
        lattice = Lattice(torch.from_numpy(cell) * prior_sd, lambda k, sd=sd: _bits(k, sd / cell), reach)
        found = search(lattice, k, distortion, tolerance)
        if found is None:
            return None
        k = found
    return _Told(place, octaves, spreads, k.astype(np.int64))


def _bits(k: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Information `(…, p)` of k `(…, p)`, normals of sd `(p,)` rounded to the nearest."""
    far = -np.abs(k)
    mass = ndtr((far + 0.5) / sd) - ndtr((far - 0.5) / sd)
    return -np.log2(np.maximum(mass, 2.0**-24))


def _fitted(z: np.ndarray, cell: np.ndarray) -> int:
    """The spread's place under which rounded values z `(n,)` cost least and within whose reach they are."""
    sds = [2.0 ** (NARROWEST + j / 2) for j in range(SPREADS)]
    costs = [_bits(z / cell, sd / cell).sum() + 1e9 * max(0.0, np.abs(z).max() - REACH * sd) for sd in sds]
    return int(np.argmin(costs))


def _octaves(theta: Tensor, prior_sd: Tensor, distortion: Distortion) -> np.ndarray:
    """How many octaves coarser each parameter's step may be than that of the one most curved, `(p,)`.

    The curvature is a second difference over the largest of a few widths that the distortion stays small at.
    """
    p, here = len(theta), distortion(theta[None])[0]
    curved = np.zeros(p)
    for width in (1.0, 0.25, 0.0625):
        moves = torch.diag(width * prior_sd)
        both = distortion(torch.cat([theta + moves, theta - moves])).reshape(2, p)
        curved = np.maximum(curved, ((both.sum(0) - 2 * here) / width**2).clamp(min=0).nan_to_num(0, 0, 0).numpy())
    top = max(float(np.quantile(curved, 0.9)), 1e-300)
    return np.clip(np.round(0.5 * np.log2(top / np.maximum(curved, 1e-300))), 0, OCTAVES - 1).astype(np.int64)


def _checked(theta: Tensor, prior_sd: Tensor) -> tuple[Tensor, Tensor]:
    theta, prior_sd = theta.detach().double(), prior_sd.double()
    if theta.ndim != 1 or not bool(theta.isfinite().all()):
        raise InputError("theta", f"shape {tuple(theta.shape)}", "(p,), finite", "one network, not a stack")
    if prior_sd.shape != theta.shape or not bool(((prior_sd > 0) & prior_sd.isfinite()).all()):
        raise InputError("prior_sd", f"shape {tuple(prior_sd.shape)}", f"{tuple(theta.shape)}, above 0 and finite")
    return theta, prior_sd
