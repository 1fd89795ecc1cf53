"""The closed forms of the merged-neurons world against sampling and against each other."""

import math

import torch

from reuse_sim.humans import descent
from reuse_sim.rng import stream, streams
from reuse_sim.worlds.merged_neurons import build, relu_kernel


def test_the_relu_kernel_at_known_angles():
    u, v = torch.tensor([[3.0, 0.0]]).double(), torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]).double()
    expected = torch.tensor([[3.0, 3 / (2 * math.pi), 0.0]]).double()  # |u||v| times 1/2, 1/2π, 0
    assert torch.allclose(relu_kernel(u, v), expected, atol=1e-6)


def test_the_relu_kernel_against_monte_carlo():
    g = stream(0, "kernel")
    u, v = torch.randn(4, 5, generator=g), torch.randn(3, 5, generator=g)
    x = torch.randn(400_000, 5, generator=g)
    products = torch.relu(x @ u.T)[:, :, None] * torch.relu(x @ v.T)[:, None, :]
    error = products.std(0) / 400_000**0.5
    assert ((products.mean(0) - relu_kernel(u, v)).abs() < 5 * error).all()


def test_the_relu_kernels_gradient_is_that_of_its_value():
    g = stream(1, "kernel")
    u, v = (torch.randn(3, 4, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(relu_kernel, (u, v))


def test_the_exact_loss_is_the_mean_squared_error_of_the_answers():
    world = build(d=6)
    teacher = world.teacher(streams(0, ["teacher"]))
    net = world.human_net(4)
    human = net.init(streams(0, ["human"]))
    x = world.on_distribution(teacher, 400_000, streams(0, ["x"]))
    squares = (world.human_answer(net, human, x) - world.answer(teacher, x)).square()
    error = squares.std() / 400_000**0.5
    assert abs(float(squares.mean() - world.human_loss(net, human, teacher))) < 4 * float(error)


def test_a_human_with_the_teachers_frame_is_right_and_costs_nothing():
    world = build(d=8)
    teacher = world.teacher(streams(1, ["teacher"]))
    net = world.human_net(8)
    off = world.off_distribution(teacher, 50, streams(0, ["off"]))
    assert torch.allclose(world.human_answer(net, teacher, off), world.answer(teacher, off), atol=1e-5)
    assert abs(float(world.human_loss(net, teacher, teacher))) < 1e-4  # float32 sums of 64 kernels near 1/2


def test_answers_are_standardised_and_frames_orthonormal():
    world = build()
    teacher = world.teacher(streams(2, ["a", "b"]))
    frame = teacher.unflatten(-1, (24, 24))
    assert torch.allclose(frame @ frame.transpose(-1, -2), torch.eye(24).expand(2, 24, 24), atol=1e-5)
    y = world.answer(teacher, world.on_distribution(teacher, 100_000, streams(0, ["x", "y"])))
    assert (y.mean(-1).abs() < 5 / 100_000**0.5).all() and ((y.std(-1) - 1).abs() < 0.02).all()


def test_off_distribution_questions_lie_between_two_of_the_teachers_directions():
    world = build(d=5, reach=3.0)
    teacher = world.teacher(streams(3, ["t"]))
    inside = world.off_distribution(teacher, 200, streams(0, ["off"])) @ teacher.unflatten(-1, (5, 5)).transpose(-1, -2)
    a = inside.amax(-1)
    assert torch.allclose(inside.sum(-1), torch.zeros(1, 200), atol=1e-5)
    assert ((inside.abs() > 1e-4 * 3).sum(-1) <= 2).all() and (a <= 3).all() and float(a.max()) > 2.8
    # f there is a, standardised: one unit fires.
    assert torch.allclose(
        world.answer(teacher, world.off_distribution(teacher, 200, streams(0, ["off"]))),
        (a - 5 / math.sqrt(2 * math.pi)) / world.sd,
        atol=1e-5,
    )


def test_stuck_humans_follow_one_direction_per_unit_and_some_of_them_backwards():
    """And they fail at questions about those: that is what the world's page says of its humans."""
    world = build(d=16)
    names = [str(i) for i in range(6)]
    theta_1 = world.teacher(streams(0, names))
    human = descent.build(width=16, steps=1500, rate=0.02)
    theta = human.train(world, human.init(world, streams(1, names)), theta_1, streams(2, names)).theta
    q = theta_1.unflatten(-1, (16, 16))
    along = human.net(world).views(theta)["weight0"] @ q.transpose(-1, -2)
    assert ((along.abs() > 0.3).sum(-1) == 1).float().mean() > 0.9
    backwards = (along < -0.5).any(1)
    assert 1 <= backwards.sum(-1).float().mean() <= 8
    x = 2 * (q.unsqueeze(2) - q.unsqueeze(1)).flatten(1, 2)
    error = (world.human_answer(human.net(world), theta, x) - world.answer(theta_1, x)).square().unflatten(1, (16, 16))
    about = backwards.unsqueeze(2) | backwards.unsqueeze(1)
    assert error[about].mean() > 5 * error[~about].mean()
