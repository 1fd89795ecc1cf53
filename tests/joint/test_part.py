"""The part of a human that answers questions: cut out exactly, and told of by the human."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reuse_sim.joint.part import Told, answering, mean_output, part, worst_output
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.worlds import radius


@pytest.mark.parametrize("net", [Mlp((3, 5, 4)), Mlp((3, 5, 4, 3), "relu"), Mlp((3, 5, 2), bias=False), Mlp((3, 5, 1))])
def test_the_part_answers_as_the_whole_does(net: Mlp) -> None:
    theta, x = net.init([stream(0, "a"), stream(0, "b")]), torch.randn(7, 3, generator=stream(0, "x"))
    theirs, little = answering(net), part(net)
    assert int(theirs.sum()) == little.p
    assert torch.equal(little.forward(theta[:, theirs], x), net.forward(theta, x)[..., :1])
    # Nothing that is left out moves an answer.
    other = torch.where(theirs, theta, theta + 1)
    assert torch.equal(net.forward(other, x)[..., 0], net.forward(theta, x)[..., 0])


def test_the_worst_and_the_mean_output_by_hand() -> None:
    net, g = Mlp((2, 3, 3)), stream(1, "net")
    theta = net.init([g, g, g], torch.float64)
    x = torch.randn(11, 2, generator=g, dtype=torch.float64)
    told = torch.randn(11, 3, generator=g, dtype=torch.float64)
    variance = torch.tensor([1.0, 4.0, 0.25], dtype=torch.float64)
    each = ((net.forward(theta, x) - told).square() / variance).mean(1)
    torch.testing.assert_close(worst_output(net, x, told, variance)(theta), each.max(-1).values)
    moved = theta.clone().requires_grad_()
    (((net.forward(moved, x) - told).square() / variance).mean((1, 2))).sum().backward()
    cost, slope = mean_output(net, x, told, variance)(theta)
    torch.testing.assert_close(cost, each.mean(-1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(slope, moved.grad, rtol=1e-4, atol=1e-5)


def test_every_second_answer_is_the_humans() -> None:
    world: Any = radius.build(sines=2)
    theta_1 = world.teacher([stream(0, "teacher")]).expand(3, -1)
    net = world.human_net(4)
    human = net.init([stream(0, "human")])
    x = world.on_distribution(theta_1, 6, [stream(0, f"x/{k}") for k in range(3)])
    told = Told(world, net, human)
    said, f, h = told.answer(theta_1, x), world.answer(theta_1, x), world.human_answer(net, human, x)
    assert torch.equal(said[:, ::2], f[:, ::2]) and torch.equal(said[:, 1::2], h[:, 1::2])
    assert told.d == world.d and told.human_answer is world.human_answer and told.human_loss is None
