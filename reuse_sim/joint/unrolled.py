"""Training as a pure function of the initialisation, θ₀ -> θ_T, over a stack, with its gradient and its Jacobian.

Backwards the steps are run again, a segment of about √T at a time, so that what is held grows with √T and not with T
(Griewank & Walther 2000; for hyperparameters Maclaurin et al. 2015). Forwards a tangent goes along and nothing is held.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from reuse_sim.engines.spec import Adam, AdamW, Optimizer, Schedule, Sgd, need, rates
from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp

State = tuple[Tensor, ...]
"""θ `(N, p)`, then what the optimiser remembers: nothing, its velocity, or its two moments."""
MEMORY = 2 * 2**30
"""Bytes that a gradient through training may take where nothing else is said."""
TINY = 1e-30
"""Keeps √ differentiable where a second moment is 0; far below the square of Adam's own ε."""


@dataclass(frozen=True)
class Training:
    """`steps` steps of an optimiser on `loss(θ (N, p), step) -> (N,)`, the same for whoever starts.

    Nothing couples the networks of a stack. Raises InputError for an optimiser without a derivative here.
    """

    loss: Callable[[Tensor, int], Tensor]
    steps: int
    optimizer: Optimizer
    schedule: Schedule = "cosine"

    def __post_init__(self) -> None:
        need(self.steps >= 1, "steps", self.steps, "at least 1")
        known = isinstance(self.optimizer, Sgd | Adam) and not isinstance(self.optimizer, AdamW)
        need(known, "optimizer", type(self.optimizer).__name__, "Sgd or Adam")

    def __call__(self, theta_0: Tensor, memory: float = MEMORY) -> Tensor:
        """θ_T `(N, p)` of θ₀ `(N, p)`, differentiable once in reverse mode, in segments.

        Raises InputError where its gradient would hold more than `memory` bytes.
        """
        if not (torch.is_grad_enabled() and theta_0.requires_grad):
            with torch.no_grad():
                return self.advance(self.begin(theta_0), 0, self.steps)[0]
        held = self.memory_bytes(theta_0)
        if held > memory:
            raise InputError(
                "unrolled training", f"{len(theta_0)} networks x {self.steps:,} steps, whose gradient holds "
                f"{_gib(held)} even in segments of {math.isqrt(self.steps - 1) + 1} steps", f"at most {_gib(memory)}",
                "Take fewer networks at a time, fewer steps or fewer questions per step.",
            )
        state, bounds = self.begin(theta_0), _bounds(self.steps)
        for first, last in zip(bounds, bounds[1:], strict=False):
            state = _Segment.apply(self, first, last, *state)
        return state[0]

    def begin(self, theta_0: Tensor) -> State:
        """The state before the first step."""
        memories = 2 if isinstance(self.optimizer, Adam) else int(self.optimizer.momentum != 0)
        return (theta_0, *(torch.zeros_like(theta_0) for _ in range(memories)))

    def advance(self, state: State, first: int, last: int, linked: bool = False) -> State:
        """The state before step `last` of that before step `first`; with `linked`, as a graph of all that happens."""
        for step, rate in list(enumerate(rates(self.optimizer.rate, self.schedule, self.steps)))[first:last]:
            state = self._step(state, step, rate, linked)
        return state

    def _step(self, state: State, step: int, rate: float, linked: bool) -> State:
        theta, *memory = state
        leaf = theta if linked else theta.detach().requires_grad_()
        with torch.enable_grad():
            (g,) = torch.autograd.grad(self.loss(leaf, step).sum(), leaf, create_graph=linked)
        o = self.optimizer
        if isinstance(o, Adam):
            b1, b2 = o.betas
            m, v = b1 * memory[0] + (1 - b1) * g, b2 * memory[1] + (1 - b2) * g.square()
            root = math.sqrt(1 - b2 ** (step + 1))
            share = m / ((v + TINY).sqrt() + o.eps * root)
            return theta - rate * root / (1 - b1 ** (step + 1)) * share, m, v
        if not memory:
            return (theta - rate * g,)
        velocity = o.momentum * memory[0] + g
        return theta - rate * velocity, velocity

    def tangent(self, theta_0: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """θ_T and ∂θ_T/∂θ₀ · direction, each `(N, p)` as are θ₀ and direction, forwards, without memory of the path."""
        state, along = self.begin(theta_0.detach()), self.begin(direction.detach())
        for step, rate in enumerate(rates(self.optimizer.rate, self.schedule, self.steps)):
            with warnings.catch_warnings(), forward_ad.dual_level():
                # torch's own tables of forward derivatives, loaded at first use, warn of how they are compiled.
                warnings.simplefilter("ignore", DeprecationWarning)
                leaves = (t.requires_grad_() if i == 0 else t for i, t in enumerate(state))
                dual = tuple(forward_ad.make_dual(t, d) for t, d in zip(leaves, along, strict=True))
                parts = [forward_ad.unpack_dual(t) for t in self._step(dual, step, rate, linked=True)]
                state = tuple(part.primal.detach() for part in parts)
                along = tuple(part.tangent.detach() for part in parts if part.tangent is not None)
        return state[0], along[0]

    def jacobian(self, theta_0: Tensor) -> Tensor:
        """∂θ_T/∂θ₀ `(p, p)` at θ₀ `(p,)`: a stack of p copies, each with a tangent along one parameter."""
        p = len(theta_0)
        return self.tangent(theta_0.expand(p, p).clone(), torch.eye(p, dtype=theta_0.dtype))[1].T

    def memory_bytes(self, theta_0: Tensor) -> int:
        """What a gradient through training from θ₀ `(N, p)` holds at its peak: measured on one step, times a segment's.

        States at the ends of segments, the graph of one segment, and as much again for the gradients on the way back.
        """
        sizes: dict[int, int] = {}

        def note(t: Tensor) -> Tensor:
            sizes[t.data_ptr()] = t.numel() * t.element_size()
            return t

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            state = self.begin(theta_0.detach().requires_grad_())
            kept = self._step(state, 0, self.optimizer.rate, linked=True)
        one_state = sum(t.numel() * t.element_size() for t in kept)
        segments = len(_bounds(self.steps)) - 1
        return segments * one_state + 2 * -(-self.steps // segments) * sum(sizes.values())


class _Segment(torch.autograd.Function):
    """Steps `first` to `last` of a training: run without a graph, and once more with one when the gradient asks."""

    @staticmethod
    def forward(ctx: Any, training: Training, first: int, last: int, *state: Tensor) -> State:
        ctx.training, ctx.first, ctx.last = training, first, last
        ctx.save_for_backward(*state)
        return training.advance(state, first, last)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        leaves = tuple(t.detach().requires_grad_() for t in ctx.saved_tensors)
        with torch.enable_grad():
            ends = ctx.training.advance(leaves, ctx.first, ctx.last, linked=True)
        return None, None, None, *torch.autograd.grad(ends, leaves, grads)


def supervised(net: Mlp, x: Tensor, y: Tensor, steps: int, optimizer: Optimizer) -> Training:
    """Training of a network's first output on (H − y)², step t on questions x[t] `(b, d)` with answers y[t] `(b,)`.

    x is `(steps, b, d)` and y `(steps, b)`: the order of the data is part of the training.
    """
    need(len(x) == len(y) == steps, "x", f"questions of {len(x)} steps", f"those of {steps}")

    def loss(theta: Tensor, step: int) -> Tensor:
        return (net.forward(theta, x[step])[..., 0] - y[step]).square().mean(-1)

    return Training(loss, steps, optimizer)


def _bounds(steps: int) -> list[int]:
    """Ends of about √T segments of about √T steps."""
    size = math.isqrt(steps - 1) + 1
    return [*range(0, steps, size), steps]


def _gib(size: float) -> str:
    return f"{size / 2**30:.2g} GiB" if size >= 2**27 else f"{size / 2**20:.2g} MiB"
