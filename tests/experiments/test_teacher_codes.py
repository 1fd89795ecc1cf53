"""A teacher told in the terms of its family."""

from __future__ import annotations

import torch

from reuse_sim.experiments import teacher_codes
from reuse_sim.rng import stream
from reuse_sim.worlds.radius import Radius


def test_f_is_decoded_within_the_error_and_a_smaller_one_takes_more_bits() -> None:
    world = Radius(sines=2)
    theta_1 = world.teacher([stream(0, "teacher")])
    x = world.on_distribution(theta_1, 32, [stream(0, "x")])[0].double()
    f, bits = world.answer(theta_1, x[None].float()), []
    for error in (0.3, 0.03, 0.003):
        decoded, told = teacher_codes.told(world, theta_1, x, error, "x")
        left = float((world.answer(decoded, x[None].float()) - f).square().mean())
        assert 0 < left <= error * (1 + 1e-4) and decoded.shape == theta_1.shape and decoded.dtype == theta_1.dtype
        bits.append(told)
    assert bits == sorted(bits) and bits[0] < bits[-1] - 10


def test_any_order_and_sign_of_its_waves_is_told_alike() -> None:
    """Free coordinates are one of a teacher's copies; another is told in as many bits, for it is the same function."""
    world = Radius(sines=3)
    theta_1 = world.teacher([stream(1, "teacher")]).double()
    w, b, a, standard = theta_1.split([12, 3, 3, 2], dim=-1)
    other = torch.cat([-w.unflatten(-1, (3, 4)).flip(-2).flatten(-2), -b.flip(-1), -a.flip(-1), standard], -1)
    x = world.on_distribution(theta_1, 32, [stream(0, "x")])[0].double()
    assert torch.allclose(world.answer(theta_1, x[None]), world.answer(other, x[None]))
    one, two = (teacher_codes.told(world, t, x, 0.5, "x")[1] for t in (theta_1, other))
    assert one == two
