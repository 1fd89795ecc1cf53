"""Training as a function of its start: the same as by an engine, its gradient and Jacobian as by differences."""

from __future__ import annotations

import math

import pytest
import torch

from reuse_sim.engines.spec import Adam, AdamW, Fixed, Sgd
from reuse_sim.errors import InputError
from reuse_sim.joint.unrolled import Training, supervised
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.train import train

NET = Mlp((2, 3, 1))
OPTIMIZERS = [Sgd(0.3), Sgd(0.1, momentum=0.8), Adam(0.05)]


def training(optimizer, steps=37, batch=6):
    x = torch.randn(steps, batch, 2, generator=stream(0, "x"), dtype=torch.float64)
    return supervised(NET, x, torch.sin(x.sum(-1)), steps, optimizer)


def starts(n):
    return NET.init([stream(i, "init") for i in range(n)], torch.float64)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_trains_as_the_engine_does(optimizer) -> None:
    x = torch.randn(9, 2, generator=stream(1, "x"), dtype=torch.float64)
    y = torch.sin(x.sum(-1))
    ours = supervised(NET, x.expand(50, 9, 2), y.expand(50, 9), 50, optimizer)(starts(4))
    fit = train(NET, starts(4), Fixed(x, y[:, None]), steps=50, optimizer=optimizer, engine="torch")
    assert torch.allclose(ours, fit.theta, rtol=0, atol=1e-10)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_gradient_through_training_is_that_of_differences(optimizer) -> None:
    run, theta = training(optimizer), starts(3)
    weights = torch.randn(3, NET.p, generator=stream(0, "weights"), dtype=torch.float64)

    def value(theta_0):
        return (weights * run(theta_0)).sum(1)

    leaf = theta.clone().requires_grad_()
    (g,) = torch.autograd.grad(value(leaf).sum(), leaf)
    h = 1e-5
    apart = torch.stack([(value(theta + h * e) - value(theta - h * e)) / (2 * h) for e in torch.eye(NET.p).double()], 1)
    assert float((g - apart).abs().max()) < 1e-6 * float(g.abs().max())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_forwards_and_backwards_have_the_same_jacobian(optimizer) -> None:
    run, theta = training(optimizer), starts(1)
    copies = theta.expand(NET.p, NET.p).clone().requires_grad_()
    (rows,) = torch.autograd.grad(run(copies), copies, torch.eye(NET.p).double())
    assert torch.allclose(run.jacobian(theta[0]), rows, rtol=1e-9, atol=1e-12)


def test_on_a_quadratic_the_jacobian_is_known() -> None:
    h = torch.tensor([0.1, 1.0, 3.0, 5.0], dtype=torch.float64)
    run = Training(lambda theta, _: (h * theta.square()).sum(1) / 2, 20, Sgd(0.3), "constant")
    theta = torch.ones(4, dtype=torch.float64)
    assert torch.allclose(run.jacobian(theta), torch.diag((1 - 0.3 * h) ** 20), rtol=1e-12, atol=0)
    assert torch.allclose(run(theta[None])[0], (1 - 0.3 * h) ** 20, rtol=1e-12, atol=0)


def test_a_network_alone_is_as_among_others_and_with_or_without_a_gradient() -> None:
    run, theta = training(Adam(0.05)), starts(5)
    together = run(theta)
    assert torch.allclose(run(theta[2:3]), together[2:3], rtol=0, atol=1e-12)
    assert torch.equal(run(theta.clone().requires_grad_()).detach(), together)


def test_a_parameter_without_a_gradient_does_no_harm() -> None:
    run = Training(lambda theta, _: theta[:, 0].square(), 10, Adam(0.1))
    leaf = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(run(leaf).sum(), leaf)
    assert bool(g.isfinite().all()) and g[:, 1:].tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_what_does_not_fit_is_refused_before_it_runs() -> None:
    asked = []

    def loss(theta, step):
        asked.append(step)
        return theta.square().sum(1)

    run = Training(loss, 10_000, Sgd(0.1))
    with pytest.raises(InputError, match="got 2 networks x 10,000 steps.*expected at most 0.0038 MiB.*fewer networks"):
        run(torch.ones(2, 50, dtype=torch.float64, requires_grad=True), memory=4000)
    assert len(asked) == 1
    assert len(run(torch.ones(1, 5, dtype=torch.float64), memory=0)) == 1  # without a gradient nothing is held


def test_memory_grows_as_the_root_of_the_steps() -> None:
    def held(steps, n):
        return training(Adam(0.05), steps).memory_bytes(starts(n))

    assert held(1600, 2) / held(100, 2) == pytest.approx(4, rel=0.1)
    assert held(100, 8) / held(100, 2) == pytest.approx(4, rel=0.35)  # what is shared is counted once


def test_memory_is_what_a_segment_holds() -> None:
    """All that autograd saves while a segment is run with its graph, and the states between segments."""
    run, theta, sizes = training(Adam(0.05), 100), starts(6), {}

    def note(t):
        sizes[t.data_ptr()] = (t, t.numel() * t.element_size())
        return t

    state = tuple(t.requires_grad_() for t in run.begin(theta))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        run.advance(state, 0, math.isqrt(99) + 1, linked=True)
    segment = sum(n for _, n in sizes.values())
    assert run.memory_bytes(theta) == pytest.approx(2 * segment, rel=0.5)


@pytest.mark.parametrize(("change", "match"), [
    ({"steps": 0}, "steps: got 0"), ({"optimizer": AdamW(0.1)}, "optimizer: got AdamW; expected Sgd or Adam"),
])
def test_bad_input_is_refused(change, match) -> None:
    with pytest.raises(InputError, match=match):
        Training(**{"loss": lambda theta, _: theta.sum(1), "steps": 3, "optimizer": Sgd(0.1)} | change)


def test_questions_must_be_there_for_every_step() -> None:
    with pytest.raises(InputError, match="x: got questions of 2 steps; expected those of 3"):
        supervised(NET, torch.zeros(2, 4, 2), torch.zeros(2, 4), 3, Sgd(0.1))
