"""Momentum backwards to the last bit, and how much it has to remember."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.joint.reversible import Reversible, State
from reuse_sim.rng import stream


def descent(p, steps, momentum, rate=0.2):
    a = torch.randn(p, p, generator=stream(0, "a"), dtype=torch.float64)
    h = a @ a.T / p
    return Reversible(lambda theta, step: theta @ h + 0.1 * torch.tanh((1 + step % 3) * theta), steps, rate, momentum)


def start(n, p):
    return torch.randn(n, p, generator=stream(0, "start"), dtype=torch.float64)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 999), st.integers(2, 1000), st.integers(0, 200))
def test_it_comes_back_to_the_last_bit(n, d, steps) -> None:
    run = descent(5, steps, Fraction(min(n, d - 1), d))
    begun = run.begin(start(3, 5))
    ended = run.forward(begun)
    back = run.backward(ended)
    assert all(torch.equal(getattr(back, k), getattr(begun, k)) for k in ("theta", "velocity", "buffer"))
    assert back.aside == ()
    assert steps < 2 or not torch.equal(ended.theta, begun.theta)


@pytest.mark.parametrize(
    ("momentum", "p", "steps"), [(0.9, 30, 400), (0.98, 7, 1000), (Fraction(7, 8), 11, 77), (0.5, 3, 500)]
)
def test_the_buffer_grows_by_what_momentum_loses(momentum, p, steps) -> None:
    ended = descent(p, steps, momentum).forward(descent(p, steps, momentum).begin(start(2, p)))
    assert ended.bits == pytest.approx(2 * p * steps * math.log2(1 / momentum), rel=1e-6)
    assert ended.bits == pytest.approx(2 * p * descent(p, steps, momentum).lost_bits, rel=1e-6)


def test_it_is_descent_with_momentum() -> None:
    run = descent(4, 300, 0.9)
    theta, v = start(2, 4), torch.zeros(2, 4, dtype=torch.float64)
    for step in range(300):
        v = 0.9 * v - 0.1 * run.gradient(theta, step)
        theta = theta + 0.2 * v
    assert torch.allclose(run.value(run.forward(run.begin(start(2, 4)))), theta, rtol=0, atol=1e-9)


def test_without_the_buffer_the_start_is_not_found() -> None:
    run = descent(4, 60, 0.9)
    begun = run.begin(start(1, 4))
    ended = run.forward(begun)
    empty = torch.full_like(ended.buffer, 1 << 30)
    blank = State(ended.theta, ended.velocity, empty, tuple(t * 0 for t in ended.aside))
    assert float((run.value(run.backward(blank)) - run.value(begun)).abs().max()) > 1e-9


@pytest.mark.parametrize(("change", "match"), [
    ({"momentum": 1.0}, "momentum: got 1.0"), ({"momentum": 0.0}, "momentum"), ({"fraction": 60}, "fraction: got 60"),
])
def test_bad_input_is_refused(change, match) -> None:
    with pytest.raises(InputError, match=match):
        Reversible(**{"gradient": lambda theta, _: theta, "steps": 3, "rate": 0.1, "momentum": 0.9} | change)
