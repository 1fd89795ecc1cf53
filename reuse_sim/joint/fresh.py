"""Humans learned afresh as a code for the actual one: train humans of f one after another, and say which of them it is.

Sender and receiver share f, the training process and the names of its random streams, so that fresh human i is the same
network on both sides. A code is then

- an *index*: the first fresh human that does what the human does, within a tolerance. It costs about −log₂ of the
  share of fresh humans in that ball, and whoever reads it trains that one human again; or
- a *correction*: the parameters' difference to a fresh human, under a prior fitted to it, whose spread is paid for.

Where none of N fresh humans is near enough the index says so, in one bit, and the human must be told otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.rng import streams
from reuse_sim.types import Fit, Human, World

EXPONENT_BITS, LEAST_EXPONENT = 4, -12
"""Of the spread of a field of differences: a power of two from 2^−12 to 2³."""


def train(
    world: World, human: Human, theta_teacher: Tensor, seed: int, indices: Sequence[int], who: str = "fresh"
) -> Fit:
    """Fresh humans of one teacher `(1, p1)`, `(N, p2)`: number i from the streams `fresh/i/init` and `…/questions`.

    Each is the same network whoever is trained beside it.
    """
    start, questions = (streams(seed, [f"{who}/{i}/{what}" for i in indices]) for what in ("init", "questions"))
    return human.train(world, human.init(world, start), theta_teacher.expand(len(indices), -1), questions)


# Which of them --------------------------------------------------------------------------------------


def first_within(distance: Tensor, tolerance: float) -> int | None:
    """The index of the first of `distance` `(N,)` that is at most the tolerance; None where there is none."""
    hits = (distance <= tolerance).nonzero()
    return int(hits[0]) if len(hits) else None


def write_index(index: int | None) -> str:
    """The index, from 0, as bits: 1 and Elias's delta code of index + 1 (1975), or 0 for none.

    Prefix-free, and of length log₂ k + 2 log₂ log₂ k + O(1) for the k-th, however many there might be.
    """
    if index is None:
        return "0"
    if index < 0:
        raise InputError("write_index: index", index, "0 or more, or None")
    digits = f"{index + 1:b}"
    length = f"{len(digits):b}"
    return "1" + "0" * (len(length) - 1) + length + digits[1:]


def read_index(bits: str) -> int | None:
    """The inverse of `write_index`. Raises InputError on what it never writes."""
    try:
        if bits == "0":
            return None
        zeros = bits.index("1", 1) - 1
        length = int(bits[1 + zeros : 2 + 2 * zeros], 2)
        digits = bits[2 + 2 * zeros :]
        if bits[0] != "1" or len(digits) != length - 1:
            raise ValueError
        return int("1" + digits, 2) - 1
    except ValueError:
        raise InputError("read_index: bits", bits, "what write_index writes, whole") from None


# What is left to say --------------------------------------------------------------------------------


class Code(Protocol):
    """A code of parameters, really written: its length in bits, and what it decodes to, `(p,)`."""

    @property
    def bits(self) -> float: ...
    @property
    def theta(self) -> Tensor: ...


Shortest = Callable[[Tensor, Tensor, Callable[[Tensor], Tensor], float], Code]
"""`shortest(theta (p,), prior_sd (p,), distortion (n, p) -> (n,), tolerance)`: the shortest code within it."""


@dataclass(frozen=True)
class Correction:
    """A human told by its difference to a fresh one: what it decodes to, `(p,)`, and its bits.

    `bits` are all: which fresh human, one that says whether it will do as it is, and where not, `spread_bits` for the
    prior and the difference itself.
    """

    bits: float
    spread_bits: int
    theta: Tensor


def correct(
    net: Mlp,
    theta_human: Tensor,
    fresh: Tensor,
    index: int,
    align: Callable[[Tensor, Tensor], Tensor],
    shortest: Shortest,
    distortion: Callable[[Tensor], Tensor],
    tolerance: float,
) -> Correction:
    """The human θ2 `(p,)` by its difference to number `index`, `fresh` `(p,)`.

    Args:
        align: copies of θ `(n, p)` nearest to a centre `(p,)`. The human's copy nearest to the fresh one is told: it
            answers alike, so that the order and signs of hidden units cost nothing.
        distortion: of θ `(n, p)`, `(n,)`, against what the human does.
    """
    which = len(write_index(index)) + 1
    if float(distortion(fresh[None])[0]) <= tolerance:
        return Correction(which, 0, fresh)
    difference = align(theta_human[None], fresh)[0] - fresh
    exponents = spread(net, difference)
    code = shortest(difference, prior_sd(net, exponents), lambda d: distortion(fresh + d), tolerance)
    spread_bits = EXPONENT_BITS * len(exponents)
    return Correction(which + spread_bits + code.bits, spread_bits, fresh + code.theta)


def spread(net: Mlp, difference: Tensor) -> list[int]:
    """For each field of `net` the exponent of the power of two nearest to the root mean square of its differences."""
    most = LEAST_EXPONENT + 2**EXPONENT_BITS - 1
    sizes = (float(difference[f.slice].square().mean().sqrt()) for f in net.fields)
    return [min(most, max(LEAST_EXPONENT, round(math.log2(s)) if s > 0 else LEAST_EXPONENT)) for s in sizes]


def prior_sd(net: Mlp, exponents: Sequence[int]) -> Tensor:
    """The sd `(p,)` of differences that `spread` says, field by field."""
    sd = torch.empty(net.p, dtype=torch.float64)
    for field, exponent in zip(net.fields, exponents, strict=True):
        sd[field.slice] = 2.0**exponent
    return sd
