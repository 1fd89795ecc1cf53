"""The steps of an optimiser that all gradients by torch share: clip, update, and members that leave.

A chunk of c networks lies in flat buffers: parameters, gradient and moments alike, so that a step is a few
elementwise operations in place. A network that breaks or stops leaves the buffers, which are then built anew
for the others: rare, and nothing else needs to know of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate

import torch
from torch import Tensor

from reuse_sim.engines.spec import Adam, AdamW, Optimizer, Rows

Gradient = Callable[[int], tuple[Tensor, Tensor]]
"""The number of a step to losses `(c,)` and the flat gradient, which the loop may overwrite."""

Gradients = Callable[[Tensor, list[int], Rows, int], Gradient]
"""The gradient at the flat θ (whatever it will hold) of these members, on their rows of a block that begins at
the given step."""


@dataclass(frozen=True)
class Layout:
    """Where the p numbers of c networks lie in a flat buffer.

    Row by row with `blocks` (p,); layer by layer with one block per field of θ, `(c, size)` each, so that every
    field of all networks is contiguous. The buffer's length is a multiple of `pad`, its last numbers zeros. A
    chunk has at least `least` rows: a network left alone fills them with copies of itself.
    """

    blocks: tuple[int, ...]
    pad: int = 1
    least: int = 1

    def flat(self, rows: Tensor) -> Tensor:
        """A new buffer with the networks `(c, p)`."""
        parts = [part.flatten() for part in rows.split(self.blocks, dim=1)]
        return torch.cat([*parts, rows.new_zeros(-rows.numel() % self.pad)])

    def parts(self, flat: Tensor, c: int) -> list[Tensor]:
        """Views `(c, size)` of the blocks."""
        ends = list(accumulate(self.blocks, initial=0))
        return [flat[c * a : c * b].view(c, b - a) for a, b in zip(ends, ends[1:], strict=False)]

    def rows(self, flat: Tensor, c: int) -> Tensor:
        """The networks `(c, p)`, copied."""
        return torch.cat(self.parts(flat, c), dim=1)

    def fill(self, members: list[int]) -> list[int]:
        """The members in the rows of a buffer."""
        return members * self.least if len(members) == 1 else members


@dataclass
class State:
    """A chunk of c networks under way; rows of the flat buffers belong to `members`."""

    gradients: Gradients
    layout: Layout
    optimizer: Optimizer
    clip: float | None
    stop_loss: float | None
    members: list[int]
    theta: Tensor
    moments: list[Tensor]
    kept: Tensor
    """θ `(c, p)` of those that have left."""
    loss: Tensor
    stopped: dict[int, int]
    broken: dict[int, int]


def start(
    gradients: Gradients,
    layout: Layout,
    theta: Tensor,
    optimizer: Optimizer,
    clip: float | None = None,
    stop_loss: float | None = None,
) -> State:
    """The state of networks θ `(c, p)` before their first step."""
    members = layout.fill(list(range(len(theta))))
    flat = layout.flat(theta.detach()[members])
    count = 2 if isinstance(optimizer, Adam) else int(optimizer.momentum != 0)
    moments = [torch.zeros_like(flat) for _ in range(count)]
    loss = torch.full_like(theta[:, 0], math.nan)
    return State(
        gradients, layout, optimizer, clip, stop_loss, members, flat, moments, theta.detach().clone(), loss, {}, {}
    )


@torch.no_grad()
def advance(state: State, rows: Rows, first: int, steps: range, rates: Sequence[float]) -> None:
    """Take `steps`, as long as networks are left; the block of `rows` begins at step `first`."""
    if not state.members or not steps:
        return
    gradient_of, scratch, loss = _gradient(state, rows, first), torch.empty_like(state.theta), state.loss
    for step in steps:
        loss, gradient = gradient_of(step)
        fine = (gradient.sum() + loss.sum()).isfinite()
        if state.stop_loss is not None:
            fine &= (loss > state.stop_loss).all()
        if not fine:  # the one time that a step waits for the device
            before = state.members
            loss, gradient = _leave(state, loss, gradient, step)
            if not state.members:
                return
            if state.members != before:
                gradient_of, scratch = _gradient(state, rows, first), torch.empty_like(state.theta)
        if state.clip is not None:
            _clip(state.layout.parts(gradient, len(state.members)), state.clip)
        _update(state, gradient, scratch, step, rates[step])
    state.loss[state.members] = loss


def theta(state: State) -> Tensor:
    """θ `(c, p)` as it stands."""
    out = state.kept.clone()
    if state.members:
        out[state.members] = state.layout.rows(state.theta, len(state.members))
    return out


def _gradient(state: State, rows: Rows, first: int) -> Gradient:
    everyone = state.members == list(range(len(state.loss)))
    return state.gradients(state.theta, state.members, rows if everyone else rows.of(state.members), first)


def _clip(parts: list[Tensor], clip: float) -> None:
    """Each network's gradient, whose blocks these are, to a norm of at most `clip`."""
    # One addition after another: the order in which `sum` would add depends on how many networks there are.
    square = reduce(torch.add, [torch.linalg.vector_norm(part, dim=1).square() for part in parts])
    factor = clip / square.sqrt().clamp_min(clip)
    for part in parts:
        part.mul_(factor.unsqueeze(1))


