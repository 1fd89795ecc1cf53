"""A blind human answers alike whatever it cannot see."""

import pytest
import torch

from reuse_sim.errors import InputError
from reuse_sim.humans import descent
from reuse_sim.inheritance.observed import accuracy, own_failure_share
from reuse_sim.rng import streams
from reuse_sim.worlds import radius, spurious

WORLD, HUMAN = spurious.build(), descent.build(width=8, steps=600, rate=0.02, batch=32, sees="one_cue")


def test_each_human_sees_its_own_cue_and_fails_for_itself():
    names = [str(i) for i in range(6)]
    theta_1 = WORLD.teacher(streams(0, ["teacher"])).expand(6, -1)
    theta_0 = HUMAN.init(WORLD, streams(1, names))
    theta_2 = HUMAN.train(WORLD, theta_0, theta_1, streams(2, names)).theta
    net = WORLD.human_net(8)
    weights = net.views(theta_2)["weight0"]
    blind = (net.views(theta_0)["weight0"] == 0).all(1)
    assert (blind[:, : WORLD.core].sum(1) == 0).all() and (blind[:, WORLD.cues].sum(1) == WORLD.number - 1).all()
    assert ((weights == 0).all(1) == blind).all()
    assert len({tuple(row) for row in blind.tolist()}) > 1
    x, off = (
        draw(theta_1[:1], 3000, streams(3, ["x"])).expand(6, -1, -1)
        for draw in (WORLD.on_distribution, WORLD.off_distribution)
    )
    assert torch.equal(WORLD.human_answer(net, theta_2, x), WORLD.human_answer(net, theta_2, x * ~blind.unsqueeze(1)))
    on_fit = accuracy(WORLD.human_answer(net, theta_2, x), WORLD.answer(theta_1, x))
    answers, truth = WORLD.human_answer(net, theta_2, off), WORLD.answer(theta_1, off)
    # Both are means over 18,000 answers; a human who sees all cues has almost no failure of its own.
    assert on_fit > 0.85 and accuracy(answers, truth) < on_fit - 0.2
    assert own_failure_share(truth[:1], answers[:1], answers[1:, None]) > 0.2


def test_without_cues_there_is_none_to_see():
    with pytest.raises(InputError, match="human.sees: got one_cue; expected a world with cues"):
        HUMAN.init(radius.build(), streams(0, ["a"]))
