"""The shortest message of a network within a tolerance of its behaviour, by whichever code is shorter.

Rounded parameters (`quantised`) win where much must be told; where little must, places among shared draws (`refined`),
which need not say which of all networks that would do it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from reuse_sim.ledger import quantised, refined
from reuse_sim.ledger.message import Code

WHICH = 1
"""Bits that say which code follows."""


def shortest(
    theta: Tensor,
    prior_sd: Tensor,
    distortion: Callable[[Tensor], Tensor],
    tolerance: float,
    name: str,
    weighting: quantised.Weighting = "best",
) -> Code:
    """The shorter of both codes of a network within `tolerance`; its bits count the one that says which it is.

    Args:
        theta: `(p,)`, what is to be told.
        prior_sd: `(p,)` of N(0, diag prior_sd²), known to the reader.
        distortion: from what is to be told, θ `(n, p)` -> `(n,)`, in float64; may be infinite, and need not be smooth.
        tolerance: the largest distortion that will do.
        name: of the streams that sender and reader share; one for each network that is told.
        weighting: of rounded parameters.

    Raises InputError where `quantised.shortest` does.
    """
    rounded = quantised.shortest(theta, prior_sd, distortion, tolerance, weighting)
    code = refined.shortest(prior_sd, distortion, tolerance, name, rounded.bits - 1) or rounded
    return replace(code, bits=code.bits + WHICH)
