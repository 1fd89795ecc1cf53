"""The process again, to the last bit."""

from __future__ import annotations

import dataclasses

import torch

from reuse_sim.engines.spec import Adam
from reuse_sim.joint.replay import Process, replays
from reuse_sim.joint.unrolled import supervised
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream

NET = Mlp((2, 4, 1))


def process(steps=120, batch=8):
    x = torch.randn(steps, batch, 2, generator=stream(0, "x"), dtype=torch.float64)
    return Process(NET, x, torch.sin(x.sum(-1)), Adam(0.05))


def starts(n):
    return NET.init([stream(i, "init") for i in range(n)], torch.float64)


def test_it_is_the_unrolled_training_in_single_precision() -> None:
    p = process()
    exact = supervised(NET, p.x, p.y, p.steps, p.optimizer)(starts(3))
    assert torch.allclose(p(starts(3)), exact, rtol=0, atol=2e-3)
    assert not torch.allclose(p(starts(3)), starts(3), rtol=0, atol=0.1)
    assert p.flops == 6 * NET.p * 120 * 8


def test_the_same_start_comes_out_the_same_alone_and_among_many() -> None:
    p, theta_0 = process(), starts(700)  # more than an engine's chunk
    humans = p(theta_0)
    assert replays(p, theta_0, humans)
    assert replays(p, theta_0[650:651], humans[650:651])


def test_another_order_of_data_or_start_does_not_replay() -> None:
    p, theta_0 = process(), starts(2)
    humans = p(theta_0)
    turned = dataclasses.replace(p, x=p.x.flip(0), y=p.y.flip(0))
    assert not replays(turned, theta_0, humans)
    assert not replays(p, theta_0 + 1e-6, humans)
