"""The outer that learns from answers: its formula, one gradient step per linear layer, and what it is shown."""

import itertools

import pytest
import torch

from reuse_sim import testing
from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.outers import blocks, examples, in_context, slot, training
from reuse_sim.outers.training import Training
from reuse_sim.rng import stream, streams
from reuse_sim.types import Access, Examples, Leaked
from reuse_sim.worlds import merged_neurons, radius

RADIUS, MERGED = radius.build(), merged_neurons.build(d=5)


def normal(name: str, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(0, name), dtype=dtype)


def seen(x: torch.Tensor, y: torch.Tensor) -> Access:
    """Access to examples, `(H, m, d)` and `(A, H, m)`, and to no bits."""
    blank = torch.zeros(*y.shape[:2], 1)
    return Access(Leaked(blank, blank, blank), examples=Examples(x, y))


def test_it_is_its_formula_one_question_at_a_time():
    outer, net = in_context.build(width=3, layers=2, views=2, examples=4), Mlp((2, 5, 1))
    theta = outer.init(net, streams(0, ["outer"])).double()
    theta = theta + 0.2 * normal("away", *theta.shape)
    x, shown, y = normal("x", 1, 1, 3, 2), normal("shown", 1, 4, 2), normal("y", 1, 1, 4)
    got = outer.answer(RADIUS, net, theta, x, seen(shown, y))
    v = {name: part[0] for name, part in blocks.views(outer._layout(net), theta).items()}

    def layer(i: int, z: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        pulled = torch.zeros(3, dtype=torch.float64)
        for view in (slice(0, 2), slice(2, 4)):
            scores = torch.stack([(v[f"query{i}"][view] @ z) @ (v[f"key{i}"][view] @ c) for c in context]) / 2**0.5
            for a, c in zip(scores.exp() / scores.exp().sum(), context, strict=True):
                pulled += a * v[f"out{i}"][:, view] @ (v[f"value{i}"][view] @ c)
        z = z + pulled
        return z + v[f"down{i}"] @ torch.relu(v[f"up{i}"] @ z + v[f"up{i}_bias"])

    start = [
        v["shown"] @ torch.cat([a, b[None]]) + v["shown_bias"] for a, b in zip(shown[0], y[0, 0], strict=True)
    ]
    for n in range(3):
        context, z = start, v["asked"] @ x[0, 0, n] + v["asked_bias"]
        for i in range(2):
            context, z = [layer(i, c, context) for c in context], layer(i, z, context)
        for head in range(2):
            units = torch.relu(v["units"][head] @ z + v["units_bias"][head])
            expected = v["heads"][head] @ units + v["skip"][head] @ z + v["heads_bias"][head, 0]
            assert float(got[head][0, 0, n]) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("d", "m", "rate", "layers", "views"),
    [*itertools.product((1, 3, 8), (1, 5, 40), (0.01, 0.7), (1,), (1,)), (3, 20, 0.1, 4, 1), (3, 20, 0.1, 2, 2)],
)
def test_linear_attention_is_gradient_descent_on_the_examples(d, m, rate, layers, views):
    """von Oswald et al. 2022: one layer is one step; from any start, and as many steps as there are layers."""
    outer = in_context.build(width=(d + 1) * views, layers=layers, views=views, attention="linear", examples=m)
    net = Mlp((d, 4, 1))
    x, shown = normal("x", 1, 2, 6, d), normal("shown", 2, m, d)
    y, w = normal("y", 1, 2, m), normal("w", d)
    theta = in_context.gradient_steps(outer, net, w, rate)
    for human in range(2):
        now = w.clone()
        for _ in range(layers):
            now -= rate * shown[human].T @ (shown[human] @ now - y[0, human]) / m
        for head in outer.answer(RADIUS, net, theta, x, seen(shown, y)):
            assert torch.allclose(head[0, human], x[0, human] @ now, rtol=0, atol=1e-12)


def test_examples_have_no_order():
    outer, net = in_context.build(width=6), Mlp((3, 5, 1))
    theta = outer.init(net, streams(0, ["o"])).double()
    x, shown, y = normal("x", 1, 1, 4, 3), normal("shown", 1, 9, 3), normal("y", 1, 1, 9)
    turned = torch.randperm(9, generator=stream(0, "order"))
    one = torch.stack(outer.answer(RADIUS, net, theta, x, seen(shown, y)))
    other = torch.stack(outer.answer(RADIUS, net, theta, x, seen(shown[:, turned], y[..., turned])))
    assert torch.allclose(one, other, atol=1e-12)


