"""An answer policy from a few labels: a small head on what an outer model computes already, and how many it takes.

The outer stays as it is. A head reads, beside the question and 1, the outer's units z or the human's answer as the
outer predicts it, with ReLU units and a linear skip; or it reads that prediction P alone, as a P + b. What leads to its
answer begins at 0. Heads are stacked: N of them, each with its own questions, labels and number of those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from reuse_sim.nets import Mlp
from reuse_sim.outers import blocks
from reuse_sim.outers.context import Context
from reuse_sim.train import descend
from reuse_sim.types import Access, Fit, World

Way = Literal["units", "prediction", "readout"]
"""What a head reads: the question and z; the question and the predicted human answer; that alone."""
WAYS: tuple[Way, ...] = get_args(Way)
READS: dict[Way, tuple[bool, bool, bool, bool]] = {
    "units": (True, True, False, True),
    "prediction": (True, False, True, True),
    "readout": (False, False, True, True),
}
"""Whether each reads the question, z, the prediction, and 1."""
CLIP = 10.0


def inputs(outer: Context, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access) -> Tensor:
    """What heads may read of questions x `(A, H, n, d)`: x, z, the prediction and 1, `(A, H, n, d + width + 2)`."""
    with torch.no_grad():
        z = outer.hidden(world, net, theta, x, access)[..., -outer.width :]
        predicted = outer.answer(world, net, theta, x, access)[1].unsqueeze(-1)
    return torch.cat([x.expand(*z.shape[:3], -1), z, predicted, torch.ones_like(predicted)], dim=-1)


@dataclass(frozen=True)
class Heads:
    """Heads of `width` ReLU units over d + z + 2 inputs, each reading in its own way `(N,)`, a position in `WAYS`."""

    d: int
    z: int
    width: int
    way: Tensor

    @property
    def _layout(self) -> blocks.Layout:
        size = self.d + self.z + 2
        return {"trunk": ((self.width, size), (2 / size) ** 0.5), "heads": ((1, self.width), 0.0),
                "skip": ((1, size), 0.0)}  # fmt: skip

    def init(self, generators: Sequence[torch.Generator]) -> Tensor:
        """`(N, p)`, one generator each."""
        return blocks.init(self._layout, generators)

    def answer(self, theta: Tensor, read: Tensor) -> Tensor:
        """Answers `(N, n)` to `inputs` `(N, n, d + z + 2)`."""
        v, parts = blocks.views(self._layout, theta), torch.tensor([self.d, self.z, 1, 1])
        seen = torch.tensor(list(READS.values()), dtype=read.dtype)[self.way].repeat_interleave(parts, dim=-1)
        read = (read * seen.unsqueeze(1)).transpose(-1, -2)
        units = torch.relu(v["trunk"] @ read) * (self.way != WAYS.index("readout"))[:, None, None]
        return (v["heads"] @ units + v["skip"] @ read).squeeze(-2)


def learn(
    heads: Heads,
    read: Tensor,
    labels: Tensor,
    counts: Tensor,
    who: Tensor,
    steps: int,
    rate: float,
    batch: int,
    start: Sequence[torch.Generator],
    generator: torch.Generator,
) -> Fit:
    """Heads that learn by Adam, head i the first `counts[i]` of its labelled questions, drawn with replacement.

    Args:
        read: `inputs` `(K, m, d + z + 2)` of K sets of labelled questions.
        labels: what is said of them, `(K, m)`.
        counts: how many labels each head has, `(N,)`.
        who: whose set each head learns, positions in K, `(N,)`.
        start: one generator per head.
        generator: draws the batches, which lie in the same places of everybody's questions.
    """

    def loss(theta: Tensor, step: int) -> Tensor:
        chosen = (torch.rand(batch, generator=generator) * counts.unsqueeze(-1)).long()
        x, y = read[who.unsqueeze(-1), chosen], labels[who.unsqueeze(-1), chosen]
        return (heads.answer(theta, x) - y).square().mean(-1)

    return descend(loss, heads.init(start), steps=steps, rate=rate, clip=CLIP)


# How many it takes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reached:
    """log₂ of the examples that it takes, between `low` and `high`: equal where it is known, else a bound."""

    low: float
    high: float

    @property
    def known(self) -> bool:
        return self.low == self.high


def reached(counts: Sequence[int], excess: Sequence[float]) -> Reached:
    """From which number of examples on the error stays within the tolerance.

    `excess` is the error over the tolerance at each of `counts`, ascending. Between the last one that is more than 1
    and the next, log excess is a line in log count. If none is, it takes at most the fewest; if the last one is, more
    than the most.
    """
    beyond = [i for i, e in enumerate(excess) if not e <= 1]
    if not beyond:
        return Reached(-math.inf, math.log2(counts[0]))
    i = beyond[-1]
    if i == len(counts) - 1:
        return Reached(math.log2(counts[-1]), math.inf)
    a, b = (math.log(max(e, 1e-300)) for e in excess[i : i + 2])
    share = a / (a - b) if math.isfinite(a) else 1.0
    at = (1 - share) * math.log2(counts[i]) + share * math.log2(counts[i + 1])
    return Reached(at, at)


def fewest(ways: Sequence[Reached]) -> Reached:
    """The least of several."""
    return min(ways, key=lambda r: (r.high, r.low))


def ratio(of: Reached, to: Reached) -> tuple[float, float]:
    """Between which two numbers the ratio of their examples lies: 0 and infinity where nothing is known."""
    return 2.0 ** (of.low - to.high), 2.0 ** (of.high - to.low)
