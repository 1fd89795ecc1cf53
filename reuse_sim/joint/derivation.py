"""Derivations: from what little can teacher and human be had, and for how many bits and FLOPs?

A way gives some things from others; it is a hyperedge. A set of ways is a derivation of its targets when, from
nothing, they can be taken in some order to the end. What two of its steps need is had once and paid once. The cheapest
derivation is found exactly, by uniform-cost search over the sets of things that one may already have (Dijkstra 1959 on
that lattice; Knuth's 1977 generalisation, on things, would pay what is shared as often as it is used).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reuse_sim.errors import InputError, nearest

if TYPE_CHECKING:
    import networkx

MOST = 24
"""Ways that may lead to the targets: the lattice doubles with every thing."""


@dataclass(frozen=True)
class Way:
    """A way to have `outputs` from `inputs`: its bits, and its FLOPs once, per batch and per question.

    A way without inputs is where things come from, such as a code that is read. Raises InputError for no outputs and
    for costs that are not finite numbers from 0 up.
    """

    name: str
    inputs: frozenset[str]
    outputs: frozenset[str]
    bits: float = 0.0
    once: float = 0.0
    batch: float = 0.0
    question: float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        if not self.outputs:
            raise InputError(f"way {self.name}: outputs", "nothing", "one thing or more")
        for field in ("bits", "once", "batch", "question"):
            value = getattr(self, field)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"way {self.name}: {field}", value, "a finite number, 0 or more")


def way(name: str, inputs: Iterable[str], outputs: Iterable[str], bits: float = 0.0, **flops: Any) -> Way:
    """A `Way` from any collections of things: `way("train", ("f", "start"), ("H",), once=1e6)`.

    Raises InputError where one is a text, and not a collection of them.
    """
    for field, given in (("inputs", inputs), ("outputs", outputs)):
        if isinstance(given, str):
            raise InputError(f"way {name}: {field}", repr(given), "names of things, such as ('teacher',)")
    return Way(name, frozenset(inputs), frozenset(outputs), bits, **flops)


@dataclass(frozen=True)
class Workload:
    """How often a derivation is used before all that it has is thrown away: so many batches and questions in all."""

    batches: float = 1.0
    questions: float = 1.0

    def flops(self, way: Way) -> float:
        """once + batches · batch + questions · question."""
        return way.once + self.batches * way.batch + self.questions * way.question


def per_question() -> Workload:
    """Everything anew for each question."""
    return Workload()


def per_batch(questions: float) -> Workload:
    """Kept for one batch of so many questions."""
    return Workload(1.0, questions)


def per_run(batches: float, questions: float) -> Workload:
    """Kept for a whole training of so many batches, of so many `questions` each."""
    return Workload(batches, batches * questions)


@dataclass(frozen=True)
class Derivation:
    """Ways in an order in which they can be taken, with what they cost together under a workload."""

    ways: tuple[Way, ...]
    bits: float
    flops: float

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(w.name for w in self.ways)


def graph(ways: Iterable[Way]) -> networkx.DiGraph:
    """The bipartite digraph: things (`kind="thing"`) to ways (`kind="way"`, the way itself as `way`) to things."""
    import networkx

    made = networkx.DiGraph()
    for w in ways:
        made.add_node(("way", w.name), kind="way", way=w)
        for thing in sorted(w.inputs | w.outputs):
            made.add_node(("thing", thing), kind="thing")
        made.add_edges_from((("thing", thing), ("way", w.name)) for thing in sorted(w.inputs))
        made.add_edges_from((("way", w.name), ("thing", thing)) for thing in sorted(w.outputs))
    return made


def obtainable(ways: Iterable[Way], have: Iterable[str] = ()) -> frozenset[str]:
    """All that can be had from the things that one has."""
    known, left = set(have), list(ways)
    while ready := [w for w in left if w.inputs <= known]:
        left = [w for w in left if not w.inputs <= known]
        known |= set().union(*(w.outputs for w in ready))
    return frozenset(known)


def cheapest(
    ways: Sequence[Way], targets: Iterable[str], workload: Workload, bit_price: float = 0.0
) -> Derivation:
    """The derivation of all `targets` with the least FLOPs under `workload` plus `bit_price` FLOPs for each bit.

    At equal cost the one with the fewest bits, then ways. Raises InputError where a target cannot be derived (it says
    what is missing), where nothing gives something that a way needs, and for a price that is no number from 0 up.
    """
    if not (math.isfinite(bit_price) and bit_price >= 0):
        raise InputError("bit_price", bit_price, "FLOPs for a bit, a finite number, 0 or more")
    found = _search(ways, frozenset(targets), workload, lambda bits, flops: (flops + bit_price * bits, bits))
    return next(found)


def shortest(ways: Sequence[Way], targets: Iterable[str], workload: Workload) -> Derivation:
    """The derivation with the fewest bits, and of those the one with the least FLOPs. Raises as `cheapest`."""
    return next(_search(ways, frozenset(targets), workload, lambda bits, flops: (bits, flops)))


def front(ways: Sequence[Way], targets: Iterable[str], workload: Workload) -> list[Derivation]:
    """The Pareto front of bits against FLOPs: no other derivation has less of one and no more of the other.

    By bits, least first; one derivation for each point. Raises as `cheapest`.
    """
    kept: list[Derivation] = []
    # By bits and then FLOPs, so that whatever comes later must need fewer FLOPs.
    for d in _search(ways, frozenset(targets), workload, lambda bits, flops: (bits, flops), every=True):
        if not kept or d.flops < kept[-1].flops:
            kept.append(d)
    return kept


def dominates(one: Derivation, other: Derivation) -> bool:
    """Whether `one` has no more bits and no more FLOPs than `other`."""
    return one.bits <= other.bits and one.flops <= other.flops


# The search ------------------------------------------------------------------------------------------


def _search(
    ways: Sequence[Way],
    targets: frozenset[str],
    workload: Workload,
    key: Callable[[float, float], tuple[float, float]],
    every: bool = False,
) -> Iterator[Derivation]:
    """Derivations in order of their `key` of bits and FLOPs: the first, or `every` one that may be on the front."""
    useful = _leading_to(ways, targets)
    count = itertools.count()
    heap: list[tuple[Any, ...]] = [(key(0.0, 0.0), 0, next(count), frozenset(), (), 0.0, 0.0)]
    # Of each set of things, the least FLOPs it was reached with: keys rise, so a later one must offer less.
    reached: dict[frozenset[str], float] = {}
    while heap:
        _, _, _, known, taken, bits, flops = heapq.heappop(heap)
        if known in reached and not (every and flops < reached[known]):
            continue
        reached[known] = flops
        if targets <= known:
            yield Derivation(taken, bits, flops)
            continue
        for w in useful:
            if w.inputs <= known and not w.outputs <= known:
                b, f = bits + w.bits, flops + workload.flops(w)
                heapq.heappush(heap, (key(b, f), len(taken) + 1, next(count), known | w.outputs, (*taken, w), b, f))


def _leading_to(ways: Sequence[Way], targets: frozenset[str]) -> list[Way]:
    """The ways from which a path leads to a target and that can be taken; the arguments checked."""
    import networkx

    if not targets:
        raise InputError("targets", "nothing", "one thing or more")
    names = [w.name for w in ways]
    if twice := {n for n in names if names.count(n) > 1}:
        raise InputError("ways", f"two called {min(twice)!r}", "a name for each")
    given: frozenset[str] = frozenset().union(*(w.outputs for w in ways))
    for w in ways:
        for thing in sorted(w.inputs - given):
            raise InputError(f"way {w.name}: inputs", repr(thing), f"one of {', '.join(sorted(given)) or 'no things'}",
                             f"{nearest(thing, given)} Nothing gives it; add the way that does.".strip())
    for thing in sorted(targets - given):
        raise InputError("targets", repr(thing), f"one of {', '.join(sorted(given)) or 'no things'}",
                         f"{nearest(thing, given)} No way leads to it.".strip())
    had = obtainable(ways)
    for thing in sorted(targets - had):
        missing = {m for w in ways if thing in w.outputs for m in w.inputs - had}
        raise InputError("targets", repr(thing), "a thing that can be derived from nothing",
                         f"Every way to it lacks something; missing: {', '.join(sorted(missing))}.")
    drawn = graph(ways)
    before = set().union(*(networkx.ancestors(drawn, ("thing", t)) for t in targets))
    useful = [w for w in ways if ("way", w.name) in before and w.inputs <= had]
    if len(useful) > MOST:
        raise InputError("ways", f"{len(useful)} that lead to the targets", f"at most {MOST}, for the search is exact")
    return useful
