"""IEEE half precision of θ: sign, 5 bits of exponent, 10 of mantissa, rounded as torch rounds.

An unknown bit makes a parameter one of several numbers. As in fixed point θ counts as uniform in its range, so a
number is as probable as its spacing u is wide: of the exponents that agree with what is known, one is twice as
probable as the next lower, none reaches beyond `scale`, and within an exponent the unknown bits of the mantissa
are even. The decoded value is the expectation. Exact where `scale` is a power of two from 2⁻¹⁴ on, as it is by
`codec.field_scale`; otherwise the range's last exponent counts in proportion.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.leaks.codec import digits, in_range, number
from reuse_sim.types import Leaked

LARGEST = 65504.0

_EXPONENTS = torch.arange(32)
_SPACING = 2.0 ** (_EXPONENTS.clamp_min(1) - 25).double()
_FIRST = torch.where(_EXPONENTS > 0, 1024 * _SPACING, 0.0)


def encode(theta: Tensor, scale: Tensor) -> Tensor:
    """The bits `(…, p, 16)` of θ `(…, p)`, the sign first.

    Raises InputError where a parameter lies outside its half-range `scale` `(p,)`, or beyond half precision.
    """
    in_range(theta, scale)
    half = theta.to(torch.float16)
    if bool(half.isinf().any()):
        worst = float(theta.abs().max())
        raise InputError("leak", f"a parameter at {worst:.6g}", f"at most {LARGEST:g} in half precision", "code: fixed")
    return digits(half.view(torch.int16))


def decode(bits: Tensor, known: Tensor, scale: Tensor) -> Leaked:
    """What the `known` ones (bool, broadcast) among the bits `(…, p, 16)` leave, in the dtype of `scale` `(p,)`.

    Bits told wrongly may speak of numbers outside the range; the value is then at its end.
    """
    told, dtype = bits & known, scale.dtype
    limit = scale.to(torch.float16).to(dtype).clamp(max=LARGEST).unsqueeze(-1)
    spacing, first = _SPACING.to(dtype), _FIRST.to(dtype)
    # Per exponent the least and greatest number that the bits allow, `(…, p, 32)`.
    exponent, relevant = (number(b[..., 1:6], dtype).int().unsqueeze(-1) for b in (told, known))
    agrees = (exponent ^ _EXPONENTS) & relevant == 0
    open_bits = (~known[..., 6:]).sum(-1, keepdim=True)
    span = number(~known[..., 6:], dtype).unsqueeze(-1)
    low = first + spacing * number(told[..., 6:], dtype).unsqueeze(-1)
    possible = agrees & (low <= limit)
    possible = torch.where(possible.any(-1, keepdim=True), possible, agrees)
    low, high = low.minimum(limit), (low + spacing * span).minimum(limit)
    count = 1 + (2**open_bits - 1) * (high - low) / (spacing * span.clamp_min(1))
    weight = possible * spacing * count
    size = (weight * (low + high) / 2).sum(-1) / weight.sum(-1)
    # A number stands for all that is rounded to it: half its spacing to either side.
    least = torch.where(possible, low - spacing / 2, torch.inf).amin(-1).clamp_min(0)
    most = torch.where(possible, high + spacing / 2, 0.0).amax(-1).minimum(scale)
    has_sign = known[..., 0]
    value = torch.where(has_sign, torch.where(bits[..., 0], -size, size), 0.0)
    slack = torch.where(has_sign, (most - size).maximum(size - least), most)
    return Leaked(value, known.to(dtype).mean(-1).expand_as(value), slack)
