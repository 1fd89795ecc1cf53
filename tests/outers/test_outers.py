"""What each outer computes, against its formula written out; what the dials do to gradients and training."""

import math

import pytest
import torch

from reuse_sim.errors import InputError
from reuse_sim.outers import blocks, context, rival, slot, training
from reuse_sim.rng import stream, streams
from reuse_sim.types import Access, Leaked
from reuse_sim.worlds import merged_neurons, radius

RADIUS, MERGED = radius.build(), merged_neurons.build(d=5)


def all_of(theta):
    return Leaked(theta, torch.ones_like(theta), torch.zeros_like(theta))


def handed(world, width: int, arms: int, humans: int):
    net = world.human_net(width)
    theta = net.init(streams(0, [f"h{i}" for i in range(arms * humans)])).unflatten(0, (arms, humans))
    x = torch.randn(1, humans, 7, world.d, generator=stream(0, "x"))
    return net, Access(all_of(theta)), x


def test_the_context_outer_is_its_formula():
    outer = context.build(width=3)
    net, access, x = handed(RADIUS, 2, 1, 1)
    theta = outer.init(net, streams(0, ["outer"]))
    answer, human = outer.answer(RADIUS, net, theta, x, access)
    v = {k: p[0] for k, p in blocks.views(outer._layout(net), theta).items()}
    tokens = torch.cat(
        [context.neuron_tokens(net, access.leaked.value), context.neuron_tokens(net, access.leaked.known)], -1
    )
    for q in range(7):
        z = torch.zeros(3)
        for t in tokens[0, 0]:
            gain = v["D"] @ t + v["D_bias"]
            z += gain * torch.tanh((v["A"] @ t) @ x[0, 0, q] + v["B"] @ t + v["C"] @ x[0, 0, q])
        z = z / math.sqrt(2)
        for head, got in enumerate((answer, human)):
            units = torch.relu(v["units"][head] @ z + v["units_bias"][head])
            expected = v["heads"][head] @ units + v["skip"][head] @ z + v["heads_bias"][head, 0]
            assert float(got[0, 0, q]) == pytest.approx(float(expected), abs=1e-5)


def test_tokens_hold_each_neuron_once_and_the_output_bias_in_equal_shares():
    net = RADIUS.human_net(2)
    theta = torch.arange(net.p, dtype=torch.float32)
    v = net.views(theta)
    tokens = context.neuron_tokens(net, theta)
    for j in range(2):
        assert torch.equal(tokens[j, :4], v["weight0"][j]) and tokens[j, 4] == v["bias0"][j]
        assert tokens[j, 5] == v["weight1"][0, j] and tokens[j, 6] == v["bias1"][0] / 2


def test_context_refuses_what_it_has_no_place_for():
    with pytest.raises(InputError, match="one hidden layer"):
        context.neuron_tokens(MERGED.human_net(3), torch.zeros(15))
    outer, (net, access, x) = context.build(width=3), handed(RADIUS, 2, 1, 1)
    with pytest.raises(InputError, match="outer: slot"):
        outer.answer(RADIUS, net, outer.init(net, streams(0, ["o"])), x, Access(access.leaked, torch.zeros(1, 1, 7)))


def test_a_slot_that_passes_its_simulated_human_on_is_the_human():
    outer = slot.build(width=4)
    net, access, x = handed(MERGED, 3, 2, 1)
    theta = torch.zeros_like(outer.init(net, streams(0, ["a", "b"])))
    blocks.views(outer._layout(net), theta)["skip"][:, :, 5] = 1.0  # the simulated human's place among the inputs
    answer, human = outer.answer(MERGED, net, theta, x, access)
    expected = MERGED.human_answer(net, access.leaked.value, x)
    assert torch.allclose(answer, expected) and torch.allclose(human, expected)


@pytest.mark.parametrize(
    ("world", "outer", "width"), [(RADIUS, context.build(width=3), 2), (MERGED, slot.build(width=4), 3)]
)
def test_pressure_scales_what_predicting_the_human_does_to_the_shared_part_only(world, outer, width):
    net, access, x = handed(world, width, 1, 1)
    theta = outer.init(net, streams(0, ["o"])).requires_grad_()
    gradients, values = {}, {}
    for pressure in (0.0, 1.0, 3.0):
        _, human = outer.answer(world, net, theta, x, access, torch.tensor([pressure]))
        gradients[pressure] = torch.autograd.grad(human.square().sum(), theta)[0][0]
        values[pressure] = human.detach()
    assert torch.equal(values[0.0], values[3.0])
    shared = gradients[1.0] - gradients[0.0]
    assert shared.norm() > 0 and torch.allclose(gradients[3.0], gradients[0.0] + 3 * shared, rtol=1e-4, atol=1e-4)
    assert (gradients[0.0] != 0).any()  # the head itself learns all the same


