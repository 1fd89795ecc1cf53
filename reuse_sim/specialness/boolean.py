"""Networks over all of {0, 1}^n that compute one truth table: exact matches, which have no slope to follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.specialness import symmetry
from reuse_sim.specialness.problem import Problem
from reuse_sim.specialness.reference import DiagonalNormal

TABLES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "first": lambda x: x[:, 0] > 0,
    "and": lambda x: x.sum(1) == x.shape[1],
    "majority": lambda x: 2 * x.sum(1) > x.shape[1],
    "parity": lambda x: x.sum(1) % 2 == 1,
}
"""Functions of all questions `(2^n, n)` by name: the first bit, all bits on, more than half on, an odd number on."""


def questions(n: int) -> Tensor:
    """All of {0, 1}^n, `(2^n, n)`: row r holds the bits of r, the lowest first."""
    return (torch.arange(2**n).unsqueeze(1) >> torch.arange(n) & 1).double()


def truth_table(net: Mlp, theta: Tensor) -> Tensor:
    """What networks θ `(N, p)` answer to all questions: `(N, 2^n)`, true where the output is above 0."""
    return net.forward(theta, questions(net.sizes[0]).to(theta.dtype))[..., 0] > 0


def problem(n: int, table: str | Tensor, width: int = 8) -> Problem:
    """How special are ReLU networks n → width → 1 that compute `table`, one of `TABLES` or booleans `(2^n,)`?

    The reference draws weights from N(0, 1/fan_in) and biases from N(0, 1); C is the number of questions answered
    wrongly, and none may be. Raises InputError for a table that is neither.
    """
    if isinstance(table, str) and table not in TABLES:
        raise InputError("boolean: table", repr(table), f"one of {', '.join(TABLES)}, or booleans of length 2^n")
    x = questions(n)
    truth = TABLES[table](x) if isinstance(table, str) else table.bool()
    if truth.shape != (2**n,):
        raise InputError("boolean: table", f"shape {tuple(truth.shape)}", f"({2**n},), an answer to each question")
    net = Mlp((n, width, 1), "relu")
    sd = torch.ones(net.p, dtype=torch.float64)
    for f in net.fields:
        if f.name.startswith("weight"):
            sd[f.slice] = f.shape[1] ** -0.5

    def wrong(theta: Tensor) -> Tensor:
        return (truth_table(net, theta) != truth).sum(-1).double()

    def probe(theta: Tensor) -> Tensor:
        outputs = net.forward(theta, x)[..., 0]
        return outputs / outputs.norm(dim=-1, keepdim=True).clamp(min=1e-300)

    return Problem(
        dim=net.p,
        reference=DiagonalNormal(sd, f"weights N(0, 1/fan_in) and biases N(0, 1) of a relu {n}-{width}-1 network"),
        cost=wrong,
        tolerance=0.0,
        consistency=f"number of all {2**n} questions answered otherwise than by the table",
        smooth=False,
        probe=probe,
        symmetry=symmetry.of_net(net),
    )
