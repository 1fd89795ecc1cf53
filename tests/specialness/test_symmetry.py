"""Copies of a network: counted, moved into one cell, and none of them missed."""

from __future__ import annotations

import math
from itertools import permutations, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.specialness import symmetry
from reuse_sim.specialness.symmetry import Symmetry


def copies_of(theta: torch.Tensor, s: Symmetry) -> torch.Tensor:
    """All copies of one θ, by enumeration."""
    out = []
    for order in permutations(range(len(s.units))):
        for signs in product((1, -1), repeat=len(s.units)) if s.signed else [(1,) * len(s.units)]:
            copy = theta.clone()
            copy[s.units] = theta[s.units][list(order)] * torch.tensor(signs)[:, None]
            out.append(copy)
    return torch.stack(out)


NETS = [Mlp((2, 3, 1), "tanh"), Mlp((2, 3, 1), "relu"), Mlp((4, 2, 2), "tanh", bias=False)]


def test_counts() -> None:
    assert symmetry.of_net(Mlp((4, 6, 1), "tanh")).log2_copies == pytest.approx(math.log2(720 * 64), abs=1e-12)
    assert symmetry.of_net(Mlp((4, 6, 1), "relu")).log2_copies == pytest.approx(math.log2(720), abs=1e-12)
    assert symmetry.of_net(Mlp((10, 1), bias=False)) is None


@pytest.mark.parametrize("net", NETS)
@given(seed=st.integers(0, 2**30))
def test_copies_answer_alike_and_the_aligned_one_is_the_nearest(net: Mlp, seed: int) -> None:
    s = symmetry.of_net(net)
    g = stream(seed, "net")
    theta, centre = torch.randn(2, net.p, generator=g, dtype=torch.float64)
    x = torch.randn(5, net.sizes[0], generator=g, dtype=torch.float64)
    copies = copies_of(theta, s)
    assert math.log2(len(copies)) == pytest.approx(s.log2_copies, abs=1e-9)
    torch.testing.assert_close(net.forward(copies, x), net.forward(theta, x).expand(len(copies), -1, -1))

    aligned = s.align(copies, centre)
    nearest = copies[(copies - centre).norm(dim=1).argmin()]
    torch.testing.assert_close(aligned, nearest.expand_as(aligned), rtol=0, atol=0)
    assert int(s.inside(copies, centre).sum()) == 1


@pytest.mark.parametrize("net", NETS)
def test_a_symmetric_measure_puts_one_copy_s_share_into_the_cell(net: Mlp) -> None:
    s = symmetry.of_net(net)
    theta, centre = (torch.randn(n, net.p, generator=stream(n, "theta")) for n in (20_000, 1))
    share, expected = s.inside(theta, centre[0]).double().mean().item(), 2**-s.log2_copies
    assert abs(share - expected) < 4 * (expected / 20_000) ** 0.5


def test_the_centre_draws_copies_together() -> None:
    net = Mlp((2, 3, 1), "tanh")
    s, g = symmetry.of_net(net), stream(0, "net")
    base = torch.randn(net.p, generator=g, dtype=torch.float64)
    copies = copies_of(base, s) + 0.02 * torch.randn(48, net.p, generator=g, dtype=torch.float64)
    centre = s.centre(copies)
    assert (copies_of(base, s) - centre).norm(dim=1).min() < 5 * 0.02 * (net.p / 48) ** 0.5
    assert (s.align(copies, centre) - centre).norm(dim=1).max() < 6 * 0.02 * net.p**0.5
