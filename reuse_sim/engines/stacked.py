"""The torch engine for perceptrons: forward and backward passes written out over a stack of c networks.

θ lies layer by layer (`loop.Layout`), so that a layer of all networks is one contiguous `(c, out, in)`:
`torch.bmm(out=)` is fast only into contiguous results. Buffers are made once per block of steps.

To the last bit a network's result does not depend on its neighbours. Elementwise kernels compute what does not
fill a vector register by other instructions, so buffers are padded to PAD numbers; a single product takes
another path than a stack of them, so a lone network runs twice.

tanh is torch's own: by MKL it takes 0.3 ns a number and is off by 3e-8 where 2σ(2x) − 1 takes 0.7 and 2e-7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from reuse_sim.engines import loop
from reuse_sim.engines.spec import Head, Rows, Work, head_slices
from reuse_sim.nets import Mlp

NAME = "torch"
CHUNK = 32
"""Networks side by side: enough to hide the cost of a call, few enough to stay in cache."""
CROWD = 128
"""The same with several threads, which wait for Python's lock between calls: with 32 networks of width 16 two
threads take longer than one, with 128 two thirds of its time."""
PAD = 64


def unsupported(work: Work, dtype: torch.dtype, device: torch.device) -> str:
    """Why this engine cannot do it, in a sentence; empty where it can."""
    if not isinstance(work.net, Mlp):
        return f"it trains perceptrons (reuse_sim.nets.Mlp), not a {type(work.net).__name__}"
    return ""


class Passes:
    """Loss and gradient at a flat θ of c networks asked b questions each, in buffers of its own."""

    def __init__(self, net: Mlp, heads: Sequence[Head], theta: Tensor, c: int, b: int) -> None:
        lay, widths, like = layout(net), net.sizes[1:], theta
        self.net, self.heads, self.c = net, heads, c
        self.gradient = torch.zeros_like(theta)
        at, to = (_fields(net, lay.parts(flat, c)) for flat in (theta, self.gradient))
        names = [str(k) for k in range(len(widths))]
        self.weights, self.to_weights = ([fields["weight" + k] for k in names] for fields in (at, to))
        self.biases = [at["bias" + k].unsqueeze(1) for k in names if net.bias]
        self.to_biases = [to["bias" + k] for k in names if net.bias]
        self.outputs = [_Buffer((c, b, width), like) for width in widths]
        # Only two neighbouring layers' deltas are needed at a time: every second one takes the same memory.
        memory = [_Buffer((c, b, max(widths[k::2], default=0)), like).flat for k in range(2)]
        self.deltas = [_Buffer((c, b, width), like, memory[k % 2]) for k, width in enumerate(widths)]

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Losses `(c,)` and the flat gradient on x `(c or 1, b, d)` and y `(c or 1, b, t)`."""
        net, last = self.net, len(self.outputs) - 1
        inputs = [x.expand(self.c, -1, -1), *(z.view for z in self.outputs)]
        for k, z in enumerate(self.outputs):
            if net.bias:
                torch.baddbmm(self.biases[k], inputs[k], self.weights[k].mT, out=z.view)
            else:
                torch.bmm(inputs[k], self.weights[k].mT, out=z.view)
            if k < last:
                _FORTH[net.activation](z.flat)
        loss = _compare(self.heads, self.outputs[-1], y, self.deltas[-1].view)
        for k in range(last, -1, -1):
            delta = self.deltas[k].view
            torch.bmm(delta.mT, inputs[k], out=self.to_weights[k])
            if net.bias:
                torch.sum(delta, 1, out=self.to_biases[k])
            if k:
                below = self.deltas[k - 1]
                torch.bmm(delta, self.weights[k], out=below.view)
                _BACK[net.activation](below.flat, self.outputs[k - 1].flat)
        return loss, self.gradient


