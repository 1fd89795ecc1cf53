"""Relative-entropy coding: a draw of q is sent as the place it has among draws of the prior that both sides make.

Sender and reader make the same candidates from a stream known by name. The sender takes the one with the largest
log q/p plus Gumbel noise, as importance sampling does (minimal random coding: Havasi et al. 2019), with the noise in
descending order over the candidates, which leaves the law of what is sent as it is and makes early places likely, so
that the place is cheap (ordered random coding: Theis & Yosri 2022). The candidates must number 2^KL and more, so that
coordinates are dealt out to blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.ledger import message
from reuse_sim.rng import stream

LN2 = math.log(2)
BLOCK = 13.0
"""Most bits of KL of a block, unless a coordinate alone has more."""
EXTRA = 3.0
"""Candidates of a block: 2^(KL + this)."""
MOST = 18
"""log2 of the most candidates."""
BLOCKS = 256
"""Most blocks."""
ATTEMPTS = 16
"""Streams that are tried until the network is within the tolerance; which one it was is written."""


SHARES = [2.0 ** (-octave / (BLOCK + 2)) for octave in range(MOST + 1)]
"""Of places from 2^octave on: Zipf's law with power 1 + 1/(bits + 2), near the best for so many."""

FEW = [1 / ((n + 1) * (n + 2)) for n in range(BLOCKS)]
"""Of whole numbers that are mostly small."""


@dataclass(frozen=True)
class Sent:
    """A message and what it says: θ `(p,)` as decoded, its distortion, bits that were written, and KL(q ‖ p) in bits.

    `within` says whether the distortion is at most the tolerance; where no stream gave that, the least was taken.
    """

    bits: int
    words: np.ndarray
    theta: Tensor
    distortion: float
    within: bool
    divergence: float


def send(
    mean: Tensor, sd: Tensor, prior_sd: Tensor, distortion: Callable[[Tensor], Tensor], tolerance: float,
    name: str, generator: torch.Generator,
) -> Sent:
    """A draw of q = N(mean, diag sd²) `(p,)` by candidates from N(0, diag prior_sd²), in streams under `name`.

    Raises InputError where one coordinate alone diverges by more bits than a block can tell.
    """
    m, s = mean.double() / prior_sd.double(), sd.double() / prior_sd.double()
    each = (s.square() + m.square() - 1 - 2 * s.log()) / (2 * LN2)
    if float(each.max()) > MOST - EXTRA:
        got = f"a parameter {float(each.max()):.1f} bits from its prior"
        raise InputError("mean", got, f"at most {MOST - EXTRA:g}", "take a larger tolerance, or quantised.shortest")
    parts = blocks(each)
    found: list[tuple[float, int, list[int], Tensor]] = []
    for attempt in range(ATTEMPTS):
        places, z = [], torch.empty_like(m)
        for b, part in enumerate(parts):
            count = round(2 ** min(MOST, float(each[part].sum()) + EXTRA))
            told = candidates(count, len(m[part]), name, attempt, b)
            place = int(choose(told, m[part], s[part], 1, generator)[0])
            places.append(place)
            z[part] = told[place]
        found.append((float(distortion((z * prior_sd.double())[None])[0]), attempt, places, z))
        if found[-1][0] <= tolerance:
            break
    least, attempt, places, _ = min(found, key=lambda one: one[0])
    written = message.write(lambda pen: _model(pen, len(m), _Told(attempt, places)))
    theta = decode(written.words, prior_sd, name)
    return Sent(written.bits, written.words, theta, least, least <= tolerance, float(each.sum()))


def decode(words: np.ndarray, prior_sd: Tensor, name: str) -> Tensor:
    """θ `(p,)` of a message, given the prior sds `(p,)` and the name of the streams."""
    told = message.read(lambda pen: _model(pen, len(prior_sd), _Told(0, [])), words)
    z = torch.empty(len(prior_sd), dtype=torch.float64)
    for b, place in enumerate(told.places):
        part = slice(b, None, len(told.places))
        z[part] = candidates(place + 1, len(z[part]), name, told.attempt, b)[place]
    return z * prior_sd.double()


def blocks(divergence: Tensor, most: float = BLOCK) -> list[slice]:
    """Every n-th coordinate `(p,)` together, with the least n by which no block diverges by more bits than `most`.

    Where one coordinate alone does, by no more than it.
    """
    most = max(most, float(divergence.max()))
    for n in range(1, min(len(divergence), BLOCKS) + 1):
        parts = [slice(b, None, n) for b in range(n)]
        if max(float(divergence[part].sum()) for part in parts) <= most:
            return parts
    raise InputError("mean", f"{float(divergence.sum()):.0f} bits from the prior", f"what {BLOCKS} blocks of "
                     f"{most:.0f} bits can tell", "take a larger tolerance, or quantised.shortest")


def candidates(count: int, size: int, name: str, attempt: int, block: int) -> Tensor:
    """Standard normal candidates `(count, size)`; fewer of them are the first of more."""
    generator = stream(attempt, f"{name}/{block}")
    normal = np.random.Generator(np.random.PCG64(int(torch.randint(2**62, (), generator=generator))))
    return torch.from_numpy(normal.standard_normal((count, size)))


def choose(told: Tensor, m: Tensor, s: Tensor, times: int, generator: torch.Generator) -> Tensor:
    """Places `(times,)` among the candidates `(count, size)`, each with probability ∝ q/p, early ones first.

    q = N(m, diag s²) and p = N(0, I). The k-th largest of `count` Gumbels is −ln of the k-th partial sum of
    exponentials, divided by count where all are asked for.
    """
    log_ratio = (told.square() - ((told - m) / s).square()).sum(-1) / 2
    waits = torch.rand(times, len(told), generator=generator, dtype=torch.float64).clamp(min=1e-300).log().neg()
    # Order statistics of `count` exponentials: gaps of the k-th smallest are exponentials over count − k.
    ordered = (waits / torch.arange(len(told), 0, -1)).cumsum(-1)
    return (log_ratio - ordered.log()).argmax(-1)


# The message -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Told:
    attempt: int
    places: list[int]


def _model(pen: message.Pen, p: int, told: _Told) -> _Told:
    """Which stream, how many blocks, and of each the place: its octave by Zipf's law, and where in the octave."""
    attempt = pen.one_of(told.attempt, FEW[:ATTEMPTS])
    places = []
    for b in range(1 + pen.one_of(max(0, len(told.places) - 1), FEW[: min(p, BLOCKS)])):
        rank = 1 + (told.places[b] if told.places else 0)
        octave = pen.one_of(rank.bit_length() - 1, SHARES)
        places.append((1 << octave) + pen.uniform(rank - (1 << (rank.bit_length() - 1)), 1 << octave) - 1)
    return _Told(attempt, places)
