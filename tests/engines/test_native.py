"""The numba engine against float64, against itself in other company, and against another width of registers."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_sim.engines.spec import Adam, AdamW, Fixed, Fresh, Head, Sgd
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream, streams
from reuse_sim.train import train, value_and_grad

kernel = pytest.importorskip("reuse_sim.engines.kernel", reason="the numba engine is an extra: pip install '.[fast]'")

OPTIMIZERS = (Sgd(0.05, 0.9), Sgd(0.1), Adam(0.01), AdamW(0.01, decay=0.1))
LOSSES = {"squared": (Head("squared", 3),), "logistic": (Head("logistic", 3),),
          "cross_entropy": (Head("cross_entropy", 3),),
          "heads": (Head("squared", 1, 0.5), Head("cross_entropy", 3), Head("logistic", 2, 0.2))}  # fmt: skip


def material(sizes, heads, n=3, count=37, activation="tanh", bias=True):
    """A net, θ `(n, p)`, and shared questions with targets that fit the heads."""
    net, g = Mlp(tuple(sizes), activation, bias), stream(0, "material")
    x = torch.randn(count, sizes[0], generator=g)
    parts = []
    for head in heads:
        if head.loss == "cross_entropy":
            parts.append(torch.randint(head.outputs, (count, 1), generator=g).float())
        elif head.loss == "logistic":
            parts.append(torch.rand(count, head.outputs, generator=g))
        else:
            parts.append(torch.randn(count, head.outputs, generator=g))
    return net, net.init(streams(0, [str(i) for i in range(n)])), x, torch.cat(parts, 1)


def run(engine, net, theta, x, y, heads, optimizer=OPTIMIZERS[0], steps=50, **more):
    questions = Fixed(x.to(theta.dtype), y.to(theta.dtype))
    return train(net, theta, questions, steps=steps, optimizer=optimizer, heads=heads, engine=engine, **more)


def off(theta, truth):
    """Relative distance of float32 parameters from float64 ones, per network."""
    return ((theta.double() - truth).norm(dim=1) / truth.norm(dim=1)).max().item()


@pytest.mark.parametrize(("name", "optimizer"), list(product(LOSSES, OPTIMIZERS)), ids=str)
def test_fifty_steps_stay_as_near_to_float64_as_torch_does(name, optimizer):
    heads = LOSSES[name]
    net, theta, x, y = material((4, 17, 16, sum(h.outputs for h in heads)), heads)
    truth = run("torch", net, theta.double(), x, y, heads, optimizer)
    ours, other = (run(e, net, theta, x, y, heads, optimizer) for e in ("numba", "torch"))
    assert off(ours.theta, truth.theta) <= 3 * off(other.theta, truth.theta)
    assert torch.allclose(ours.loss.double(), truth.loss, rtol=1e-5)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(
    "sizes", [(7, 33, 50, 19, 3), (4, 16, 16, 1), (5, 3), (1, 2, 1), (3, 130, 20), (9, 64, 64, 12)]
)
def test_gradients_are_those_of_float64(sizes, activation):
    for loss in ("squared", "logistic") + ("cross_entropy",) * (sizes[-1] > 1):
        heads = (Head(loss, sizes[-1]),)
        net, theta, x, y = material(sizes, heads, count=150, activation=activation)
        value, gradient = value_and_grad(net, x, y, heads=heads, engine="numba")(theta)
        truth, slope = value_and_grad(net, x.double(), y.double(), heads=heads, engine="torch")(theta.double())
        assert torch.allclose(value.double(), truth, rtol=1e-6, atol=1e-7)
        assert off(gradient, slope) <= 1e-6


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 70), min_size=2, max_size=5), st.integers(1, 300), st.sampled_from(["tanh", "relu"]),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_any_shape(sizes, count, activation, bias, shared):
    heads = (Head("squared", sizes[-1]),)
    net, theta, x, y = material(sizes, heads, 2, count, activation, bias)
    if not shared:
        x, y = torch.stack([x, 2 * x]), torch.stack([y, -y])
    value, gradient = value_and_grad(net, x, y, heads=heads, engine="numba")(theta)
    truth, slope = value_and_grad(net, x.double(), y.double(), heads=heads, engine="torch")(theta.double())
    assert torch.allclose(value.double(), truth, rtol=1e-5, atol=1e-7)
    # A unit at its kink, or a gradient that cancels, leaves absolute error only.
    assert (gradient - slope).abs().max() <= 1e-5 * (1 + slope.abs().max())


def test_tanh_is_within_six_units_in_the_last_place():
    x = np.concatenate([np.linspace(-12, 12, 2**18), np.geomspace(1e-30, 1, 2**14)]).astype(np.float32)
    kernel.tanh_of(got := x.copy())
    truth = np.tanh(x.astype(np.float64))
    unit = np.spacing(np.abs(truth).astype(np.float32)).astype(np.float64)
    assert np.max(np.abs(got - truth) / unit) <= 6
    assert np.abs(got).max() == 1 and (np.sign(got) == np.sign(truth)).all()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_what_is_not_a_number_stays_so(activation):
    net, theta, x, y = material((2, 5, 5, 1), (Head(),), activation=activation)
    theta[1, 3] = math.nan
    values, _ = value_and_grad(net, x, y, engine="numba")(theta)
    assert values.isfinite().tolist() == [True, False, True]


@pytest.mark.parametrize("sizes", [(4, 16, 16, 1), (7, 33, 50, 19, 3)])
def test_a_network_is_the_same_in_any_company(sizes):
    heads = (Head("squared", sizes[-1]),)
    net, theta, x, y = material(sizes, heads, n=70)
    whole = run("numba", net, theta, x, y, heads, threads=1)
    assert torch.equal(whole.theta, run("numba", net, theta, x, y, heads, threads=2).theta)
    for n in (1, 2, 3, 8):
        assert torch.equal(whole.theta[:n], run("numba", net, theta[:n], x, y, heads).theta)
    assert torch.equal(whole.theta[69:], run("numba", net, theta[69:], x, y, heads).theta)


PRINT_BITS = """
import hashlib, sys
sys.path.insert(0, {here!r})
from test_native import bits
from reuse_sim.engines import kernel
assert not kernel.WIDE
print(bits())
"""


def bits() -> str:
    """SHA-256 of what some trainings come to."""
    digest = hashlib.sha256()
    for sizes, name, optimizer in [
        ((4, 16, 16, 3), "squared", Sgd(0.05, 0.9)), ((7, 33, 50, 19, 6), "heads", AdamW(0.01)),
        ((5, 70, 3), "logistic", Adam(0.01)), ((3, 64, 3), "cross_entropy", Adam(0.01)),
    ]:  # fmt: skip
        heads = LOSSES[name]
        net, theta, x, y = material(sizes, heads, 2, 150, "relu" if name == "logistic" else "tanh")
        digest.update(run("numba", net, theta, x, y, heads, optimizer, clip=1.0).theta.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.slow
@pytest.mark.skipif("fma" not in str(kernel._FEATURES), reason="this machine has no fused multiply-add")
def test_another_width_of_registers_gives_the_same_bits():
    narrow = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma,+avx,+sse4.2,+popcnt,+bmi,+bmi2"}
    source = PRINT_BITS.format(here=os.path.dirname(__file__))
    done = subprocess.run([sys.executable, "-c", source], env=os.environ | narrow, capture_output=True, text=True)
    assert done.stdout.strip() == bits(), done.stderr


def test_weights_of_padding_stay_zero():
    from reuse_sim.engines import native
    from reuse_sim.engines.spec import Rows, Work

    heads = (Head("squared", 3),)
    net, theta, x, y = material((5, 7, 3), heads)
    state = native.start(Work(net, heads, AdamW(0.01)), theta)
    native.advance(state, Rows(x[None], y[None]), 0, range(0, 20), [0.01] * 20)
    assert np.count_nonzero(state.padded[0, : state.plan.size]) == net.p


def test_more_questions_than_stay_in_memory():
    from reuse_sim.engines import native

    heads = (Head("squared", 1),)
    net, theta, x, y = material((4, 5, 1), heads, 2, native.STAY // (4 * 5) + 999)
    value, gradient = value_and_grad(net, x, y, heads=heads, engine="numba")(theta)
    truth, slope = value_and_grad(net, x.double(), y.double(), heads=heads, engine="torch")(theta.double())
    assert torch.allclose(value.double(), truth, rtol=1e-5) and off(gradient, slope) <= 1e-5


def fresh(net, own):
    """New questions from each network's own stream, as `Fresh` asks for them."""

    def draw(members, n):
        x = torch.stack([torch.randn(n, net.sizes[0], generator=g) for g in own[members]])
        return x, torch.sin(x.sum(-1, keepdim=True))

    return Fresh(draw, 24)


