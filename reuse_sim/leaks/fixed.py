"""Fixed-point sign-magnitude code of θ: the sign, then 15 bits of |θ| / scale from the top.

With half-range `scale` of a parameter the magnitude is floor(|θ| / scale · 2¹⁵). An unknown bit may be either with
equal probability, as if θ were uniform in its range. So the decoded value is the middle of what the known bits
allow; knowing the first k leaves a cell of width scale / 2^(k−1), and 2 · scale at k = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reuse_sim.leaks.codec import digits, in_range, number
from reuse_sim.types import BITS, Leaked

LEVELS = 2 ** (BITS - 1)


def encode(theta: Tensor, scale: Tensor) -> Tensor:
    """The bits `(…, p, 16)` of θ `(…, p)` with half-ranges `scale` `(p,)`, the sign first.

    Raises InputError where a parameter lies outside its range.
    """
    in_range(theta, scale)
    magnitude = (theta.abs() / scale * LEVELS).floor().clamp(max=LEVELS - 1)
    return digits(torch.where(theta < 0, LEVELS, 0) + magnitude)


def decode(bits: Tensor, known: Tensor, scale: Tensor) -> Leaked:
    """What the `known` ones (bool, broadcast) among the bits `(…, p, 16)` leave, in the dtype of `scale` `(p,)`."""
    least = number((bits & known)[..., 1:], scale.dtype)
    width = number(~known[..., 1:], scale.dtype) + 1  # of what is left of |θ|, in cells
    has_sign, cell = known[..., 0], scale / LEVELS
    sign = torch.where(has_sign, 1 - 2 * bits[..., 0].to(scale.dtype), 0)
    value = sign * (least + width / 2) * cell
    slack = torch.where(has_sign, width / 2, least + width) * cell
    return Leaked(value, known.to(scale.dtype).mean(-1).expand_as(value), slack)
