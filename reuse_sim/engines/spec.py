"""What a population is trained on and how, in terms that every engine understands.

Shapes: N networks of p parameters, c of them in a chunk, n questions of d inputs, t target columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from reuse_sim.errors import InputError

LossKind = Literal["squared", "logistic", "cross_entropy"]
Schedule = Literal["cosine", "linear", "constant"]

BLOCK = 50
"""Steps whose questions are drawn at once. Part of what a seed means: fresh questions come in such blocks."""


class Network(Protocol):
    """Any differentiable network: a pure function of its flat θ. `nets.Mlp` is one, and the fast one."""

    @property
    def p(self) -> int:
        """Number of parameters."""
        ...

    def forward(self, theta: Tensor, x: Tensor) -> Tensor:
        """Outputs `(n, out)` of θ `(p,)` on questions `(n, d)`."""
        ...


# Losses ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Head:
    """`outputs` neighbouring outputs z of a network with a loss of their own, a mean over questions times `weight`.

    `squared` is (z − y)² and `logistic` log(1 + eᶻ) − y z with y in [0, 1], both averaged over outputs too;
    `cross_entropy` is log Σ eᶻ − z_y, y the number of the class: one column of targets. The loss of a network
    is the sum over its heads, which lie side by side in its outputs, and their targets in those of y.
    """

    loss: LossKind = "squared"
    outputs: int = 1
    weight: float = 1.0

    @property
    def targets(self) -> int:
        """Columns of y that this head is compared with."""
        return 1 if self.loss == "cross_entropy" else self.outputs


def head_slices(heads: Sequence[Head]) -> list[tuple[Head, slice, slice]]:
    """Each head with its outputs and its columns of targets."""
    out, z, y = [], 0, 0
    for head in heads:
        out.append((head, slice(z, z + head.outputs), slice(y, y + head.targets)))
        z, y = z + head.outputs, y + head.targets
    return out


# Optimisers ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sgd:
    """v ← momentum v + g, θ ← θ − rate v, as `torch.optim.SGD`."""

    rate: float
    momentum: float = 0.0


@dataclass(frozen=True)
class Adam:
    """Kingma & Ba 2015, as `torch.optim.Adam`."""

    rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam after θ ← (1 − rate · decay) θ (Loshchilov & Hutter 2019), as `torch.optim.AdamW`."""

    decay: float = 0.01


Optimizer = Sgd | Adam


def rates(rate: float, schedule: Schedule, steps: int) -> list[float]:
    """The learning rate of every step: half a cosine or a line from `rate` to 0, or `rate` throughout."""
    share = {
        "cosine": lambda s: 0.5 * (1 + math.cos(math.pi * s)),
        "linear": lambda s: 1.0 - s,
        "constant": lambda s: 1.0,
    }[schedule]
    return [rate * share(step / steps) for step in range(steps)]


@dataclass(frozen=True)
class Work:
    """How every network of a population is trained.

    At each step a network whose loss or gradient is not finite is broken, and one whose loss is at most
    `stop_loss` has stopped: both keep their θ, the others go on. Gradients g become g · clip / max(‖g‖, clip),
    each network's by itself, before the optimiser sees them.
    """

    net: Network
    heads: tuple[Head, ...]
    optimizer: Optimizer
    clip: float | None = None
    stop_loss: float | None = None