@pytest.mark.parametrize("kind", ["all", "own", "minibatch", "own minibatch", "fresh", "large minibatch"])
def test_every_kind_of_questions_comes_to_the_same(kind):
    """The same rows at the same steps; 30 steps in float32 part by rounding only."""
    net, theta, x, y = material((4, 9, 1), (Head(),), n=35, count=200)
    if "own" in kind:
        x, y = (torch.stack([t * (1 + i / 35) for i in range(35)]) for t in (x, y))
    batch = {"minibatch": 20, "own minibatch": 20, "large minibatch": 170}.get(kind)
    found = []
    for engine in ("torch", "numba"):
        own = streams(1, [str(i) for i in range(35)])
        asked = fresh(net, own) if kind == "fresh" else Fixed(x, y, batch, own if batch else ())
        how = dict(steps=60, optimizer=Adam(0.003), save=(0, 7, 50, 55), engine=engine, clip=0.5)
        found.append(train(net, theta, asked, **how))
    truth, ours = found
    assert off(ours.theta, truth.theta.double()) < 1e-4
    assert torch.allclose(ours.loss, truth.loss, rtol=1e-3)
    for here, there in zip(ours.iterates, truth.iterates, strict=True):
        assert off(here, there.double()) < 1e-4
    assert torch.equal(ours.iterates[0], theta) and not torch.equal(ours.iterates[1], ours.iterates[2])


