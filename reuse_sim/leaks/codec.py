"""Fixed-point sign-magnitude code of θ: sign first, then the magnitude's bits from the top.

With half-range `scale` of a parameter and B bits in all, the magnitude is floor(|θ| / scale · 2^(B−1)).
Knowing the first k bits leaves a cell of width scale / 2^(k−1) (2 · scale at k = 0), and the decoded
value is that cell's midpoint: unknown bits are never taken for zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp

BITS = 16


def encode(theta: Tensor, scale: Tensor, bits: int = BITS) -> Tensor:
    """Integer codes (int64, sign in the top bit) of θ `(…, p)` with half-ranges `scale` `(p,)`.

    Raises InputError where |θ| exceeds its half-range.
    """
    if bool((theta.abs() > scale).any()):
        worst = float((theta.abs() / scale).max())
        raise InputError("leak", f"a parameter at {worst:.3g} × its range", "every parameter within its range")
    levels = 2 ** (bits - 1)
    magnitude = (theta.abs() / scale * levels).floor().clamp(max=levels - 1).long()
    return torch.where(theta < 0, levels, 0) + magnitude


def decode(code: Tensor, scale: Tensor, known: int, bits: int = BITS) -> Tensor:
    """The midpoint of the cell that the first `known` bits of each code leave, as float64."""
    if known == 0:
        return torch.zeros(code.shape, dtype=torch.float64)
    levels = 2 ** (bits - 1)
    sign = 1.0 - 2.0 * (code >= levels).double()
    hidden = bits - known
    cell = (code % levels) >> hidden
    return sign * (cell.double() + 0.5) * scale.double() / 2 ** (known - 1)


def field_scale(net: Mlp, theta: Tensor) -> Tensor:
    """One half-range per field of the network, `(p,)`: the least power of two above every |θ| in it.

    Taken over a whole population `(…, p)`, so that it tells nothing of one human.
    """
    flat = theta.reshape(-1, net.p).abs().amax(0)
    scale = torch.empty_like(flat)
    for f in net.fields:
        scale[f.slice] = 2.0 ** torch.floor(torch.log2(flat[f.slice].max().clamp_min(1e-6)) + 1)
    return scale
