"""The numba engine: perceptrons in float32 on the processor, one network at a time through `kernel`.

Results depend on nothing but the network: not on its neighbours, chunks, threads, or the width of the
machine's registers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from reuse_sim.engines import kernel
from reuse_sim.engines.kernel import LANES, NARROW, ROWS, Plan, Rule
from reuse_sim.engines.spec import Adam, Head, Rows, Work, head_slices
from reuse_sim.nets import Mlp

NAME = "numba"
CHUNK = 32
STAY = 2**20
"""Bytes of questions that a thread keeps beside its network; more are copied for every step."""

_KINDS = {"squared": kernel.SQUARED, "logistic": kernel.LOGISTIC, "cross_entropy": kernel.CROSS_ENTROPY}
_NO_ROWS = np.empty((1, 0, 0), np.int64)


def unsupported(work: Work, dtype: torch.dtype, device: torch.device) -> str:
    """Why this engine cannot do it, in a sentence; empty where it can."""
    if not isinstance(work.net, Mlp):
        return f"it trains perceptrons (reuse_sim.nets.Mlp), not a {type(work.net).__name__}"
    if dtype != torch.float32:
        return f"it computes in float32, not {str(dtype).removeprefix('torch.')}"
    if torch.device(device).type != "cpu":
        return f"it runs on the processor, not on {device}"
    return ""


@dataclass
class State:
    """A chunk of c networks: parameters and moments `(c, S)` in the kernel's layout, and what became of them."""

    work: Work
    plan: Plan
    memory: np.ndarray
    padded: np.ndarray
    losses: np.ndarray
    status: np.ndarray
    when: np.ndarray
    heads: tuple[np.ndarray, np.ndarray] = field(init=False)
    rule: Rule = field(init=False)

    def __post_init__(self) -> None:
        self.heads, self.rule = _heads(self.work.heads), _rule(self.work)

    @property
    def loss(self) -> Tensor:
        return torch.from_numpy(self.losses.astype(np.float32))

    @property
    def broken(self) -> dict[int, int]:
        return self._those(kernel.BROKEN)

    @property
    def stopped(self) -> dict[int, int]:
        return self._those(kernel.STOPPED)

    def _those(self, status: int) -> dict[int, int]:
        return {int(i): int(self.when[i]) for i in np.flatnonzero(self.status == status)}


def start(work: Work, theta: Tensor) -> State:
    """The state of one chunk that begins at θ `(c, p)`."""
    net = work.net
    assert isinstance(net, Mlp)
    plan, length = layout(net, work.heads)
    moments = 2 if isinstance(work.optimizer, Adam) else 1
    count = len(theta)
    padded = np.zeros((count, plan.size * (1 + moments)), np.float32)
    memory = _aligned(length)
    kernel.pack(memory, padded, plan, theta.contiguous().numpy(), False)
    when, status = np.zeros(count, np.int64), np.full(count, kernel.RUNNING, np.int64)
    return State(work, plan, memory, padded, np.full(count, math.nan), status, when)


def advance(state: State, rows: Rows, first: int, steps: range, rates: Sequence[float]) -> None:
    """Take `steps`; the block of `rows` begins at step `first`."""
    x, y = (np.ascontiguousarray(t.numpy()) for t in (rows.x, rows.y))
    index = _NO_ROWS if rows.index is None else np.ascontiguousarray(rows.index.numpy())
    batch = index.shape[2] if index.size else rows.batch or 0
    kernel.advance(
        state.memory, state.padded, state.plan, *state.heads, state.rule, x, y, index, batch, first, steps.start,
        steps.stop, np.asarray(rates, np.float64), state.losses, state.status, state.when,
    )  # fmt: skip


def theta(state: State) -> Tensor:
    """θ `(c, p)` as it stands."""
    out = np.empty((len(state.padded), state.work.net.p), np.float32)
    kernel.pack(state.memory, state.padded, state.plan, out, True)
    return torch.from_numpy(out)