def test_it_says_what_it_has_no_place_for():
    outer, net = in_context.build(width=6), Mlp((3, 5, 1))
    theta, x, blank = outer.init(net, streams(0, ["o"])), torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, net.p)
    with pytest.raises(InputError, match="examples"):
        outer.answer(RADIUS, net, theta, x, Access(Leaked(blank, blank, blank)))
    with pytest.raises(InputError, match="outer: slot"):
        outer.answer(RADIUS, net, theta, x, Access(Leaked(blank, blank, blank), torch.zeros(1, 1, 2)))
    with pytest.raises(InputError, match="attention"):
        in_context.gradient_steps(outer, net, torch.zeros(3), 0.1)
    with pytest.raises(InputError, match="width"):
        in_context.gradient_steps(in_context.build(width=3, attention="linear"), net, torch.zeros(3), 0.1)
    with pytest.raises(InputError, match="views"):
        in_context.gradient_steps(in_context.build(width=8, attention="linear"), net, torch.zeros(3), 0.1)


def test_examples_are_the_answers_of_whoever_is_in_place_to_the_same_questions():
    outer = in_context.build(examples=50)
    teacher, net = RADIUS.teacher(streams(0, ["s", "t"])), RADIUS.human_net(3)
    human, sibling = (net.init(streams(0, [f"{n}0", f"{n}1"]))[None] for n in ("human", "sibling"))

    def show(theta, outer=outer):
        return examples.shown(outer, RADIUS, net, theta, teacher, streams(0, ["q0", "q1"]))

    one, other = show(human), show(sibling)
    assert one.x.shape == (2, 50, RADIUS.d) and one.y.shape == (1, 2, 50)
    assert torch.equal(one.x, other.x) and not torch.allclose(one.y, other.y)
    assert torch.allclose(one.y[0], RADIUS.human_answer(net, human[0], one.x))
    assert torch.equal(one.x, RADIUS.on_distribution(teacher, 50, streams(0, ["q0", "q1"])))
    off = show(human, in_context.build(examples=50, examples_from="off_distribution"))
    assert torch.equal(off.x, RADIUS.off_distribution(teacher, 50, streams(0, ["q0", "q1"])))
    assert show(human, slot.build()) is None
    taught = in_context.build(examples=50, examples_of="teacher")
    told, again = show(human, taught), show(sibling, taught)
    assert torch.equal(told.y, again.y) and torch.equal(told.y[0], RADIUS.answer(teacher, told.x))
    assert not taught.has_place and outer.has_place
    testing.check_outer(in_context.build(width=4, examples=5, examples_of="teacher"), RADIUS)


def test_training_shows_each_arm_the_answers_of_its_own_people():
    outer, how = in_context.build(width=4, examples=5), Training(steps=3, batch=4, off_batch=4, humans_per_step=2)
    net = MERGED.human_net(3)
    theta, unrelated = (net.init(streams(0, [f"{n}{i}" for i in range(3)])) for n in ("own", "unrelated"))
    teacher = MERGED.teacher(streams(0, ["t0", "t1", "t2"]))
    nothing = torch.zeros(2, 3, net.p)
    leaked = Leaked(nothing, nothing, nothing)

    def trained(shown):
        room = training.Classroom(MERGED, net, theta, teacher, theta_shown=shown)
        return training.train(outer, [how] * 2, room, lambda step: leaked, streams(0, ["o", "o"]), stream(0, "q")).theta

    own, mixed = trained(None), trained(torch.stack([theta, unrelated]))
    assert torch.equal(own[0], own[1])
    assert torch.allclose(mixed[0], own[0], atol=1e-6) and not torch.allclose(mixed[1], own[1], atol=1e-3)


def test_it_learns_to_learn_a_human_it_was_not_trained_on():
    """Linear humans in a linear world are told by examples: better than chance on new ones, where none can be known."""
    outer = in_context.build(width=16, layers=1, examples=16)
    how = Training(steps=400, rate=0.01, batch=16, off_batch=16, humans_per_step=16)
    net = Mlp((5, 1), bias=False)
    theta = 5**0.5 * net.init(streams(0, [f"h{i}" for i in range(220)]))
    teacher = MERGED.teacher(streams(0, ["t"])).expand(220, -1)
    blank = torch.zeros(1, 200, net.p)
    room = training.Classroom(MERGED, net, theta[:200], teacher[:200])
    leaked = Leaked(blank, blank, blank)
    fit = training.train(outer, [how], room, lambda step: leaked, streams(0, ["o"]), stream(0, "q"))
    new, whose = theta[200:], teacher[200:]
    shown = examples.shown(outer, MERGED, net, new[None], whose, streams(0, [f"e{i}" for i in range(20)]))
    x = MERGED.on_distribution(whose, 100, streams(0, [f"x{i}" for i in range(20)]))
    access = Access(Leaked(*[blank[:, :20]] * 3), examples=shown)
    predicted, human = outer.answer(MERGED, net, fit.theta, x[None], access)[1][0], MERGED.human_answer(net, new, x)
    assert float((predicted - human).square().mean() / human.var()) < 0.5
