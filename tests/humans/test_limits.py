"""Each limit does what it says."""

import pytest
import torch

from reuse_sim.errors import InputError
from reuse_sim.humans import descent
from reuse_sim.humans.descent import _mistaken
from reuse_sim.inheritance.observed import fit
from reuse_sim.rng import streams
from reuse_sim.worlds import linear, merged_neurons, radius, spurious

NAMES = [str(i) for i in range(6)]


def on_fit(world, **limits) -> float:
    """Mean fit on-distribution of six humans of one teacher."""
    human = descent.build(**{"width": 12, "steps": 400, "rate": 0.02, "batch": 32} | limits)
    theta_1 = world.teacher(streams(0, ["teacher"])).expand(6, -1)
    theta = human.train(world, human.init(world, streams(1, NAMES)), theta_1, streams(2, NAMES)).theta
    x = world.on_distribution(theta_1[:1], 2000, streams(3, ["x"])).expand(6, -1, -1)
    return float(fit(world.kind, world.human_answer(human.net(world), theta, x), world.answer(theta_1, x)).mean())


def test_few_examples_noise_and_decay_each_cost_something():
    free = on_fit(radius.build())
    assert free > 0.8
    for limits in ({"examples": 32}, {"label_noise": 5.0}, {"decay": 3.0}, {"width": 1}, {"steps": 20}):
        assert on_fit(radius.build(), **limits) < free - 0.1, limits
    assert on_fit(radius.build(), examples=3200) > free - 0.05


def test_where_the_loss_is_exact_decay_is_felt_and_examples_take_its_place():
    world = merged_neurons.build(d=8)
    free = on_fit(world)
    assert free > 0.9
    assert on_fit(world, decay=3.0) < free - 0.05 and on_fit(world, examples=32) < free - 0.05


def test_depth_repeats_the_hidden_layer():
    human = descent.build(width=7, depth=3)
    assert human.net(radius.build()).sizes == (4, 7, 7, 7, 1)
    assert on_fit(radius.build(), depth=2) > 0.8
    with pytest.raises(InputError, match="human.depth: got 2; expected 1, for humans of this world"):
        descent.build(depth=2).net(linear.build())


def test_mistakes_are_as_many_as_asked_for():
    """Of 20,000 answers; the standard error of a share of .3 is .0032, of a standard deviation .5 is .0025."""
    told = torch.ones(2, 10_000, 1)
    turned = _mistaken(spurious.build(), told, 0.3, streams(0, ["a", "b"]))
    assert set(turned.unique().tolist()) == {-1.0, 1.0} and abs((turned < 0).float().mean() - 0.3) < 0.013
    noisy = _mistaken(radius.build(), told, 0.5, streams(0, ["a", "b"]))
    assert abs((noisy - told).std() - 0.5) < 0.01
    with pytest.raises(InputError, match="human.label_noise: got 0.7"):
        _mistaken(spurious.build(), told, 0.7, streams(0, ["a", "b"]))