def test_arms_see_the_same_questions_and_a_stack_trains_as_each_alone():
    outers = [slot.build(width=4, steps=30, batch=8, off_batch=4, off_labels=o) for o in ("none", "teacher")]
    net = MERGED.human_net(3)
    theta = net.init(streams(0, ["h"]))
    room = training.Classroom(MERGED, net, theta, MERGED.teacher(streams(0, ["t"])))
    leaked = all_of(torch.stack([theta, 0 * theta]))
    both = training.train(outers, room, lambda step: leaked, streams(0, ["o", "o"]), stream(0, "q"))
    for i in range(2):
        one = all_of(leaked.value[i : i + 1])
        alone = training.train(outers[i : i + 1], room, lambda step, one=one: one, streams(0, ["o"]), stream(0, "q"))
        assert torch.allclose(both.theta[i], alone.theta[0], atol=2e-5)  # float32 over 30 steps
    assert not torch.allclose(both.theta[0], both.theta[1], atol=1e-2)


def test_every_step_is_trained_with_what_is_told_by_then():
    outer, net = slot.build(width=4, steps=40, batch=8, off_batch=4), MERGED.human_net(3)
    theta = net.init(streams(0, ["h"]))
    room = training.Classroom(MERGED, net, theta, MERGED.teacher(streams(0, ["t"])))
    nothing, everything, asked = all_of(0 * theta[None]), all_of(theta[None]), []

    def trained(at):
        def told(step):
            asked.append(step)
            return everything if step >= at else nothing

        return training.train([outer], room, told, streams(0, ["o"]), stream(0, "q")).theta

    always, late, never = trained(0), trained(20), trained(40)
    assert asked == 3 * list(range(40))
    assert not torch.equal(always, late) and not torch.equal(late, never)


def test_the_rival_errs_as_much_as_the_human_on_distribution_and_otherwise_elsewhere():
    teacher = MERGED.teacher(streams(0, ["t"]))
    net = MERGED.human_net(3)
    human = net.init(streams(0, ["h"]))
    x = MERGED.on_distribution(teacher, 500, streams(0, ["x"]))
    other = rival.rival_net(net)
    theta = other.init(streams(0, ["r"]))
    truth, answers = MERGED.answer(teacher, x), MERGED.human_answer(net, human, x)
    s = rival.shrinkage(other.forward(theta, x)[..., 0], truth, answers)
    mixed = rival.answer(MERGED, other, theta, s, teacher, x)
    assert float((mixed - truth).square().mean()) == pytest.approx(float((answers - truth).square().mean()), rel=1e-4)
    assert other.activation == "tanh" and rival.rival_net(RADIUS.human_net(3)).activation == "relu"


@pytest.mark.parametrize(("off_labels", "sees"), [("none", False), ("teacher", True)])
def test_off_distribution_truth_reaches_only_the_arm_that_has_it(off_labels, sees, monkeypatch):
    """Make every off-distribution truth another one (those questions have inner sum 0): who notices?"""
    outer = slot.build(width=4, steps=10, batch=8, off_batch=4, off_labels=off_labels)
    net = MERGED.human_net(3)
    theta, teacher = net.init(streams(0, ["h"])), MERGED.teacher(streams(0, ["t"]))
    leaked, honest = all_of(theta[None]), type(MERGED).answer

    def trained():
        room = training.Classroom(MERGED, net, theta, teacher)
        return training.train([outer], room, lambda step: leaked, streams(0, ["o"]), stream(0, "q")).theta

    def dishonest(world, theta_teacher, x):
        inside = x @ theta_teacher.unflatten(-1, (5, 5)).transpose(-1, -2)
        return honest(world, theta_teacher, x) + 3.0 * (inside.sum(-1).abs() < 1e-4)

    before = trained()
    monkeypatch.setattr(type(MERGED), "answer", dishonest)
    assert torch.equal(before, trained()) != sees
