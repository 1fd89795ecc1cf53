"""What the choice among copies of one network tells: its units in any order, and with either sign where that is free.

A code that tells one network tells one of its copies. As every copy will do, the sender takes the one whose order
spells the next part of the message, and the reader reads it off: so many bits of the code are given back.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

Unit = tuple[float, ...]


def count(units: Sequence[Unit], signed: bool) -> int:
    """How many different copies there are: orders of the units, times signs of those that are not all 0."""
    plain = [_plain(u, signed) for u in units]
    return _orders(Counter(plain)) * 2 ** (sum(map(any, plain)) if signed else 0)


def bits(units: Sequence[Unit], signed: bool) -> int:
    """Whole bits that the choice of a copy tells."""
    return count(units, signed).bit_length() - 1


def hide(units: Sequence[Unit], signed: bool, number: int) -> list[Unit]:
    """The copy that spells `number`, from 0 to `count` − 1: the order by its place among orders, then signs."""
    left = Counter(_plain(u, signed) for u in units)
    number, signs = divmod(number, count(units, signed) // _orders(left))
    out: list[Unit] = []
    while left.total():
        for unit in sorted(left):
            after = _orders(left - Counter([unit]))
            if number < after:
                break
            number -= after
        left -= Counter([unit])
        if signed and any(unit):
            signs, turned = divmod(signs, 2)
            unit = tuple(-v for v in unit) if turned else unit
        out.append(unit)
    return out


def found(units: Sequence[Unit], signed: bool) -> int:
    """The number that a copy spells."""
    left = Counter(_plain(u, signed) for u in units)
    base, number, signs, place = count(units, signed) // _orders(left), 0, 0, 1
    for unit in units:
        plain = _plain(unit, signed)
        number += sum(_orders(left - Counter([u])) for u in left if u < plain)
        left -= Counter([plain])
        if signed and any(plain):
            signs += place * (plain != unit)
            place *= 2
    return number * base + signs


def _plain(unit: Unit, signed: bool) -> Unit:
    """The unit, or what it is turned round if that is larger; no minus before a zero."""
    unit = tuple(v + 0.0 for v in unit)
    return max(unit, tuple(0.0 - v for v in unit)) if signed else unit


def _orders(left: Counter[Unit]) -> int:
    """In how many orders these units can stand."""
    return math.factorial(left.total()) // math.prod(math.factorial(n) for n in left.values())
