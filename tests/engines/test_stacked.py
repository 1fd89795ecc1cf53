"""The torch engine: gradients against autograd, and networks that do not notice their neighbours."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reuse_sim.engines import functional, stacked
from reuse_sim.engines.spec import Adam, AdamW, Head, Rows, Sgd, Work
from reuse_sim.nets import Mlp
from reuse_sim.rng import streams

DTYPES = st.sampled_from([torch.float32, torch.float64])


@st.composite
def works(draw, dtypes=DTYPES):
    """Some work with c networks' θ and questions: odd widths, 1–4 layers, any loss, own or shared questions."""
    sizes = tuple(draw(st.lists(st.integers(1, 70), min_size=2, max_size=5)))
    net = Mlp(sizes, draw(st.sampled_from(["tanh", "relu"])), draw(st.booleans()))
    cut = draw(st.integers(0, sizes[-1] - 1))
    kinds = st.sampled_from(["squared", "logistic", "cross_entropy"])
    widths = (cut, sizes[-1] - cut) if cut else (sizes[-1],)
    heads = tuple(Head(draw(kinds), k, draw(st.sampled_from([1.0, 0.3]))) for k in widths)
    optimizer = draw(st.sampled_from([Sgd(0.1), Sgd(0.05, 0.9), Adam(0.01), AdamW(0.01)]))
    work = Work(net, heads, optimizer, draw(st.sampled_from([None, 0.1])))
    c, b, seed = draw(st.sampled_from([1, 2, 5, 40])), draw(st.integers(1, 60)), draw(st.integers(0, 9))
    return made(work, c, b, draw(st.booleans()), seed, draw(dtypes))


def made(work: Work, c: int, b: int, shared: bool, seed: int, dtype: torch.dtype):
    generator, own = streams(seed, ["x"])[0], 1 if shared else c
    x = torch.randn(own, b, work.net.sizes[0], generator=generator, dtype=torch.float64)
    y = [
        torch.randint(h.outputs, (own, b, 1), generator=generator).double()
        if h.loss == "cross_entropy"
        else torch.rand(own, b, h.outputs, generator=generator, dtype=torch.float64)
        for h in work.heads
    ]
    theta = work.net.init(streams(seed, [str(i) for i in range(c)]), torch.float64)
    return work, theta.to(dtype), x.to(dtype), torch.cat(y, -1).to(dtype)


def take(work, theta, x, y, steps=4):
    state = stacked.start(work, theta)
    stacked.advance(state, Rows(x, y), 0, range(steps), [work.optimizer.rate] * steps)
    return stacked.theta(state)


def members(k: slice, *tensors):
    return [t if len(t) == 1 else t[k] for t in tensors]


ODD = made(Work(Mlp((7, 33, 50, 19, 3)), (Head("cross_entropy", 3),), Adam(0.01)), 5, 37, False, 0, torch.float64)
SMALL = made(Work(Mlp((1, 1)), (Head("logistic"),), Sgd(0.1)), 2, 1, True, 0, torch.float64)


@given(works(st.just(torch.float64)))
@example(ODD)
@example(SMALL)
@settings(max_examples=60)
def test_values_and_gradients_are_those_of_autograd(case):
    work, theta, x, y = case
    values, gradients = stacked.value_and_grad(work.net, work.heads, x, y)(theta)
    for i in range(len(theta)):
        leaf = theta[i].clone().requires_grad_()
        value = functional.loss(work.net, work.heads, leaf, *(t[0] for t in members(slice(i, i + 1), x, y)))
        (gradient,) = torch.autograd.grad(value, leaf)
        assert abs(values[i] - value) <= 1e-12 * (1 + abs(value))
        assert (gradients[i] - gradient).norm() <= 1e-12 * (1 + gradient.norm())


