"""Weights of b bits: their values, that humans learn with them, and that they are what a leak of b bits tells."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_sim.humans import descent
from reuse_sim.humans.precision import Rounded
from reuse_sim.inheritance.observed import r_squared
from reuse_sim.leaks import fixed
from reuse_sim.nets import Mlp
from reuse_sim.rng import streams
from reuse_sim.types import BITS
from reuse_sim.worlds import merged_neurons, radius, spurious

NET = Mlp((4, 6, 1), "tanh")
NAMES = ["a", "b"]


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 16), st.integers(0, 2**31), st.floats(0.1, 30))
def test_values_are_the_nearest_of_an_even_grid(bits: int, seed: int, size: float):
    theta = (size * NET.init(streams(seed, ["a"]))).double()
    rounded = Rounded(NET, bits)
    value, half = rounded.value(theta), rounded.half_range(theta)
    step = half / 2 ** (bits - 1)
    assert torch.equal(value, rounded.value(value)), "rounding twice is rounding once"
    inside = theta.abs() < half
    assert ((value - theta).abs() <= step / 2 * (1 + 1e-9))[inside].all()
    assert (value.abs() <= half).all() and torch.equal(value.sign(), theta.sign())
    cells = value.abs() / step - 0.5
    assert (cells - cells.round()).abs().max() < 1e-9
    assert torch.equal(half, torch.exp2(torch.log2(half).round())), "ranges are powers of two"


def test_zero_stays_zero_and_gradients_pass():
    theta = torch.zeros(1, NET.p, requires_grad=True)
    value = Rounded(NET, 3).value(theta)
    assert not value.any()
    (slope,) = torch.autograd.grad((value * 2).sum(), theta)
    assert torch.equal(slope, torch.full_like(slope, 2.0))


def test_a_code_of_as_many_bits_and_the_same_range_tells_such_a_human_exactly():
    theta = Rounded(NET, 5).value(NET.init(streams(0, NAMES)).double())
    scale = Rounded(NET, 5).half_range(theta)
    leading = torch.arange(BITS) < 5
    told = fixed.decode(fixed.encode(theta, scale), leading.expand(NET.p, -1), scale).value
    assert torch.equal(told, theta)


def on_fit(world, precision: int, **options) -> float:
    human = descent.build(**{"width": 12, "steps": 300, "rate": 0.02, "precision": precision} | options)
    theta_1 = world.teacher(streams(0, ["teacher"])).expand(2, -1)
    theta = human.train(world, human.init(world, streams(1, NAMES)), theta_1, streams(2, NAMES)).theta
    net = human.net(world)
    assert torch.equal(theta, Rounded(net, precision).value(theta)) if precision else True
    x = world.on_distribution(theta_1, 1000, streams(3, NAMES))
    return float(r_squared(world.human_answer(net, theta, x), world.answer(theta_1, x)).mean())


@pytest.mark.parametrize("world", [radius.build(), merged_neurons.build(d=6)], ids=["engine", "exact loss"])
def test_few_bits_cost_much_and_many_cost_nothing(world):
    few, some, many, all_of_them = (on_fit(world, bits, width=6) for bits in (2, 4, 10, 0))
    assert few < some - 0.05 < many and abs(many - all_of_them) < 0.05


def test_what_a_human_does_not_see_has_no_weight_at_any_precision():
    world = spurious.build()
    human = descent.build(width=4, steps=30, sees="one_cue", precision=3)
    theta_0 = human.init(world, streams(1, NAMES))
    theta = human.train(world, theta_0, world.teacher(streams(0, NAMES)), streams(2, NAMES)).theta
    blind = human.net(world).views(theta_0)["weight0"] == 0
    assert blind.any() and not human.net(world).views(theta)["weight0"][blind].any()


def test_numba_does_not_round():
    from reuse_sim.errors import InputError

    with pytest.raises(InputError, match="engine"):
        on_fit(radius.build(), 4, engine="numba")
