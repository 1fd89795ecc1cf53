"""What a leak has made known of θ2 by a step of the outer's training: told bits, decoded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.leaks import fixed, half
from reuse_sim.types import BITS, Leaked, Schedule

_CODES = {"fixed": fixed, "half": half}


def reveal(schedule: Schedule, theta: Tensor, scale: Tensor, step: float) -> Leaked:
    """What is known before that step of θ2 `(…, p)`, coded with half-ranges `scale` `(p,)`.

    Raises InputError where a parameter lies outside its range, or the schedule is not of θ2's bits.
    """
    return _CODES[schedule.code].decode(_as_told(schedule, theta, scale), schedule.when <= step, scale)


def over_time(leaks: Sequence[tuple[Schedule, Tensor]], scale: Tensor) -> Callable[[int], Leaked]:
    """A function from the step to what A arms are shown before it, each of its own humans' θ2 `(H, p)`: `(A, H, p)`.

    It equals `reveal` arm by arm, but decodes only parameters of which more is known than at the step asked for last.
    Raises InputError as `reveal` does.
    """
    codes = [schedule.code for schedule, _ in leaks]
    bits = torch.stack([_as_told(schedule, theta, scale) for schedule, theta in leaks])
    when = torch.stack([schedule.when for schedule, _ in leaks]).unsqueeze(1)
    later = (when > 0) & when.isfinite()
    order = when[later].argsort()
    times, parameters = when[later][order].tolist(), later.nonzero()[order, 2]
    so_far, leaked = 0, _decode(codes, bits, when <= 0, scale)

    def told(step: int) -> Leaked:
        nonlocal so_far, leaked
        now = bisect_right(times, step)
        if now != so_far:
            changed = parameters[min(so_far, now) : max(so_far, now)].unique()
            fresh = _decode(codes, bits[:, :, changed], when[:, :, changed] <= step, scale[changed])
            leaked = _each(lambda old, new: old.index_copy(2, changed, new), leaked, fresh)
            so_far = now
        return leaked

    return told


def _as_told(schedule: Schedule, theta: Tensor, scale: Tensor) -> Tensor:
    expected = (theta.shape[-1], BITS)
    for name in ("when", "flipped"):
        shape = tuple(getattr(schedule, name).shape)
        if shape != expected:
            raise InputError(f"leak: {name}", f"shape {shape}", f"{expected}, one entry for each bit of θ2")
    return _CODES[schedule.code].encode(theta, scale) ^ schedule.flipped


def _decode(codes: Sequence[str], bits: Tensor, known: Tensor, scale: Tensor) -> Leaked:
    """What is left of bits `(A, H, p, 16)`, each arm's of its own code."""
    if len(set(codes)) == 1:
        return _CODES[codes[0]].decode(bits, known, scale)
    arms = zip(codes, bits, known, strict=True)
    return _each(lambda *arms: torch.stack(arms), *(_CODES[code].decode(b, k, scale) for code, b, k in arms))


def _each(function: Callable[..., Tensor], *leaked: Leaked) -> Leaked:
    """Value, known and slack put together one by one."""
    return Leaked(*(function(*(getattr(one, name) for one in leaked)) for name in ("value", "known", "slack")))