class _Buffer:
    """Numbers of a shape, and the padded memory they lie in for what is done to each of them apart."""

    def __init__(self, shape: tuple[int, ...], like: Tensor, memory: Tensor | None = None) -> None:
        padded = -(-prod(shape) // PAD) * PAD
        self.flat = like.new_empty(padded) if memory is None else memory[:padded]
        self.view = self.flat[: prod(shape)].view(shape)

    def apart(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """A function of each number."""
        return function(self.flat)[: self.view.numel()].view_as(self.view)


_aten = torch.ops.aten
_FORTH: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh_, "relu": torch.relu_}
_BACK: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "tanh": lambda delta, a: _aten.tanh_backward.grad_input(delta, a, grad_input=delta),
    "relu": lambda delta, a: _aten.threshold_backward.grad_input(delta, a, 0, grad_input=delta),
}
"""δ ← δ (1 − a²) and δ ← δ [a > 0], in one pass over memory."""


def _compare(heads: Sequence[Head], outputs: _Buffer, y: Tensor, delta: Tensor) -> Tensor:
    """Losses `(c,)` of the outputs against y; their gradients go to `delta`, as the outputs `(c, b, out)`."""
    total = torch.zeros_like(delta[:, 0, 0])
    for head, at, to in head_slices(heads):
        out = delta[..., at]
        each = _LOSSES[head.loss](outputs, at, y[..., to], out).flatten(1)
        share = head.weight / each.shape[1]
        out.mul_(share)
        total += each.sum(1).mul_(share)
    return total


# Each gives the losses of outputs `at`, one number per target `(c, b, t)`, and writes dloss/dz to `out`.


def _squared(outputs: _Buffer, at: slice, y: Tensor, out: Tensor) -> Tensor:
    torch.sub(outputs.view[..., at], y, out=out)
    each = out * out
    out.mul_(2)
    return each


def _logistic(outputs: _Buffer, at: slice, y: Tensor, out: Tensor) -> Tensor:
    z = outputs.view[..., at]
    torch.sub(outputs.apart(torch.sigmoid)[..., at], y, out=out)
    excess = outputs.apart(lambda flat: flat.abs().neg_().exp_().log1p_())[..., at]
    return z.clamp_min(0) + excess - y * z


def _cross_entropy(outputs: _Buffer, at: slice, y: Tensor, out: Tensor) -> Tensor:
    logs = torch.log_softmax(outputs.view[..., at], -1)
    number = y.long().expand(len(logs), -1, -1)
    torch.exp(logs, out=out)
    out.scatter_add_(2, number, -torch.ones_like(number, dtype=logs.dtype))
    return -logs.gather(2, number)


_LOSSES = {"squared": _squared, "logistic": _logistic, "cross_entropy": _cross_entropy}


# The engine ------------------------------------------------------------------------------------------


def layout(net: Mlp) -> loop.Layout:
    return loop.Layout(tuple(prod(f.shape) for f in net.fields), pad=PAD, least=2)


def _fields(net: Mlp, parts: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f.name: part.unflatten(1, f.shape) for f, part in zip(net.fields, parts, strict=True)}


def start(work: Work, theta: Tensor) -> loop.State:
    """The state of one chunk that begins at θ `(c, p)`."""
    net = work.net
    assert isinstance(net, Mlp)
    lay = layout(net)

    def gradients(theta: Tensor, members: list[int], rows: Rows, first: int) -> loop.Gradient:
        passes = Passes(net, work.heads, theta, len(members), rows.asked)
        return lambda step: passes(*rows.step(step - first))

    return loop.start(gradients, lay, theta, work.optimizer, work.clip, work.stop_loss)


advance, theta = loop.advance, loop.theta


def value_and_grad(
    net: Mlp, heads: tuple[Head, ...], x: Tensor, y: Tensor
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A function from θ `(C, p)` to losses `(C,)` and gradients `(C, p)` on x `(n, d)` or `(C, n, d)`.

    It keeps its buffers, so it is for one thread at a time.
    """
    lay = layout(net)
    buffers: dict[int, tuple[Tensor, Passes]] = {}

    def part(theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        c = len(theta)
        members = lay.fill(list(range(c)))
        flat = lay.flat(theta[members])
        if c not in buffers:
            buffers[c] = flat, Passes(net, heads, flat, len(members), x.shape[1])
        at, passes = buffers[c]
        at.copy_(flat)
        loss, gradient = passes(x, y)
        return loss[:c], lay.rows(gradient, len(members))[:c]

    return loop.in_chunks(part, CHUNK, x, y)
