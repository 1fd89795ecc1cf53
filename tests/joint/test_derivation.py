"""Derivations: the exact search against all subsets of ways, and what it refuses."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.joint import derivation
from reuse_sim.joint.derivation import Workload, way

THINGS = ("a", "b", "c", "d", "e")
costs = st.sampled_from([0.0, 1.0, 2.0, 3.0, 5.0, 8.0])
things = st.sets(st.sampled_from(THINGS), max_size=3)
ways = st.builds(way, st.just(""), things, things.filter(bool), costs, once=costs, batch=costs, question=costs)
workloads = st.builds(Workload, st.sampled_from([1.0, 4.0]), st.sampled_from([1.0, 16.0]))


@st.composite
def problems(draw):
    """Up to seven ways whose inputs all come from somewhere, and targets that can be derived."""
    drawn = draw(st.lists(ways, min_size=1, max_size=7))
    given_ = frozenset().union(*(w.outputs for w in drawn))
    made = [replace(w, name=f"w{i}", inputs=w.inputs & given_) for i, w in enumerate(drawn)]
    had = sorted(derivation.obtainable(made))
    if not had:
        made.append(way("start", (), ("a",), 1.0))
        had = ["a"]
    return made, draw(st.sets(st.sampled_from(had), min_size=1, max_size=3))


def all_points(made, targets, workload):
    """Bits and FLOPs of every subset of ways that derives the targets and can be taken to the end."""
    for size in range(len(made) + 1):
        for chosen in itertools.combinations(made, size):
            had = derivation.obtainable(chosen)
            if targets <= had and all(w.inputs <= had for w in chosen):
                yield sum(w.bits for w in chosen), sum(workload.flops(w) for w in chosen)


@settings(max_examples=150, deadline=None)
@given(problem=problems(), workload=workloads, price=st.sampled_from([0.0, 0.5, 3.0]))
def test_the_search_finds_what_trying_all_subsets_finds(problem, workload, price):
    made, targets = problem
    points = list(all_points(made, targets, workload))
    best = derivation.cheapest(made, targets, workload, price)
    assert best.flops + price * best.bits == min(f + price * b for b, f in points)
    least = derivation.shortest(made, targets, workload)
    assert (least.bits, least.flops) == min(points)
    front = [(b, f) for b, f in sorted(set(points)) if not any(q != (b, f) and q[0] <= b and q[1] <= f for q in points)]
    assert [(d.bits, d.flops) for d in derivation.front(made, targets, workload)] == front


@settings(max_examples=100, deadline=None)
@given(problem=problems(), workload=workloads)
def test_a_derivation_can_be_taken_in_its_order_and_costs_what_its_ways_cost(problem, workload):
    made, targets = problem
    for d in derivation.front(made, targets, workload):
        known: set[str] = set()
        for w in d.ways:
            assert w.inputs <= known
            known |= w.outputs
        assert targets <= known and len(set(d.names)) == len(d.names)
        assert d.bits == sum(w.bits for w in d.ways) and d.flops == sum(workload.flops(w) for w in d.ways)


def test_what_two_steps_share_is_paid_once():
    """Apart, f and H cost 6 + 6; both from s, 10 + 1 + 1. A search that pays s twice would find 12."""
    made = [way("f", (), ("f",), 6.0), way("H", (), ("H",), 6.0), way("s", (), ("s",), 9.0),
            way("f of s", ("s",), ("f",), 1.0), way("H of s", ("s",), ("H",), 1.0)]
    found = derivation.shortest(made, ("f", "H"), derivation.per_question())
    assert found.bits == 11 and set(found.names) == {"s", "f of s", "H of s"}
    assert derivation.shortest(made, ("f",), derivation.per_question()).names == ("f",)


def test_the_cheapest_way_depends_on_how_long_it_is_kept():
    """Reading θ2 costs bits alone; rerunning its training costs FLOPs once; a network per batch, at every batch."""
    made = [way("f", (), ("f",), 10.0, question=1.0), way("read", (), ("H",), 30.0, question=2.0),
            way("rerun", ("f",), ("H",), 0.0, once=1000.0, question=2.0),
            way("each batch", ("f",), ("H",), 1.0, batch=100.0, question=2.0)]
    pick = {name: derivation.cheapest(made, ("f", "H"), load, 20.0).names[-1] for name, load in {
        "question": derivation.per_question(), "batch": derivation.per_batch(64),
        "run": derivation.per_run(100, 64)}.items()}  # fmt: skip
    assert pick == {"question": "each batch", "batch": "each batch", "run": "read"}
    run = derivation.front(made, ("f", "H"), derivation.per_run(100, 64))
    assert [(d.bits, d.flops) for d in run] == [(10.0, 20_200.0), (40.0, 19_200.0)]
    assert derivation.per_run(100, 64).flops(made[3]) == 100 * 100 + 6400 * 2


def test_the_graph_is_bipartite_with_ways_between_things():
    import networkx

    drawn = derivation.graph([way("learn", ("f", "init"), ("H",), 1.0), way("f", (), ("f",)), way("i", (), ("init",))])
    assert networkx.is_bipartite(drawn) and drawn.number_of_nodes() == 6 and drawn.number_of_edges() == 5
    assert drawn.nodes["way", "learn"]["way"].bits == 1 and drawn.nodes["thing", "H"]["kind"] == "thing"


ONE = way("f", (), ("f",), 1.0)
LOOP = (way("x", ("y",), ("x",)), way("y", ("x",), ("y",)))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: derivation.shortest([ONE], ("g",), Workload()), "targets: got 'g'.*No way leads to it"),
        (lambda: derivation.shortest([ONE, *LOOP], ("f", "x"), Workload()), "targets: got 'x'.*missing: y"),
        (lambda: derivation.shortest([ONE, way("h", ("init",), ("H",))], ("f",), Workload()), "inputs: got 'init'"),
        (lambda: derivation.shortest([ONE, ONE], ("f",), Workload()), "two called 'f'"),
        (lambda: derivation.shortest([ONE], (), Workload()), "targets: got nothing"),
        (lambda: derivation.cheapest([ONE], ("f",), Workload(), math.nan), "bit_price"),
        (lambda: way("f", (), (), 1.0), "way f: outputs"),
        (lambda: way("f", (), "f", 1.0), "way f: outputs.*names of things"),
        (lambda: way("f", (), ("f",), math.nan), "way f: bits: got nan"),
        (lambda: way("f", (), ("f",), 1.0, once=-1.0), "way f: once: got -1"),
        (lambda: way("f", (), ("f",), 1.0, batch=math.inf), "way f: batch: got inf"),
        (lambda: derivation.front([way(f"w{i}", (), (f"t{i}",)) for i in range(25)], [f"t{i}" for i in range(25)],
                                  Workload()), "at most 24"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()
