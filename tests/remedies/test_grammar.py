"""The law of random formulas: against convolutions by hand, and against formulas that are drawn."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from reuse_sim.errors import InputError
from reuse_sim.remedies import grammar
from reuse_sim.rng import stream


def variables(k: int) -> tuple[tuple[bool, ...], ...]:
    """k features on all 2^k points."""
    points = list(product((False, True), repeat=k))
    return tuple(tuple(point[i] for point in points) for i in range(k))


@pytest.mark.parametrize("name", ["conjunction", "disjunction", "exclusive"])
def test_pairs_are_convolved_as_by_hand(name: str) -> None:
    n = 4
    p = np.random.default_rng(0).dirichlet(np.ones(2**n))
    operator = {"conjunction": lambda a, b: a & b, "disjunction": lambda a, b: a | b, "exclusive": lambda a, b: a ^ b}
    expected = np.zeros(2**n)
    for a, b in product(range(2**n), repeat=2):
        expected[operator[name](a, b)] += p[a] * p[b]
    assert getattr(grammar, name)(p, n) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("leaf", "negation"), [(0.6, 0.1), (0.7, 0.0), (0.55, 0.3)])
def test_the_prior_solves_its_equation(leaf: float, negation: float) -> None:
    n, told = 4, variables(2)
    p = grammar.prior(told, leaf, negation).numpy()
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert (p > 0).sum() == (16 if negation else 8)  # without a not nothing is true where all variables are false
    right = negation * p[::-1]
    for a, b in product(range(2**n), repeat=2):
        for c in (a & b, a | b, a ^ b):
            right[c] += (1 - leaf - negation) / 3 * p[a] * p[b]
    for v in told:
        right[sum(1 << i for i, true in enumerate(v) if true)] += leaf / len(told)
    assert p == pytest.approx(right, abs=1e-12)


def test_formulas_that_are_drawn_have_these_frequencies() -> None:
    told, count = variables(3), 20_000
    g = stream(0, "formulas")
    leaves = [sum(1 << i for i, true in enumerate(v) if true) for v in told]

    def formula() -> int:
        u, choice = torch.rand(2, generator=g).tolist()
        if u < 0.65:
            return leaves[int(3 * choice)]
        if u < 0.85:
            return 255 - formula()
        a, b = formula(), formula()
        return (a & b, a | b, a ^ b)[int(3 * choice)]

    p = grammar.prior(told, 0.65, 0.2).numpy()
    found = np.bincount([formula() for _ in range(count)], minlength=256) / count
    often = p > 1e-3
    z = (found - p)[often] / np.sqrt(p * (1 - p) / count)[often]
    assert often.sum() > 20 and np.abs(z).max() < 4 and (z**2).mean() < 1.8


def test_tables_are_in_the_order_of_the_prior() -> None:
    assert grammar.tables(2).tolist() == [[False, False], [True, False], [False, True], [True, True]]
    only = grammar.prior(((True, False, False),), 1.0, 0.0)
    assert grammar.tables(3)[only.argmax()].tolist() == [True, False, False] and only.max() == 1


def test_formulas_without_end_are_refused() -> None:
    with pytest.raises(InputError, match="raise leaf"):
        grammar.prior(variables(2), 0.3, 0.1)
