"""How many labels it takes, against curves and ratios that are known; and what heads read and learn from."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.nets import Mlp
from reuse_sim.outers import context
from reuse_sim.outers.few_labels import WAYS, Heads, Reached, fewest, inputs, learn, ratio, reached
from reuse_sim.rng import stream, streams
from reuse_sim.types import Access, Leaked
from reuse_sim.worlds import radius

COUNTS = [2**k for k in range(11)]
BELOW, ABOVE = Reached(-math.inf, 0.0), Reached(10.0, math.inf)


# How many it takes -----------------------------------------------------------------------------------


@given(st.floats(1.01, 1023), st.floats(0.3, 3))
def test_a_power_law_is_crossed_where_it_is(at: float, power: float) -> None:
    said = reached(COUNTS, [(at / n) ** power for n in COUNTS])
    assert said.known and said.low == pytest.approx(math.log2(at), abs=1e-6)


def test_what_lies_beyond_the_numbers_tried_is_a_bound() -> None:
    assert reached(COUNTS, [0.9] * 11) == BELOW and not BELOW.known
    assert reached(COUNTS, [2.0] * 11) == ABOVE
    assert reached([1, 2, 4], [5.0, math.nan, math.nan]) == Reached(2.0, math.inf)


def test_the_error_must_stay_within() -> None:
    early = reached([1, 2, 4, 8, 16], [4.0, 0.5, 2.0, 0.5, 0.25])
    assert early.low == pytest.approx(2.5)  # halfway, in logarithms, between the last one beyond, 4, and 8
    assert reached([1, 2], [math.inf, 0.5]) == Reached(1.0, 1.0)
    assert reached([1, 2, 4], [3.0, 1.0, 0.0]).low == pytest.approx(1.0)


def test_ratios_are_known_or_bounded_on_the_side_that_is_known() -> None:
    two, five = Reached(2.0, 2.0), Reached(5.0, 5.0)
    assert ratio(five, two) == (8, 8)
    assert ratio(ABOVE, two) == (2**8, math.inf) and ratio(five, BELOW) == (2**5, math.inf)
    assert ratio(BELOW, two) == (0, 2**-2) and ratio(five, ABOVE) == (0, 2**-5)
    assert ratio(ABOVE, BELOW) == (2**10, math.inf) and ratio(ABOVE, ABOVE) == (0, math.inf)
    assert fewest([five, ABOVE, two]) == two and fewest([two, BELOW]) == BELOW and fewest([ABOVE]) == ABOVE


# Heads ----------------------------------------------------------------------------------------------


def read(k: int = 1, m: int = 64) -> torch.Tensor:
    """Inputs of heads, `(k, m, 4 + 3 + 2)`, the last one 1."""
    drawn = torch.randn(k, m, 9, generator=stream(0, "read"))
    return torch.cat([drawn[..., :-1], torch.ones(k, m, 1)], -1)


def heads(*ways: int) -> Heads:
    return Heads(4, 3, 8, torch.tensor(ways))


def test_heads_begin_at_nothing_and_read_their_own_part_alone() -> None:
    three, x = heads(0, 1, 2), read().expand(3, -1, -1)
    theta = three.init(streams(0, ["a", "b", "c"]))
    assert not three.answer(theta, x).any()
    theta = torch.randn(theta.shape, generator=stream(1, "theta"))
    before = three.answer(theta, x)
    moves = {}
    for name, places in {"question": slice(0, 4), "units": slice(4, 7), "prediction": slice(7, 8)}.items():
        other = x.clone()
        other[..., places] += 1.0
        moves[name] = (three.answer(theta, other) - before).abs().amax(-1) > 1e-6
    reads = {name: {WAYS[i] for i in range(3) if moved[i]} for name, moved in moves.items()}
    assert reads == {"question": {"units", "prediction"}, "units": {"units"}, "prediction": {"prediction", "readout"}}
    # The readout is a line in the prediction, whatever its other weights are.
    p, y = x[2, :, 7], before[2]
    slope = (y[1] - y[0]) / (p[1] - p[0])
    assert torch.allclose(y, y[0] + slope * (p - p[0]), atol=1e-4)


def taught(counts: list[int], labels: torch.Tensor, way: int = 2, x: torch.Tensor | None = None) -> torch.Tensor:
    """What heads answer to further inputs that learned the first set of labels, `(N, 100)`."""
    n, x = len(counts), read() if x is None else x
    some = heads(*[way] * n)
    fit = learn(some, x, labels, torch.tensor(counts), torch.zeros(n, dtype=torch.long), 400, 0.02, 16,
                streams(0, ["head"] * n), stream(0, "batches"))  # fmt: skip
    return some.answer(fit.theta, read(1, 100).roll(1, 1).expand(n, -1, -1))


def test_two_labels_tell_a_line_and_one_does_not() -> None:
    x = read()
    x[0, :2, 7] = torch.tensor([1.0, -1.0])
    one, two, many = taught([1, 2, 64], 0.7 * x[..., 7] - 0.4, x=x)
    line = 0.7 * read(1, 100).roll(1, 1)[0, :, 7] - 0.4
    assert (many - line).square().mean() < 1e-4 and (two - line).square().mean() < 1e-3
    assert (one - line).square().mean() > 0.02


def test_a_head_sees_no_label_beyond_its_number_and_nobody_elses() -> None:
    x = read()
    labels = x[..., 0] + x[..., 5]
    spoiled = labels.clone()
    spoiled[:, 8:] = 1e6
    assert torch.equal(taught([8], labels, 0), taught([8], spoiled, 0))
    assert not torch.equal(taught([9], labels, 0), taught([9], spoiled, 0))
    together = taught([4, 8], labels, 0)
    assert torch.allclose(together[1:], taught([8], labels, 0), atol=1e-4)


def test_what_is_read_is_the_question_the_units_and_the_prediction() -> None:
    world: Any = radius.build(sines=2)
    net, outer = Mlp((4, 3, 1), "tanh"), context.build(5)
    people, theta = net.init(streams(0, ["a", "b"]))[None], outer.init(net, [stream(0, "outer")])
    access = Access(Leaked(people, torch.ones_like(people), torch.zeros_like(people)))
    x = torch.randn(1, 2, 7, 4, generator=stream(0, "x"))
    said = inputs(outer, world, net, theta, x, access)
    assert said.shape == (1, 2, 7, 4 + 5 + 2) and torch.equal(said[..., :4], x) and bool((said[..., -1] == 1).all())
    assert torch.equal(said[..., -2], outer.answer(world, net, theta, x, access)[1])
    assert torch.equal(said[..., 4:9], outer.hidden(world, net, theta, x, access)[..., 5:])