# Questions -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """The questions of one block of steps for the c networks of a chunk.

    x `(c or 1, r, d)` and y `(c or 1, r, t)`; 1 means shared by all. Step k of the block asks rows
    `index[:, k]` where there is an index `(c, steps, batch)`, else rows `k·batch` to `(k+1)·batch` where there
    is a batch, else all rows.
    """

    x: Tensor
    y: Tensor
    index: Tensor | None = None
    batch: int | None = None

    @property
    def asked(self) -> int:
        """Questions of one step."""
        if self.index is not None:
            return self.index.shape[2]
        return self.batch or self.x.shape[1]

    def step(self, k: int) -> tuple[Tensor, Tensor]:
        """x `(c or 1, b, d)` and y `(c or 1, b, t)` of step k."""
        if self.index is not None:
            return _pick(self.x, self.index[:, k]), _pick(self.y, self.index[:, k])
        if self.batch is None:
            return self.x, self.y
        rows = slice(k * self.batch, (k + 1) * self.batch)
        return self.x[:, rows], self.y[:, rows]

    def of(self, members: Sequence[int]) -> Rows:
        """The questions of some of the networks, in the order given."""
        x, y = (t if len(t) == 1 else t[list(members)] for t in (self.x, self.y))
        return Rows(x, y, None if self.index is None else self.index[list(members)], self.batch)


def _pick(table: Tensor, rows: Tensor) -> Tensor:
    """`(c, b, d)` from a table `(c or 1, n, d)` and row numbers `(c, b)`."""
    n = table.shape[1]
    if len(table) > 1:
        rows = rows + torch.arange(0, len(table) * n, n, device=rows.device)[:, None]
    return table.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, rows.shape)


class Questions(Protocol):
    """Where a population's questions come from."""

    def block(self, members: slice) -> Rows:
        """The next BLOCK steps' questions of these networks; called once per block, in order of steps."""
        ...


@dataclass(frozen=True)
class Fixed:
    """The same questions throughout: x `(n, d)` or `(N, n, d)`, y `(n, t)` or `(N, n, t)`.

    With `batch`, every step takes so many rows, drawn with replacement from the network's own generator.
    """

    x: Tensor
    y: Tensor
    batch: int | None = None
    generators: Sequence[torch.Generator] = ()

    def block(self, members: slice) -> Rows:
        x, y = (t.unsqueeze(0) if t.dim() == 2 else t[members] for t in (self.x, self.y))
        if self.batch is None:
            return Rows(x, y)
        n = x.shape[1]
        draws = [torch.randint(n, (BLOCK, self.batch), generator=g, device=g.device) for g in self.generators[members]]
        return Rows(x, y, torch.stack(draws).to(x.device))


@dataclass(frozen=True)
class Fresh:
    """New questions at every step: `draw(members, n)` gives x `(c, n, d)` and y `(c, n, t)`.

    Each network's draws must depend on its own generator alone, so that chunks do not matter.
    """

    draw: Callable[[slice, int], tuple[Tensor, Tensor]]
    batch: int

    def block(self, members: slice) -> Rows:
        x, y = self.draw(members, BLOCK * self.batch)
        return Rows(x, y, batch=self.batch)


# Engines ---------------------------------------------------------------------------------------------


class State(Protocol):
    """A chunk of c networks under way; networks by their position in the chunk."""

    @property
    def loss(self) -> Tensor:
        """The last loss `(c,)` that was computed, NaN before the first step."""
        ...

    @property
    def stopped(self) -> Mapping[int, int]:
        """Which networks met `stop_loss`, and at which step."""
        ...

    @property
    def broken(self) -> Mapping[int, int]:
        """Whose loss or gradient was not finite, and at which step."""
        ...


class Engine(Protocol):
    """A module that trains chunks of networks."""

    NAME: str
    CHUNK: int
    """Networks of a chunk on the CPU; with several threads up to `CROWD`, where an engine has it."""

    def unsupported(self, work: Work, dtype: torch.dtype, device: torch.device) -> str:
        """Why this engine cannot do it, in a sentence; empty where it can."""
        ...

    def start(self, work: Work, theta: Tensor) -> Any:
        """The `State` of one chunk that begins at θ `(c, p)`."""
        ...

    def advance(self, state: Any, rows: Rows, first: int, steps: range, rates: Sequence[float]) -> None:
        """Take `steps`; step s asks `rows.step(s - first)` and has the rate `rates[s]`."""
        ...

    def theta(self, state: Any) -> Tensor:
        """θ `(c, p)` as it stands."""
        ...

    def value_and_grad(
        self, net: Any, heads: tuple[Head, ...], x: Tensor, y: Tensor
    ) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """A function from θ `(C, p)` to losses `(C,)` and gradients `(C, p)` on x `(n, d)` or `(C, n, d)`."""
        ...


def need(fine: bool, where: str, got: object, expected: str, do: str = "") -> None:
    """Raise InputError unless `fine`."""
    if not fine:
        raise InputError(where, got, expected, do)
