"""Which part of θ2 answers questions, and which is there for the human's other behaviour.

Hidden units are taken out one after the other, always the one whose loss changes the answers least, as long as what is
left still answers as the whole human does (R² ≥ KEEPS on-distribution). A unit is taken out by holding it at its mean.
What is left, with the output that answers, is the part that answering needs; the other outputs never belong to it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reuse_sim.nets import Mlp

KEEPS = 0.99


def answering_share(net: Mlp, theta: Tensor, x: Tensor) -> Tensor:
    """Share of θ2 `(M, p)` that answering questions x `(M, n, d)` needs: `(M,)`, in (0, 1].

    1 for networks without hidden units, all of whose parameters answer.
    """
    hidden = list(net.sizes[1:-1])
    if not hidden:
        return torch.ones(len(theta))
    theta, x = theta.double(), x.double()
    whole = net.layers(theta, x)
    means = [h.mean(-2) for h in whole[:-1]]
    spread = whole[-1][..., 0].var(-1, correction=0).clamp_min(1e-300)
    there = torch.ones(len(theta), sum(hidden), dtype=torch.bool)
    going = torch.ones(len(theta), dtype=torch.bool)
    while going.any():
        errors = torch.full(there.shape, torch.inf, dtype=theta.dtype)
        for unit in range(there.shape[1]):
            left = there.clone()
            left[:, unit] = False
            rest = net.forward(held(net, theta, means, left), x)[..., 0] - whole[-1][..., 0]
            lost = rest.square().mean(-1) / spread
            errors[:, unit] = torch.where(there[:, unit], lost, torch.inf)
        least, unit = errors.min(-1)
        going &= least <= 1 - KEEPS
        there[going, unit[going]] = False
    return parameters(net, there) / net.p


def held(net: Mlp, theta: Tensor, means: list[Tensor], there: Tensor) -> Tensor:
    """θ `(M, p)` of the same networks with the units that are not `there` `(M, units)` held at their `means`.

    Their outgoing weights become 0 and what they send on average goes into the next bias, where there is one.
    """
    theta = theta.clone()
    views = net.views(theta)
    for layer, (mean, here) in enumerate(zip(means, there.split(list(net.sizes[1:-1]), dim=-1), strict=True)):
        weight, gone = views[f"weight{layer + 1}"], ~here
        if net.bias:
            views[f"bias{layer + 1}"] += (weight @ (mean * gone).unsqueeze(-1)).squeeze(-1)
        weight *= here.unsqueeze(-2)
    return theta


def parameters(net: Mlp, there: Tensor) -> Tensor:
    """How many parameters lead through the units that are `there` `(M, units)` to the first output: `(M,)`."""
    counts = [torch.full((len(there),), net.sizes[0])]
    counts += [here.sum(-1) for here in there.split(list(net.sizes[1:-1]), dim=-1)]
    counts.append(torch.ones(len(there), dtype=torch.long))
    return sum(
        (after * (before + net.bias) for before, after in zip(counts, counts[1:], strict=False)),
        torch.zeros(len(there), dtype=torch.long),
    )
