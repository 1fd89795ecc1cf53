"""Prequential codes of a network's answers: each block foretold by a learner of the blocks before (Dawid 1984).

Answers y to n questions that both sides know come in blocks that double. The learner that foretells a block has been
trained, from its start, on all answers before it, and both sides train it. What a start knows, from another network
say, the code need not say again: K(y | start). The code's length holds what is to be learned and what the learner
wastes; it can exceed the shortest description of the network many times over, and differences of starts are its use.

**Precision.** Answers have normal noise of variance `noise`, fixed, and are told in cells of width √(2π · noise): an
answer costs (y − ŷ)²/(2 noise ln 2) bits, and one foretold exactly costs none. So a block's length is −log₂ of the
likelihood of its answers, in units of that of an answerer who knows them. Where answers are yes or no (0 or 1), it is
−log₂ of what the learner gave the right ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from reuse_sim.engines.spec import Adam, Fresh, Head, LossKind, Network, need
from reuse_sim.train import train

LN2 = math.log(2)


def ends(first: int, n: int) -> tuple[int, ...]:
    """Where blocks end: `first`, twice that, four times, …, n. Raises InputError unless 1 ≤ first ≤ n."""
    need(1 <= first <= n, "first", first, f"from 1 to n = {n}, answers in the first block")
    out = [first]
    while out[-1] < n:
        out.append(min(2 * out[-1], n))
    return tuple(out)


def foretold(
    student: Network,
    starts: Tensor,
    x: Tensor,
    y: Tensor,
    generators: Sequence[torch.Generator],
    *,
    first: int = 16,
    steps: int = 400,
    rate: float = 0.01,
    batch: int = 32,
    loss: LossKind = "squared",
) -> Tensor:
    """Outputs `(N, n)` for each answer by the learner that had seen the blocks before it; all are trained side by side.

    Args:
        starts: where N learners begin, `(N, p)`; the first block is foretold by these.
        x: questions `(N, n, d)`; `y`: their answers `(N, n)`.
        generators: one per learner, for the batches.
        first: answers in the first block.
        steps: of Adam from `rate` down to 0 along half a cosine, before each block anew.
        batch: answers of a step, drawn with replacement from those seen.
    """
    n = x.shape[1]
    seen = ends(first, n)[:-1]
    told = y.unsqueeze(-1)
    outputs = torch.empty_like(y)
    outputs[:, :first] = _ask(student, starts, x[:, :first])
    if not seen:
        return outputs
    # Learner i before block k is network i · blocks + k.
    known = torch.tensor(seen).repeat(len(starts))
    own = [torch.Generator().manual_seed(int(s)) for g in generators
           for s in torch.randint(2**62, (len(seen),), generator=g)]

    def draw(members: slice, count: int) -> tuple[Tensor, Tensor]:
        u = torch.stack([torch.rand(count, generator=g, dtype=torch.float64) for g in own[members]])
        rows = (u * known[members, None]).long().unsqueeze(-1)
        which = torch.arange(len(known))[members] // len(seen)
        return tuple(t[which].gather(1, rows.expand(-1, -1, t.shape[-1])) for t in (x, told))  # type: ignore[return-value]

    begun = starts.repeat_interleave(len(seen), 0)
    fit = train(student, begun, Fresh(draw, batch), steps=steps, optimizer=Adam(rate), heads=(Head(loss),))
    learned = fit.theta.unflatten(0, (len(starts), len(seen)))
    for k, (begin, end) in enumerate(zip(seen, ends(first, n)[1:], strict=True)):
        outputs[:, begin:end] = _ask(student, learned[:, k], x[:, begin:end])
    return outputs


def normal_bits(y: Tensor, foretold: Tensor, noise: float) -> Tensor:
    """Bits of each answer, (y − ŷ)²/(2 noise ln 2): one foretold exactly costs none."""
    return (y - foretold).square() / (2 * noise * LN2)


def logistic_bits(y: Tensor, logit: Tensor) -> Tensor:
    """Bits of each answer y, 0 or 1: −log₂ σ(z) of a yes, −log₂ σ(−z) of a no."""
    return torch.nn.functional.softplus(torch.where(y > 0.5, -logit, logit)) / LN2


def blocks(bits: Tensor, first: int) -> Tensor:
    """Bits `(…, n)` summed over blocks: `(…, blocks)`."""
    at = [0, *ends(first, bits.shape[-1])]
    return torch.stack([bits[..., a:b].sum(-1) for a, b in zip(at, at[1:], strict=False)], dim=-1)


def mixture(blocks: Tensor) -> Tensor:
    """Bits `(…, blocks)` by a Bayes mixture of J codes `(J, …, blocks)`, all alike again at each block.

    −log₂ mean of 2^−bits: in every block at most log₂ J worse than the best of them, so that one code may lead at first
    and another later. A start that misleads costs a bit a block, and no more.
    """
    return -(torch.logsumexp(-blocks * LN2, dim=0) - math.log(len(blocks))) / LN2


def taught(
    student: Network,
    starts: Tensor,
    x: Tensor,
    y: Tensor,
    generators: Sequence[torch.Generator],
    *,
    steps: int = 1000,
    rate: float = 0.01,
    batch: int = 32,
    loss: LossKind = "squared",
) -> Tensor:
    """Starts `(N, p)` for learners who know another network: taught as many of its answers `(N, n)` as one likes."""
    def draw(members: slice, count: int) -> tuple[Tensor, Tensor]:
        rows = torch.stack([torch.randint(x.shape[1], (count, 1), generator=g) for g in generators[members]])
        return tuple(t[members].gather(1, rows.expand(-1, -1, t.shape[-1])) for t in (x, y.unsqueeze(-1)))  # type: ignore[return-value]

    return train(student, starts, Fresh(draw, batch), steps=steps, optimizer=Adam(rate), heads=(Head(loss),)).theta


def _ask(student: Network, theta: Tensor, x: Tensor) -> Tensor:
    return student.forward(theta, x)[..., 0]
