"""Copies of one network: hidden units in another order, or with both their signs turned.

The copies form a group that leaves reference and cost alone. Each θ has one copy nearest to a chosen
centre; those nearest copies form a cell whose images under the group cover the space once. A mass
over the whole space is therefore the number of copies times the mass inside the cell, and draws
moved into the cell can be described by one Gaussian where the whole posterior has 2^h h! humps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from reuse_sim.nets import Mlp


@dataclass(frozen=True)
class Symmetry:
    """Interchangeable units: `units` `(h, k)` holds the positions in θ of each unit's k parameters.

    `signed`: a unit with all its parameters negated does the same (odd activation).
    """

    units: Tensor
    signed: bool

    @property
    def log2_copies(self) -> float:
        """log₂(h! 2^h), or log₂ h! without signs."""
        h = len(self.units)
        return math.lgamma(h + 1) / math.log(2) + (h if self.signed else 0)

    def align(self, theta: Tensor, centre: Tensor) -> Tensor:
        """Each θ's copy nearest to `centre` `(d,)` in Euclidean distance, `(n, d)`.

        Distances mean what they should in whitened coordinates, where the group turns space rigidly.
        """
        dots = torch.einsum("nik,jk->nij", theta[:, self.units], centre[self.units])
        value = dots.abs() if self.signed else dots
        # Row j of the assignment: which of the units goes to place j.
        places = np.stack([linear_sum_assignment(-v.T)[1] for v in value.numpy()])
        order = torch.from_numpy(places).unsqueeze(-1)
        moved = theta[:, self.units].take_along_dim(order, 1)
        if self.signed:
            signs = dots.transpose(1, 2).take_along_dim(order, 2)
            moved = moved * torch.where(signs < 0, -1.0, 1.0).to(theta.dtype)
        aligned = theta.clone()
        aligned[:, self.units] = moved
        return aligned

    def inside(self, theta: Tensor, centre: Tensor) -> Tensor:
        """Whether θ `(n, d)` is its own nearest copy, `(n,)`."""
        return (self.align(theta, centre) == theta).all(-1)

    def centre(self, theta: Tensor, rounds: int = 10) -> Tensor:
        """A centre `(d,)` about which copies of θ `(n, d)` lie close: their mean, aligned anew each round."""
        centre = theta[0]
        for _ in range(rounds):
            centre = self.align(theta, centre).mean(0)
        return centre


def of_net(net: Mlp) -> Symmetry | None:
    """The copies of a perceptron with one hidden layer; None without a hidden layer.

    Networks with more are given None too: their figures hold for all copies that the method visits.
    """
    if len(net.sizes) != 3:
        return None
    position = {f.name: torch.arange(net.p)[f.slice].unflatten(0, f.shape) for f in net.fields}
    parts = [position["weight0"], position["weight1"].T]
    if net.bias:
        parts.insert(1, position["bias0"].unsqueeze(1))
    return Symmetry(torch.cat(parts, 1), signed=net.activation == "tanh")
