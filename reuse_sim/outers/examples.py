"""The human's answers that an outer model is shown in its context, where it asks for some."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reuse_sim.nets import Mlp
from reuse_sim.types import Examples, Outer, World


def count(outer: Outer) -> int:
    """How many of a human's answers the outer asks for."""
    return getattr(outer, "examples", 0)


def shown(
    outer: Outer,
    world: World,
    net: Mlp,
    theta_human: Tensor,
    theta_teacher: Tensor,
    generators: Sequence[torch.Generator],
) -> Examples | None:
    """As many examples as the outer asks for, from where it asks for them; None where it asks for none.

    Args:
        theta_human: who answers, θ2 `(A, H, p2)`.
        theta_teacher: whose questions they are, θ1 `(H, p1)`; the swap leaves these as they are.
        generators: draw the questions, one per human.
    """
    if not count(outer):
        return None
    elsewhere = getattr(outer, "examples_from", "on_distribution") == "off_distribution"
    draw = world.off_distribution if elsewhere else world.on_distribution
    x = draw(theta_teacher, count(outer), generators)
    if getattr(outer, "examples_of", "human") == "teacher":
        return Examples(x, world.answer(theta_teacher, x).expand(len(theta_human), -1, -1))
    return Examples(x, world.human_answer(net, theta_human, x.expand(len(theta_human), *x.shape)))
