"""What both codes of θ share: a range per field, and that every parameter lies within it."""

from __future__ import annotations

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.types import BITS

_PLACES = 2.0 ** torch.arange(BITS - 1, -1, -1)


def field_scale(net: Mlp, theta: Tensor) -> Tensor:
    """One half-range per field of the network, `(p,)`: the least power of two above every |θ| in it.

    Taken over a whole population `(…, p)`, so that it tells nothing of one human.
    """
    flat = theta.reshape(-1, net.p).abs().amax(0)
    scale = torch.empty_like(flat)
    for f in net.fields:
        scale[f.slice] = 2.0 ** torch.floor(torch.log2(flat[f.slice].max().clamp_min(1e-6)) + 1)
    return scale


def in_range(theta: Tensor, scale: Tensor) -> None:
    """Raises InputError where an entry of θ `(…, p)` is not a number within ±`scale` `(p,)`."""
    if not bool((theta.abs() <= scale).all()):
        worst = float((theta.abs() / scale).max())
        raise InputError("leak", f"a parameter at {worst:.3g} × its range", "every parameter within its range")


def number(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """The whole number that bits `(…, k)` write, the most significant first: `(…)`."""
    return bits.to(dtype) @ _PLACES[-bits.shape[-1] :].to(dtype)


def digits(number: Tensor) -> Tensor:
    """The last 16 bits of whole numbers `(…)`, the most significant first: bool `(…, 16)`."""
    return number.int().unsqueeze(-1) & _PLACES.int() != 0
