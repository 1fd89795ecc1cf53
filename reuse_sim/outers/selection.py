"""Which questions to have answered when labels are few: policies that see a first third answered and choose the rest.

A committee of small networks learns the first, random third; each policy ranks the other questions of a pool by what
the committee says of them (mean μ, standard deviation σ over its members) and takes the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from reuse_sim.engines.spec import Adam, Fixed, Head
from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.train import train
from reuse_sim.types import World

Policy = Literal["random", "uncertain", "threshold", "disagreement", "hard", "easy"]
POOL, FIRST = 8, 3
"""Questions in the pool per label; the share of labels that go to random ones, as a divisor."""
MEMBERS, WIDTH, STEPS, RATE = 5, 32, 300, 0.02
THRESHOLD = 0.99
"""The probability at which a yes is accepted."""


def scores(policy: Policy, mean: Tensor, sd: Tensor, human: Tensor, classification: bool) -> Tensor:
    """How much each question is wanted, all shapes `(…, n)`.

    - `uncertain`: σ; in a classification −|μ|, the answers being −1 to 1 (Lewis & Gale 1994).
    - `threshold`: the straddle 1.96 σ − |μ − t| with t the answer of probability .99 (Bryan et al. 2005).
    - `disagreement`: |μ − H|, what the committee and the human answer differently.
    - `hard`, `easy`: smallest and largest margin |μ| (Sorscher et al. 2022).

    Raises InputError for a policy that needs a classification elsewhere.
    """
    if policy in ("threshold", "hard", "easy") and not classification:
        raise InputError("training.chosen", policy, "random, uncertain or disagreement, where answers are numbers")
    if policy == "uncertain":
        return -mean.abs() if classification else sd
    if policy == "threshold":
        return 1.96 * sd - (mean - (2 * THRESHOLD - 1)).abs()
    if policy == "disagreement":
        return (mean - human).abs()
    if policy == "hard":
        return -mean.abs()
    if policy == "easy":
        return mean.abs()
    raise InputError("training.chosen", policy, " or ".join(get_args(Policy)))


def choose(
    policy: Policy, world: World, x: Tensor, truth: Tensor, human: Tensor, budget: int,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Positions `(H, budget)` of the questions to label among x `(H, P, d)`, the first random for every policy.

    Args:
        truth: what an answer would say, `(H, P)`; only chosen ones are looked at.
        human: what the human answers, `(H, P)`.
        generators: one per human; the random policy and the first third of all others draw the same questions.
    """
    if budget > x.shape[1]:
        raise InputError("training.labels_n", budget, f"at most the pool's {x.shape[1]} questions")
    order = torch.stack([torch.randperm(x.shape[1], generator=g) for g in generators])
    first = max(1, budget // FIRST)
    if policy == "random" or first == budget:
        return order[:, :budget]
    mean, sd = committee(world, x, truth, order[:, :first], generators)
    wanted = scores(policy, mean, sd, human, world.kind == "classification")
    wanted = wanted.scatter(1, order[:, :first], -torch.inf)
    return torch.cat([order[:, :first], wanted.topk(budget - first, dim=1).indices], dim=1)


def committee(
    world: World, x: Tensor, truth: Tensor, known: Tensor, generators: Sequence[torch.Generator]
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation `(H, P)` of what MEMBERS networks say that learned the `known` `(H, k)` of x."""
    net, classification = Mlp((world.d, WIDTH, 1), "tanh"), world.kind == "classification"
    theta = torch.cat([net.init([g] * MEMBERS) for g in generators])
    seen = torch.stack([q[k] for q, k in zip(x, known, strict=True)]).repeat_interleave(MEMBERS, 0)
    told = truth.gather(1, known).repeat_interleave(MEMBERS, 0).unsqueeze(-1)
    head = Head("logistic") if classification else Head()
    target = (told + 1) / 2 if classification else told
    theta = train(net, theta, Fixed(seen, target), steps=STEPS, optimizer=Adam(RATE), heads=(head,)).theta
    said = net.forward(theta.unflatten(0, (len(x), MEMBERS)), x.unsqueeze(1))[..., 0]
    said = torch.tanh(said / 2) if classification else said
    return said.mean(1), said.std(1)