def test_clipping_is_felt_and_the_same():
    net, theta, x, y = material((4, 9, 1), (Head(),), count=50)
    found = [run(e, net, theta, x, 30 * y, (Head(),), steps=20, clip=0.7).theta for e in ("torch", "numba")]
    free = run("numba", net, theta, x, 30 * y, (Head(),), steps=20).theta
    assert off(found[1], found[0].double()) < 1e-5 < 1e-2 < off(free, found[0].double())


def test_networks_stop_at_the_same_step():
    net, theta, x, y = material((4, 9, 1), (Head(),), n=40, count=50)
    limit = run("torch", net, theta, x, y, (Head(),), steps=150).loss.median().item()
    found = [run(e, net, theta, x, y, (Head(),), steps=150, stop_loss=limit) for e in ("torch", "numba")]
    assert found[0].stopped == found[1].stopped and 5 < len(found[0].stopped) < 40
    assert off(found[1].theta, found[0].theta.double()) < 1e-4


def test_a_network_that_breaks_is_named_and_the_others_go_on():
    net, theta, x, y = material((4, 9, 1), (Head(),), n=5, count=50)
    theta[2] *= 1e25
    theta[4, 0] = math.nan
    found = [run(e, net, theta, x, y, (Head(),), steps=20) for e in ("torch", "numba")]
    assert list(found[0].broken) == list(found[1].broken) == [2, 4]
    assert found[0].broken == found[1].broken and found[1].broken[4].endswith("not finite at step 0 with rate 0.05")
    assert torch.equal(found[1].theta[2], theta[2])
    others = [0, 1, 3]
    assert torch.equal(found[1].theta[others], run("numba", net, theta[others], x, y, (Head(),), steps=20).theta)
