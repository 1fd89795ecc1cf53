"""Copies of a network: how many there are, and that their choice tells a number."""

from __future__ import annotations

import itertools
import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_sim.ledger import copies
from reuse_sim.nets import Mlp
from reuse_sim.specialness import symmetry

UNIT = st.tuples(st.integers(-1, 1).map(float), st.integers(-1, 1).map(float))


@settings(deadline=None, max_examples=60)
@given(st.lists(UNIT, min_size=1, max_size=4), st.booleans())
def test_every_number_has_a_copy_of_its_own(units: list[tuple[float, ...]], signed: bool) -> None:
    n = copies.count(units, signed)
    hidden = [copies.hide(units, signed, k) for k in range(n)]
    assert len({tuple(h) for h in hidden}) == n
    assert [copies.found(h, signed) for h in hidden] == list(range(n))
    # All that can be reached by orders and signs, by enumeration.
    turned = itertools.product((1, -1) if signed else (1,), repeat=len(units))
    reached = {tuple(tuple(s * v + 0.0 for v in units[i]) for s, i in zip(signs, order, strict=True))
               for signs in turned for order in itertools.permutations(range(len(units)))}
    assert {tuple(tuple(v + 0.0 for v in u) for u in h) for h in hidden} == reached


def test_units_all_different_have_as_many_copies_as_the_symmetry_has() -> None:
    net = Mlp((3, 5, 1))
    group = symmetry.of_net(net)
    theta = torch.randn(net.p, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    units = [tuple(u) for u in theta[group.units].tolist()]
    assert math.isclose(math.log2(copies.count(units, group.signed)), group.log2_copies)
    assert copies.bits(units, group.signed) == int(group.log2_copies)
    # The net that the reader gets answers alike, and its order tells what was hidden.
    hidden = theta.clone()
    hidden[group.units] = torch.tensor(copies.hide(units, group.signed, 777), dtype=torch.float64)
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(net.forward(hidden[None], x), net.forward(theta[None], x))
    assert copies.found([tuple(u) for u in hidden[group.units].tolist()], group.signed) == 777
