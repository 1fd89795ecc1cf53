"""How likely a random formula is to compute each function: the prior of answer heads, summed over all formulas.

A formula is a variable with probability `leaf`, a negation with probability `negation`, else an and, or or xor of two
further formulas, each alike. P solves P = leaf · U + negation · P∘not + rest/3 · (P∧P + P∨P + P⊕P), where P∧P is the
law of the conjunction of two independent functions: products of sums over supersets, over subsets for ∨, and of
Walsh–Hadamard transforms for ⊕ (Yates 1937; Kennes 1992).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from reuse_sim.errors import InputError

Array = np.ndarray


@lru_cache
def prior(variables: tuple[tuple[bool, ...], ...], leaf: float = 0.6, negation: float = 0.1) -> Tensor:
    """P `(2^n,)` in float64 over all functions on n points, from the variables' values on them, `n` each.

    Function number k is true at point i where bit i of k is set; `tables(n)` has them all. They are right to about
    1e-15, absolutely. Raises InputError where formulas would not end, having one part or more on average.
    """
    parts = negation + 2 * (1 - leaf - negation)
    if not (leaf > 0 and negation >= 0 and leaf + negation <= 1 and parts < 0.95):
        raise InputError("grammar", f"leaf {leaf}, negation {negation}", "under 0.95 parts to a formula on average",
                         "raise leaf")
    n = len(variables[0])
    leaves = np.zeros(2**n)
    for v in variables:
        leaves[sum(1 << i for i, true in enumerate(v) if true)] += leaf / len(variables)
    p, each = np.zeros(2**n), (1 - leaf - negation) / 3
    while True:  # the mass of formulas of ever greater depth
        new = leaves + negation * p[::-1] + each * sum(pair(p, n) for pair in (conjunction, disjunction, exclusive))
        if np.abs(new - p).sum() < 1e-15 or new.sum() >= 1 - 1e-14:
            return torch.from_numpy(new.clip(min=0) / new.clip(min=0).sum())
        p = new


def tables(n: int) -> Tensor:
    """The values `(2^n, n)` of all functions on n points, in the order of `prior`."""
    return (torch.arange(2**n)[:, None] >> torch.arange(n)) & 1 == 1


def conjunction(p: Array, n: int) -> Array:
    """The law of a ∧ b for independent a, b of law p `(2^n,)`."""
    return _each(_each(p, n, _supersets) ** 2, n, _of_supersets)


def disjunction(p: Array, n: int) -> Array:
    """The law of a ∨ b."""
    return conjunction(p[::-1], n)[::-1]  # De Morgan: not is k -> 2^n − 1 − k


def exclusive(p: Array, n: int) -> Array:
    """The law of a ⊕ b."""
    return _each(_each(p, n, _hadamard) ** 2, n, _hadamard) / 2**n


def _each(p: Array, n: int, butterfly: Callable[[Array, Array], None]) -> Array:
    """p with one step for each bit: of the entries without it and those with it."""
    p = p.copy()
    for bit in range(n):
        both = p.reshape(-1, 2, 2**bit)
        butterfly(both[:, 0], both[:, 1])
    return p


def _supersets(without: Array, bit: Array) -> None:
    without += bit


def _of_supersets(without: Array, bit: Array) -> None:
    without -= bit


def _hadamard(without: Array, bit: Array) -> None:
    bit -= without  # b − a
    without += without + bit  # a + b, being 2a + (b − a)
    bit *= -1
