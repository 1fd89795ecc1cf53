"""The linear Gaussian world: every figure against its formula."""

from __future__ import annotations

import pytest
import torch

from reuse_sim.errors import InputError
from reuse_sim.humans import descent
from reuse_sim.rng import streams
from reuse_sim.worlds import linear_gaussian

NAMES = ["a", "b", "c"]
WORLD = linear_gaussian.build(d=7, active=4)


def test_teachers_have_variance_1_on_distribution() -> None:
    theta = WORLD.teacher(streams(0, NAMES)).double()
    torch.testing.assert_close(theta.square() @ WORLD.variance.double(), torch.ones(3).double(), rtol=1e-6, atol=0)
    y = WORLD.answer(theta, WORLD.on_distribution(theta, 20_000, streams(1, NAMES)))
    assert ((y.square().mean(1) - 1).abs()).max() < 4.5 * (2 / 20_000) ** 0.5


def test_on_distribution_never_varies_where_off_distribution_asks() -> None:
    theta = WORLD.teacher(streams(0, NAMES))
    assert (WORLD.on_distribution(theta, 100, streams(1, NAMES))[..., 4:] == 0).all()
    for strength, sd in ((0.0, 0.5), (1.0, 2.0)):
        x = WORLD.off_distribution(theta, 20_000, streams(1, NAMES), strength)[..., 4:]
        assert (x.square().mean((0, 1)) / sd**2 - 1).abs().max() < 4.5 * (2 / 60_000) ** 0.5


def test_a_trained_human_is_right_where_it_saw_and_unmoved_where_it_did_not() -> None:
    theta_1 = WORLD.teacher(streams(0, NAMES))
    human = descent.build(width=1, steps=1500, rate=0.02)
    theta_0 = human.init(WORLD, streams(1, NAMES))
    theta_2 = human.train(WORLD, theta_0, theta_1, streams(2, NAMES)).theta
    assert (theta_2 - theta_1)[:, :4].abs().max() < 1e-3
    assert torch.equal(theta_2[:, 4:], theta_0[:, 4:])

    x = WORLD.off_distribution(theta_1, 20_000, streams(3, NAMES))
    error = WORLD.human_answer(WORLD.human_net(1), theta_2, x) - WORLD.answer(theta_1, x)
    expected = 4 * (theta_0 - theta_1)[:, 4:].square().sum(1)
    assert (error.square().mean(1) / expected - 1).abs().max() < 4.5 * (2 / 20_000) ** 0.5


def test_the_exact_loss_is_zero_at_the_teacher_only() -> None:
    theta = WORLD.teacher(streams(0, NAMES))
    net = WORLD.human_net(1)
    assert (WORLD.human_loss(net, theta, theta) == 0).all()
    other = theta + torch.tensor([0.0, 0.3, 0, 0, 0, 0, 0])
    torch.testing.assert_close(WORLD.human_loss(net, other, theta), torch.full((3,), 0.09 / 2))


def test_a_world_without_unseen_directions_is_refused() -> None:
    with pytest.raises(InputError, match="active: got 7; expected fewer than d = 7"):
        linear_gaussian.build(d=7, active=7)
