"""Successive refinement: a network is told by which of a few shared draws brings it nearest, stage after stage.

Sender and reader begin with z₀ = 0 and make the same 2^b standard normal ξ for each stage. A stage sends the place j of
one of them, and z_k = √(1 − s_k²) z_{k−1} + s_k ξ_j, with s₁ = 1 and every next s smaller by one rate: whatever is sent
is a draw of the prior, and later stages tell ever finer what is left (Equitz & Cover 1991). The sender goes on from the
best of all ways so far, some dozens (the M-algorithm: Jelinek & Anderson 1971), until one is within the tolerance.

Nothing but the distortion says what is sought, so that any network within the tolerance will do, whichever copy it is
and however far away. Where that is little to tell it takes some ten bits more than −log₂ of the prior's mass within the
tolerance; rounded parameters, which tell one network and are near to it, take far more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reuse_sim.engines.spec import need
from reuse_sim.ledger import message
from reuse_sim.ledger.message import Code
from reuse_sim.ledger.relative import candidates

STAGE = 4
"""Bits of a stage."""
STAGES = 32
"""Most stages."""
RATES = (0.6, 0.7, 0.8, 0.9)
"""By how much each stage's s is less than the one before; which of them is written."""
HEAD = math.log2(len(RATES) * STAGES)
"""Bits that say the rate and the number of stages."""
SEEN = 5
"""Stages that say how fast it goes; the search is given up where twice that will not do."""
BEAM = 64
"""Ways that the sender goes on from; four times as many find codes that are shorter by a stage now and then."""
CHUNK = 256
"""Networks whose distortion is asked at a time."""


def shortest(
    prior_sd: Tensor, distortion: Callable[[Tensor], Tensor], tolerance: float, name: str, most: float = math.inf
) -> Code | None:
    """The shortest of the codes found for a network within the tolerance; None where none has so few bits as may be.

    Args:
        prior_sd: `(p,)` of N(0, diag prior_sd²).
        distortion: from what is to be told, θ `(n, p)` -> `(n,)`, in float64; may be infinite, and need not be smooth.
        tolerance: the largest distortion that will do.
        name: of the streams that sender and reader share.
        most: bits that it may take; none takes more than those of all stages.

    Raises InputError where the tolerance is not above 0.
    """
    need(math.isfinite(tolerance) and tolerance > 0, "tolerance", tolerance, "a finite number above 0")
    sd, told = prior_sd.double(), None
    for place in range(len(RATES)):
        few = len(told.places) - 1 if told else int(min(STAGES, (most - HEAD) // STAGE))
        places = _search(sd, distortion, tolerance, name, RATES[place], few)
        told = _Told(place, places) if places else told
    if told is None:
        return None
    written = message.write(lambda pen: _model(pen, told))
    theta = decode(written.words, sd, name)
    left = float(distortion(theta[None])[0])
    return Code(written.bits, written.words, theta, left) if left <= tolerance and written.bits <= most else None


def decode(words: np.ndarray, prior_sd: Tensor, name: str) -> Tensor:
    """θ `(p,)` of a message in float64, given the prior sds `(p,)` and the name of the streams."""
    told = message.read(lambda pen: _model(pen, _Told(0, [])), words)
    z = torch.zeros(1, len(prior_sd), dtype=torch.float64)
    for k, place in enumerate(told.places):
        z = _refined(z, _draws(name, k, len(prior_sd))[place:place + 1], RATES[told.rate] ** k)
    return z[0] * prior_sd.double()


def _search(
    sd: Tensor, distortion: Callable[[Tensor], Tensor], tolerance: float, name: str, rate: float, stages: int
) -> list[int]:
    """The places that lead within the tolerance in the fewest stages; none where more than `stages` are needed."""
    z, ways = torch.zeros(1, len(sd), dtype=torch.float64), torch.zeros(1, 0, dtype=torch.long)
    nearest: list[float] = []
    for k in range(stages):
        draws = _draws(name, k, len(sd))
        z = _refined(z.repeat_interleave(len(draws), 0), draws.repeat(len(z), 1), rate**k)
        last = torch.arange(len(draws)).repeat(len(ways))
        ways = torch.cat([ways.repeat_interleave(len(draws), 0), last[:, None]], 1)
        left = torch.cat([distortion(some * sd) for some in z.split(CHUNK)]).nan_to_num(math.inf, math.inf)
        best = left.topk(min(BEAM, len(left)), largest=False).indices
        nearest.append(float(left[best[0]]))
        if nearest[-1] <= tolerance:
            return ways[best[0]].tolist()
        if _hopeless(nearest, stages - k - 1, tolerance):
            break
        z, ways = z[best], ways[best]
    return []


def _hopeless(nearest: list[float], stages: int, tolerance: float) -> bool:
    """Whether so many more stages will not do though they took the least distortion down twice as fast as the last."""
    seen = nearest[-SEEN:]
    pace = (min(seen) / max(seen)) ** (1 / (SEEN - 1))
    return len(seen) == SEEN and not seen[-1] * pace ** (2 * stages) <= tolerance


def _refined(z: Tensor, draws: Tensor, s: float) -> Tensor:
    """z `(n, p)` and draws `(n, p)`, both of the prior, as a draw of the prior that is near z where s is small."""
    return math.sqrt(1 - s * s) * z + s * draws


def _draws(name: str, stage: int, size: int) -> Tensor:
    return candidates(1 << STAGE, size, name, 0, stage)


@dataclass(frozen=True)
class _Told:
    """The rate's place in the list, and a place of every stage."""

    rate: int
    places: list[int]


def _model(pen: message.Pen, told: _Told) -> _Told:
    """The order of a message."""
    rate = pen.uniform(told.rate, len(RATES))
    stages = 1 + pen.uniform(max(0, len(told.places) - 1), STAGES)
    return _Told(rate, [pen.uniform(told.places[k] if told.places else 0, 1 << STAGE) for k in range(stages)])
