"""A human's outputs as outer models predict them: its answers, and the first k of its other behaviours."""

from __future__ import annotations

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp, first_logit, first_output
from reuse_sim.types import Outer, World


def count(outer: Outer) -> int:
    """k, how many behaviours the outer predicts beside the answers."""
    return getattr(outer, "behaviours", 0)


def check(world: World, net: Mlp, k: int) -> None:
    """Raises InputError where humans of that architecture do less than k things beside answering."""
    own = world.human_answer in (first_output, first_logit)  # elsewhere answers take all outputs there are
    has = net.sizes[-1] - 1 if own else 0
    if k > has:
        expected = f"at most {has}, what these humans do beside answering"
        raise InputError("outer.behaviours", k, expected, f"Set human.behaviours: {k}, or outer.behaviours: {has}.")


def of_human(world: World, net: Mlp, theta_human: Tensor, x: Tensor, k: int) -> Tensor:
    """Answers and k behaviours `(…, 1 + k, n)` of θ2 `(…, p2)` to x `(…, n, d)`."""
    answers = world.human_answer(net, theta_human, x).unsqueeze(-2)
    if not k:
        return answers
    check(world, net, k)
    does = net.forward(theta_human, x)[..., 1 : 1 + k]
    return torch.cat([answers, does.transpose(-1, -2)], dim=-2)


def apart(outputs: Tensor) -> tuple[Tensor, ...]:
    """Outputs `(…, 1 + k, n)` as answers `(…, n)` and, where there are any, behaviours `(…, k, n)`."""
    answers, does = outputs[..., 0, :], outputs[..., 1:, :]
    return (answers, does) if does.shape[-2] else (answers,)
