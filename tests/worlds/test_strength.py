"""A world at another strength is the same world, asked further off."""

import copy
import pickle
from functools import partial

import torch

from reuse_sim.nets import first_output
from reuse_sim.rng import streams
from reuse_sim.types import World
from reuse_sim.worlds import digits, merged_neurons, radius
from reuse_sim.worlds.strength import at_strength


def test_only_the_shift_is_another():
    world = radius.build()
    far, theta = at_strength(world, 2.0), world.teacher(streams(0, ["t"]))
    assert at_strength(world, 1.0) is world
    assert isinstance(far, World) and far.human_answer is first_output and far.tolerance == world.tolerance
    draw = [w.off_distribution(theta, 100, streams(0, ["x"]), s) for w, s in ((far, 1.0), (world, 2.0), (far, 0.5))]
    assert torch.equal(draw[0], draw[1])
    assert torch.equal(draw[2], world.off_distribution(theta, 100, streams(0, ["x"])))
    on = [w.on_distribution(theta, 9, streams(0, ["x"])) for w in (far, world)]
    assert torch.equal(*on)


def test_what_a_world_may_have_it_has_still():
    assert getattr(at_strength(radius.build(), 2.0), "human_loss", None) is None
    far = at_strength(merged_neurons.build(), 2.0)
    assert far.human_loss.__func__ is merged_neurons.MergedNeurons.human_loss
    assert copy.deepcopy(far) == pickle.loads(pickle.dumps(far)) == far


def test_labelled_questions_are_as_far_off_as_the_others():
    far = at_strength(digits.build(steps=1), 0.5)
    theta = far.teacher(streams(0, ["t"]))
    for strength in (None, 1.0, 2.0):
        x, _ = far.labelled(20, streams(0, ["x"]), strength)  # pyright: ignore[reportAttributeAccessIssue]
        draw = far.on_distribution if strength is None else partial(far.off_distribution, strength=strength)
        assert torch.equal(x, draw(theta, 20, streams(0, ["x"])))
    assert not hasattr(at_strength(radius.build(), 2.0), "labelled")