@given(works(), st.data())
@settings(max_examples=80)
def test_a_network_in_any_chunk_is_bit_equal_to_itself_alone(case, data):
    work, theta, x, y = case
    together = take(work, theta, x, y)
    a = data.draw(st.integers(0, len(theta) - 1))
    b = data.draw(st.integers(a + 1, len(theta)))
    some = slice(a, b)
    assert torch.equal(together[some], take(work, theta[some], *members(some, x, y)))
    assert torch.equal(together[a:][:1], take(work, theta[a:][:1], *members(slice(a, a + 1), x, y)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [(4, 16, 16, 1), (7, 33, 50, 19, 3), (3, 5, 1), (6, 1)])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_the_first_network_is_the_same_in_populations_of_1_2_3_and_8(sizes, loss, dtype):
    work = Work(Mlp(sizes), (Head(loss, sizes[-1]),), AdamW(0.01), clip=0.1)
    work, theta, x, y = made(work, 8, 54, False, 0, dtype)
    firsts = [take(work, theta[:n], x[:n], y[:n], steps=30)[0] for n in (1, 2, 3, 8)]
    assert all(torch.equal(first, firsts[0]) for first in firsts)


@pytest.mark.parametrize("sizes", [(3, 16, 7, 10), (8, 5, 19, 10), (17, 13, 17, 17, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clipping_is_the_same_in_chunks_of_any_size(sizes, dtype):
    # More fields than a sum over them adds in the same order for few networks as for many.
    work = Work(Mlp(sizes), (Head("squared", sizes[-1]),), Sgd(0.05, 0.9), clip=0.1)
    work, theta, x, y = made(work, 40, 56, False, 0, dtype)
    together = take(work, theta, x, y, steps=20)
    for some in (slice(0, 8), slice(30, 33), slice(39, 40)):
        assert torch.equal(together[some], take(work, theta[some], x[some], y[some], steps=20))


def test_those_that_stay_do_not_notice_that_others_leave():
    work, theta, x, y = made(Work(Mlp((3, 9, 1)), (Head(),), Adam(0.01)), 4, 20, False, 0, torch.float32)
    whole = take(work, theta, x, y, steps=20)
    for gone in ([1], [0, 2], [0, 2, 3]):
        bad = x.clone()
        bad[gone] = float("nan")
        stay = [i for i in range(4) if i not in gone]
        state = stacked.start(work, theta)
        stacked.advance(state, Rows(x, y), 0, range(8), [0.01] * 20)
        before = stacked.theta(state)
        stacked.advance(state, Rows(bad, y), 8, range(8, 20), [0.01] * 20)
        assert state.broken == dict.fromkeys(gone, 8) and state.stopped == {}
        assert torch.equal(stacked.theta(state)[stay], whole[stay])
        assert torch.equal(stacked.theta(state)[gone], before[gone])
        assert state.loss[stay].isfinite().all() and state.loss[gone].isnan().all()


def test_a_gradient_too_large_for_its_sum_breaks_nobody():
    largest = torch.finfo(torch.float32).max
    work = Work(Mlp((1, 1), bias=False), (Head("logistic"),), Sgd(0.0))
    x, y = torch.full((1, 2, 1), largest), torch.zeros(1, 2, 1)
    state = stacked.start(work, torch.zeros(3, 1))
    stacked.advance(state, Rows(x, y), 0, range(1), [0.0])  # gradients of half the largest number each
    assert state.broken == {}


def test_any_number_of_networks_has_gradients_in_chunks():
    work, theta, x, y = made(Work(Mlp((3, 9, 1)), (Head(),), Sgd(0.1)), 70, 20, False, 0, torch.float64)
    for own, targets in ((x, y), (x[:1], y[:1]), (x, y[:1])):
        values, gradients = stacked.value_and_grad(work.net, work.heads, own, targets)(theta)
        expected = functional.value_and_grad(work.net, work.heads, own, targets)(theta)
        assert torch.allclose(values, expected[0], rtol=0, atol=1e-13)
        assert torch.allclose(gradients, expected[1], rtol=0, atol=1e-13)


def test_results_of_one_call_survive_the_next():
    work, theta, x, y = made(Work(Mlp((3, 9, 1)), (Head(),), Sgd(0.1)), 3, 20, True, 0, torch.float64)
    function = stacked.value_and_grad(work.net, work.heads, x, y)
    first = function(theta)
    kept = [t.clone() for t in first]
    function(theta + 1)
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))


def test_tanh_is_within_two_units_in_the_last_place_of_1():
    # One unit with weight 1 into an output with weight 1: what the network answers is its tanh.
    x = torch.cat([torch.linspace(-20, 20, 100_001), torch.logspace(-40, 38, 20_001), torch.tensor([0.0, -1e38])])
    net = Mlp((1, 1, 1), bias=False)
    passes = stacked.Passes(net, (Head(),), stacked.layout(net).flat(torch.ones(2, 2)), 2, len(x))
    passes(x[None, :, None], torch.zeros(1, len(x), 1))
    error = passes.outputs[-1].view[0, :, 0].double() - x.double().tanh()
    assert error.abs().max() <= 2 * 2**-23