def value_and_grad(
    net: Mlp, heads: tuple[Head, ...], x: Tensor, y: Tensor
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A function from θ `(C, p)` to losses `(C,)` and gradients `(C, p)` on x `(n, d)` or `(C, n, d)`."""
    plan, length = layout(net, heads)
    memory, packed = _aligned(length), _heads(heads)
    xs, ys = (np.ascontiguousarray((t if t.dim() == 3 else t[None]).numpy()) for t in (x, y))

    def function(theta: Tensor) -> tuple[Tensor, Tensor]:
        rows = np.ascontiguousarray(theta.detach().numpy())
        values, out = np.empty(len(rows), np.float32), np.empty(rows.shape, np.float32)
        kernel.gradients(memory, plan, *packed, xs, ys, _NO_ROWS, rows, values, out)
        return torch.from_numpy(values), torch.from_numpy(out)

    return function


def layout(net: Mlp, heads: Sequence[Head]) -> tuple[Plan, int]:
    """Where a network's numbers lie in working memory, and how many there are in all."""
    layers = range(len(net.sizes) - 1)
    fan_in, fan_out = net.sizes[:-1], net.sizes[1:]
    narrow = fan_out[-1] <= NARROW
    columns, widest = sum(h.targets for h in heads), max(max(h.outputs for h in heads), ROWS)
    end = 0

    def take(count: int) -> int:
        nonlocal end
        end, at = end + _up(count, LANES), end
        return at

    lanes_in = [narrow and k == layers[-1] for k in layers]
    ld = [_up(fan_in[k] if lanes_in[k] else fan_out[k], LANES) for k in layers]
    ld_in = [_up(fan_in[k], LANES if k or lanes_in[k] else 4) for k in layers]
    weights, biases = [], []
    for k in layers:
        weights.append(take((fan_out[k] if lanes_in[k] else ld_in[k]) * ld[k]))
        biases.append(take(fan_out[k]))
    size = end
    take(3 * size)  # gradient and moments
    stay = STAY // (4 * (ld_in[0] + columns)) // ROWS * ROWS
    slots = stay // ROWS
    transposed = [take(ld[k] * ld_in[k]) if k and not lanes_in[k] else 0 for k in layers]
    outputs = [take(ROWS * (fan_out[k] if lanes_in[k] else ld[k])) for k in layers]
    apart = ROWS * max(*ld, *ld_in)
    deltas = take(2 * apart)
    zeros, scratch = take(max(*ld, *ld_in)), take(max(3 * _up(widest, LANES), net.p + LANES))
    targets, questions = take(slots * ROWS * columns), take(slots * ROWS * ld_in[0])
    inputs = [questions, *outputs[:-1]]
    table = np.array([fan_in, fan_out, ld_in, ld, weights, biases, transposed, inputs, outputs], np.int64).T.copy()
    relu = net.activation == "relu"
    line = _up(widest, LANES)
    plan = Plan(table, narrow, relu, net.bias, size, zeros, deltas, apart, targets, columns, scratch, line, stay)
    return plan, end


def _aligned(length: int) -> np.ndarray:
    """Zeros that begin at a cache line: a register's load must not straddle two."""
    block = np.zeros(length + LANES, np.float32)
    shift = -block.ctypes.data % (4 * LANES) // 4
    return block[shift : shift + length]


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _heads(heads: Sequence[Head]) -> tuple[np.ndarray, np.ndarray]:
    """Heads as the kernel reads them: `(heads, 4)` whole numbers, and weights."""
    each = [(_KINDS[h.loss], z.start, h.outputs, y.start) for h, z, y in head_slices(heads)]
    return np.array(each, np.int64), np.array([h.weight for h in heads], np.float64)


def _rule(work: Work) -> Rule:
    """Optimiser and limits as the kernel reads them."""
    o, clip = work.optimizer, float(work.clip or 0.0)
    stop = -math.inf if work.stop_loss is None else float(work.stop_loss)
    if isinstance(o, Adam):
        decay = float(getattr(o, "decay", 0.0))
        return Rule(kernel.ADAM, float(o.betas[0]), float(o.betas[1]), float(o.eps), decay, clip, stop)
    return Rule(kernel.SGD, float(o.momentum), 0.0, 0.0, 0.0, clip, stop)
