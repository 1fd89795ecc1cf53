"""Any differentiable network, stacked by `torch.func`: vmap over networks of grad_and_value of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.nn import functional as F

from reuse_sim.engines import loop
from reuse_sim.engines.spec import Head, Network, Rows, Work, head_slices, need

NAME = "torch.func"
CHUNK = 32


def unsupported(work: Work, dtype: torch.dtype, device: torch.device) -> str:
    """Why this engine cannot do it: it always can."""
    return ""


def loss(net: Network, heads: Sequence[Head], theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The loss `()` of one network θ `(p,)` on questions x `(n, d)` with targets y `(n, t)`."""
    z, expected = net.forward(theta, x), sum(head.outputs for head in heads)
    need(z.shape[-1] == expected, "heads", f"a network of {z.shape[-1]} outputs", f"{expected}, as its heads have")
    return sum(
        (h.weight * _LOSSES[h.loss](z[..., at], y[..., to]) for h, at, to in head_slices(heads)), z.new_zeros(())
    )


_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared": F.mse_loss,
    "logistic": F.binary_cross_entropy_with_logits,
    "cross_entropy": lambda z, y: F.cross_entropy(z, y[..., 0].long()),
}


def _stacked(net: Network, heads: Sequence[Head], theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Losses `(c,)` and gradients `(c, p)` at θ `(c, p)` on x `(c or 1, n, d)` and y `(c or 1, n, t)`."""
    shared = [len(t) == 1 for t in (x, y)]
    questions = [t[0] if one else t for t, one in zip((x, y), shared, strict=True)]
    each = vmap(
        grad_and_value(lambda theta, x, y: loss(net, heads, theta, x, y)),
        in_dims=(0, *(None if one else 0 for one in shared)),
        randomness="error",
    )
    gradients, values = each(theta, *questions)
    return values, gradients


# The engine ------------------------------------------------------------------------------------------


def start(work: Work, theta: Tensor) -> loop.State:
    """The state of one chunk that begins at θ `(c, p)`."""
    layout = loop.Layout((work.net.p,))

    def gradients(theta: Tensor, members: list[int], rows: Rows, first: int) -> loop.Gradient:
        at = theta.view(len(members), -1)

        def gradient(step: int) -> tuple[Tensor, Tensor]:
            values, rowwise = _stacked(work.net, work.heads, at, *rows.step(step - first))
            return values, layout.flat(rowwise)

        return gradient

    return loop.start(gradients, layout, theta, work.optimizer, work.clip, work.stop_loss)


advance, theta = loop.advance, loop.theta


def value_and_grad(
    net: Network, heads: tuple[Head, ...], x: Tensor, y: Tensor
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A function from θ `(C, p)` to losses `(C,)` and gradients `(C, p)` on x `(n, d)` or `(C, n, d)`."""
    return loop.in_chunks(lambda theta, x, y: _stacked(net, heads, theta, x, y), CHUNK, x, y)