def _update(state: State, gradient: Tensor, scratch: Tensor, step: int, rate: float) -> None:
    o, theta = state.optimizer, state.theta
    if isinstance(o, Adam):
        first, second = state.moments
        beta1, beta2 = o.betas
        if isinstance(o, AdamW):
            theta.mul_(1 - rate * o.decay)
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        # m̂ / (√v̂ + ε) with both corrections taken out of the buffers: v̂ = v / root².
        root = math.sqrt(1 - beta2 ** (step + 1))
        torch.sqrt(second, out=scratch).add_(o.eps * root)
        theta.addcdiv_(first, scratch, value=-rate * root / (1 - beta1 ** (step + 1)))
        return
    if o.momentum:
        (gradient,) = (torch.add(gradient, v, alpha=o.momentum, out=v) for v in state.moments)
    theta.add_(gradient, alpha=-rate)


def _leave(state: State, loss: Tensor, gradient: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Let those that broke or stopped at this step go; loss and gradient of the others."""
    layout, c = state.layout, len(state.members)
    rows, now = layout.rows(gradient, c), layout.rows(state.theta, c)
    fine = loss.isfinite() & rows.isfinite().all(1)
    limit = -math.inf if state.stop_loss is None else state.stop_loss
    left: dict[int, int] = {}
    for k, (i, good, stop) in enumerate(zip(state.members, fine.tolist(), (loss <= limit).tolist(), strict=True)):
        if not good:
            state.broken[i] = step
        elif stop:
            state.stopped[i] = step
        else:
            left[i] = k
    state.loss[state.members] = loss
    state.kept[state.members] = now
    members = layout.fill(list(left))
    if members == state.members:
        return loss, gradient
    stay, state.members = [left[i] for i in members], members
    state.theta = layout.flat(now[stay])
    state.moments = [layout.flat(layout.rows(moment, c)[stay]) for moment in state.moments]
    return loss[stay], layout.flat(rows[stay])


def in_chunks(
    part: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]], size: int, x: Tensor, y: Tensor
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Values and gradients of any number of networks by a `part` that takes up to `size` (all on a GPU).

    It is called on θ `(c, p)`, x `(c or 1, n, d)` and y `(c or 1, n, t)`.
    """
    x, y = (t if t.dim() == 3 else t.unsqueeze(0) for t in (x, y))

    @torch.no_grad()
    def function(theta: Tensor) -> tuple[Tensor, Tensor]:
        step = size if theta.device.type == "cpu" else len(theta)
        each = [
            part(theta[a : a + step], *(t if len(t) == 1 else t[a : a + step] for t in (x, y)))
            for a in range(0, len(theta), step)
        ]
        values, gradients = zip(*each, strict=True)
        return torch.cat(values), torch.cat(gradients)

    return function
