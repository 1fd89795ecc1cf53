"""What each outer computes, against its formula written out; what the dials do to gradients and training."""

import dataclasses
import math

import pytest
import torch

from reuse_sim import testing
from reuse_sim.errors import InputError
from reuse_sim.experiments.interview import matched
from reuse_sim.inheritance import causal
from reuse_sim.leaks import codec, prefix, reading
from reuse_sim.outers import blocks, context, direct, examples, gate, in_context, rival, slot, training
from reuse_sim.outers.training import Training
from reuse_sim.rng import stream, streams
from reuse_sim.types import Access, Leaked
from reuse_sim.worlds import merged_neurons, radius, spurious

RADIUS, MERGED, SPURIOUS = radius.build(), merged_neurons.build(d=5), spurious.build()


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


def test_direct_is_a_slot_that_does_not_listen():
    outer, listening = direct.build(width=4), slot.build(width=4)
    net, access, x = handed(MERGED, 3, 2, 1)
    theta = outer.init(net, streams(0, ["a", "b"]))
    deaf = torch.zeros_like(listening.init(net, streams(0, ["a", "b"])))
    here, there = blocks.views(outer._layout(net), theta), blocks.views(listening._layout(net), deaf)
    places = [*range(MERGED.d), MERGED.d + 2]  # the question and 1; between them the simulated human and the rival
    there["heads"].copy_(here["heads"])
    for name in ("trunk", "skip"):
        there[name][..., places] = here[name]
    for got, expected in zip(
        outer.answer(MERGED, net, theta, x, access), listening.answer(MERGED, net, deaf, x, access), strict=True
    ):
        assert torch.allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("world", [MERGED, SPURIOUS])
def test_the_causal_figure_of_a_gate_is_the_gate_whatever_the_rest_does(world):
    outer = gate.build(gate=0.3, width=4)
    net, access, x = handed(world, 3, 1, 2)
    start = outer.init(net, streams(0, ["o"]))
    assert float(outer.g(net, start)) == pytest.approx(0.3)
    theta = start + torch.randn(start.shape, generator=stream(0, "away"))
    g = float(outer.g(net, theta))
    assert abs(g - 0.3) > 0.05
    human = access.leaked.value[0]
    siblings = net.init(streams(0, [f"s{i}" for i in range(6)])).unflatten(0, (3, 2))

    def asked(theta_human):
        given = Access(all_of(theta_human[None]))
        return outer.answer(world, net, theta, x, given)[0][0]

    before, after = asked(human), torch.stack([asked(s) for s in siblings])
    of_human, of_siblings = (world.human_answer(net, t, x[0]) for t in (human, siblings))
    assert float(causal.follows(before, after, of_human, of_siblings)) == pytest.approx(g, abs=1e-5)


@pytest.mark.parametrize("build", [slot.build, context.build, direct.build, gate.build, in_context.build])
def test_the_answer_head_reads_its_hidden_units_linearly_and_is_squashed_in_a_classification(build):
    """What `hidden` shows is all that the head reads: by least squares its raw output comes out without error."""
    outer = build(width=4)
    net = SPURIOUS.human_net(3)
    theta_human = net.init(streams(0, ["h0"]))[None].double()
    teacher = SPURIOUS.teacher(streams(0, ["t"])).double()
    x = SPURIOUS.off_distribution(teacher, 100, streams(0, ["x"]))[None]
    start = outer.init(net, streams(0, ["o"])).double()
    theta = start + 0.1 * torch.randn(start.shape, generator=stream(0, "away"), dtype=torch.float64)
    shown = examples.shown(outer, SPURIOUS, net, theta_human, teacher, streams(0, ["e"]))
    access = Access(all_of(theta_human), None, shown)
    hidden = outer.hidden(SPURIOUS, net, theta, x, access)[0, 0]
    answer, _ = outer.answer(SPURIOUS, net, theta, x, access)
    assert hidden.shape[0] == 100 > 2 * hidden.shape[1] and float(answer.abs().max()) < 1
    raw = 2 * torch.atanh(answer[0, 0])
    if build is gate.build:  # g H + (1 − g) own, of which only own is squashed
        g, simulated = outer.g(net, theta), hidden[:, -1]
        raw = 2 * torch.atanh((answer[0, 0] - g * simulated) / (1 - g))
    features = torch.cat([hidden, torch.ones(100, 1, dtype=torch.float64)], dim=-1)
    rest = raw - features @ torch.linalg.lstsq(features, raw[:, None], driver="gelsd").solution[:, 0]
    assert float(rest.square().mean()) < 1e-12 * float(raw.var())  # digits lost where tanh is near 1


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
    outer = slot.build(width=4)
    hows = [Training(steps=30, batch=8, off_batch=4, off_truth=share) for share in (0.0, 1.0)]
    net = MERGED.human_net(3)
    theta = net.init(streams(0, ["h"]))
    room = training.Classroom(MERGED, net, theta, MERGED.teacher(streams(0, ["t"])))
    leaked = all_of(torch.stack([theta, 0 * theta]))
    both = training.train(outer, hows, room, lambda step: leaked, streams(0, ["o", "o"]), stream(0, "q"))
    for i in range(2):
        one = all_of(leaked.value[i : i + 1])
        told = lambda step, one=one: one  # noqa: E731
        alone = training.train(outer, hows[i : i + 1], room, told, streams(0, ["o"]), stream(0, "q"))
        assert torch.allclose(both.theta[i], alone.theta[0], atol=2e-5)  # float32 over 30 steps
    assert not torch.allclose(both.theta[0], both.theta[1], atol=1e-2)


def test_every_step_is_trained_with_what_is_told_by_then():
    outer, net, how = slot.build(width=4), MERGED.human_net(3), Training(steps=40, batch=8, off_batch=4)
    theta = net.init(streams(0, ["h"]))
    room = training.Classroom(MERGED, net, theta, MERGED.teacher(streams(0, ["t"])))
    nothing, everything, asked = all_of(0 * theta[None]), all_of(theta[None]), []

    def trained(at):
        def told(step):
            asked.append(step)
            return everything if step >= at else nothing

        return training.train(outer, [how], room, told, streams(0, ["o"]), stream(0, "q")).theta

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


def room_of(world=MERGED, width=3):
    """One human and teacher of the world, all of whose bits are told."""
    net = world.human_net(width)
    theta = net.init(streams(0, ["h"]))
    leaked = all_of(theta[None])
    return training.Classroom(world, net, theta, world.teacher(streams(0, ["t"]))), lambda step: leaked


def taught(room, told, outer=None, **how):
    """The outer θ `(p,)` that one way of teaching makes."""
    outer = outer or slot.build(width=4)
    how = Training(**{"steps": 10, "batch": 8, "off_batch": 4} | how)
    return training.train(outer, [how], room, told, streams(0, ["o"]), stream(0, "q")).theta[0]


@pytest.mark.parametrize(("off_truth", "sees"), [(0.0, False), (0.1, False), (0.5, True), (1.0, True)])
def test_off_distribution_truth_reaches_only_the_arm_that_has_it(off_truth, sees, monkeypatch):
    """Make every off-distribution truth another one (those questions have inner sum 0): who notices? A tenth of four
    questions is none."""
    room, told = room_of()
    honest = type(MERGED).answer

    def dishonest(world, theta_teacher, x):
        inside = x @ theta_teacher.unflatten(-1, (5, 5)).transpose(-1, -2)
        return honest(world, theta_teacher, x) + 3.0 * (inside.sum(-1).abs() < 1e-4)

    before = taught(room, told, off_truth=off_truth)
    monkeypatch.setattr(type(MERGED), "answer", dishonest)
    assert torch.equal(before, taught(room, told, off_truth=off_truth)) != sees


def test_human_labels_are_all_that_is_told_where_the_human_labels(monkeypatch):
    room, told = room_of()
    before = taught(room, told, labels="human")
    assert not torch.equal(before, taught(room, told))
    monkeypatch.setattr(type(MERGED), "answer", lambda world, theta_teacher, x: 9 + x.sum(-1))
    assert torch.equal(before, taught(room, told, labels="human"))


def test_a_model_that_is_not_asked_yet_learns_the_human_alone():
    room, told = room_of()
    late = taught(room, told, begins=0.5, steps=10)
    unasked = taught(room, told, begins=1.0, steps=10)
    always = taught(room, told, steps=10)
    assert not torch.equal(late, always) and not torch.equal(late, unasked)
    # Until then whoever says what is right says it to nobody.
    assert torch.equal(unasked, taught(room, told, begins=0.99, steps=10, labels="human"))


def test_decay_shrinks_the_trunk_and_leaves_the_rest_to_itself():
    room, told = room_of()
    outer = slot.build(width=4)
    norms = {}
    for decay in (0.0, 0.3):
        theta = taught(room, told, outer, decay=decay, steps=200, rate=0.01)[None]
        norms[decay] = float(outer.own(room.net, theta).norm())
        layout = blocks.views(outer._layout(room.net), theta)
        assert outer.own(room.net, theta).shape == (1, layout["trunk"].numel())
    assert norms[0.3] < 0.5 * norms[0.0]
    everything = direct.build(width=4)
    assert training.own(everything, room.net, torch.ones(2, 5)).shape == (2, 5)


def test_pressure_may_differ_on_and_off_distribution():
    """A gradient hook by question: on-distribution ones pull, the others do not."""
    shared = torch.ones(1, 1, 2, 5, requires_grad=True)
    pressure = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.5]])
    blocks.scale_gradient(shared, pressure).sum().backward()
    assert torch.equal(shared.grad[0, 0, 0], pressure[0])
    room, told = room_of()
    same = taught(room, told, behaviour_weight=1.0)
    assert torch.equal(same, taught(room, told, behaviour_weight=1.0, behaviour_off_weight=1.0))
    assert not torch.equal(same, taught(room, told, behaviour_weight=1.0, behaviour_off_weight=0.0))


def test_few_labels_are_asked_again_and_again():
    room, told = room_of()
    asked = []

    class Watching(slot.Slot):
        def answer(self, world, net, theta, x, access, pressure=1.0):
            asked.append(x[0, 0, :8])
            return super().answer(world, net, theta, x, access, pressure)

    for policy in ("random", "disagreement"):
        asked.clear()
        taught(room, told, Watching(4), labelled=12, chosen=policy, steps=40)
        different = torch.cat(asked).unique(dim=0)
        assert len(asked) == 40 and len(different) == 12


def test_confidence_turns_labels_towards_its_own_sharpened_answers():
    """Of four answers the two largest become yes where half of the labels are yes."""
    answer = torch.tensor([[[0.9, 0.2, -0.1, -0.8]]])
    target = torch.tensor([[[-1.0, 1.0, 1.0, -1.0]]])
    mixed = training._confident(answer, target, torch.tensor(0.25))
    assert torch.allclose(mixed, 0.75 * target + 0.25 * torch.tensor([1.0, 1.0, -1.0, -1.0]))
    assert torch.equal(training._confident(answer, target, torch.tensor(0.0)), target)
    room, told = room_of(SPURIOUS)
    assert not torch.equal(taught(room, told, confidence=0.5), taught(room, told))
    with pytest.raises(InputError, match="training.confidence: got 0.5; expected 0 where answers are numbers"):
        taught(*room_of(), confidence=0.5)


# A slot that learns -----------------------------------------------------------------------------------


def partly_known(net, theta, bits):
    channel = prefix.build(bits=bits).schedule(net, 1, stream(0, "leak"))
    return reading.reveal(channel, theta[None], codec.field_scale(net, theta), 0)


@pytest.mark.parametrize("bits", [0, 2, 16])
def test_a_learning_slot_stays_within_what_its_bits_allow(bits):
    room, _ = room_of(RADIUS, 4)
    outer, leaked = slot.build(width=4, learns=True), partly_known(room.net, room.theta_human, bits)
    theta = taught(room, lambda step: leaked, outer, steps=60, rate=0.05)[None]
    free = blocks.views(outer._layout(room.net), theta)["free"]
    found = leaked.value[:, 0] + leaked.slack[:, 0] * torch.tanh(free)
    assert ((found - leaked.value[:, 0]).abs() <= leaked.slack[:, 0]).all()
    x = RADIUS.off_distribution(room.theta_teacher, 50, streams(0, ["x"]))
    _, predicted = outer.answer(RADIUS, room.net, theta, x[None], Access(leaked))
    assert torch.allclose(predicted[0], RADIUS.human_answer(room.net, found, x), atol=1e-5)
    error = (found - room.theta_human).abs().max()
    assert error <= 2 * leaked.slack.max()
    if bits == 16:
        assert error < 1e-3


@pytest.mark.slow
def test_a_learning_slot_learns_the_human_from_behaviour_and_the_teacher_does_not_bend_it(monkeypatch):
    room, _ = room_of(RADIUS, 4)
    outer, leaked = slot.build(width=4, learns=True), partly_known(room.net, room.theta_human, 0)
    how = {"steps": 800, "rate": 0.03, "batch": 32, "off_batch": 32}
    theta = taught(room, lambda step: leaked, outer, **how)[None]
    x = RADIUS.off_distribution(room.theta_teacher, 300, streams(0, ["x"]))
    _, predicted = outer.answer(RADIUS, room.net, theta, x[None], Access(leaked))
    human = RADIUS.human_answer(room.net, room.theta_human, x)
    assert float((predicted[0] - human).square().mean() / human.var()) < 0.1
    monkeypatch.setattr(type(RADIUS), "answer", lambda world, theta_teacher, x: 0 * x.sum(-1))
    other = taught(room, lambda step: leaked, outer, **how)[None]
    one, two = (blocks.views(outer._layout(room.net), t)["free"] for t in (theta, other))
    # The clip of the whole gradient is all that the two losses share.
    assert torch.allclose(one, two, atol=0.2)


# Other behaviour --------------------------------------------------------------------------------------


def many_handed(arms: int, humans: int, world=RADIUS):
    """Humans of the world with three behaviours beside their answers."""
    net, _, x = handed(world, 4, arms, humans)
    net = dataclasses.replace(net, sizes=(*net.sizes[:-1], 4))
    theta = net.init(streams(0, [f"h{i}" for i in range(arms * humans)])).unflatten(0, (arms, humans))
    return net, Access(all_of(theta)), x


@pytest.mark.parametrize("world", [RADIUS, SPURIOUS])
def test_a_slot_that_passes_its_simulated_human_on_behaves_like_it(world):
    outer = slot.build(width=4, behaviours=2)
    net, access, x = many_handed(2, 3, world)
    theta = torch.zeros_like(outer.init(net, streams(0, ["a", "b"])))
    skip = blocks.views(outer._layout(net), theta)["skip"]
    assert skip.shape == (2, 4, world.d + 5)
    for behaviour in (0, 1):  # after the question and the simulated answer
        skip[:, 2 + behaviour, world.d + 1 + behaviour] = 1.0
    answer, human, does = outer.answer(world, net, theta, x, access)
    raw = net.forward(access.leaked.value, x)
    assert torch.allclose(does, raw[..., 1:3].transpose(-1, -2)) and not answer.any() and not human.any()
    inputs = outer.hidden(world, net, theta, x, access)
    assert inputs.shape[-1] == 4 + world.d + 4 and torch.allclose(inputs[..., -3:-1], raw[..., 1:3])


def test_a_learning_slot_predicts_with_its_human_and_direct_without():
    net, access, x = many_handed(2, 1)
    outer, other = slot.build(width=4, learns=True, behaviours=3), direct.build(width=4, behaviours=3)
    theta = outer.init(net, streams(0, ["a", "b"]))
    _, human, does = outer.answer(RADIUS, net, theta, x, access)
    raw = net.forward(access.leaked.value, x)
    assert torch.allclose(human, raw[..., 0]) and torch.allclose(does, raw[..., 1:].transpose(-1, -2))
    theta = other.init(net, streams(0, ["a", "b"]))
    v = blocks.views(other._layout(net), theta)
    v["skip"].normal_(generator=stream(0, "skip"))
    inputs = torch.cat([x, torch.ones(1, 1, 7, 1)], -1)
    units = torch.relu(torch.einsum("ahni,awi->ahwn", inputs.expand(2, -1, -1, -1), v["trunk"]))
    said = torch.einsum("aow,ahwn->oahn", v["heads"], units) + torch.einsum("aoi,ahni->oahn", v["skip"], inputs)
    answer, human, does = other.answer(RADIUS, net, theta, x, access)
    assert torch.allclose(torch.stack([answer, human, *does.unbind(2)]), said, atol=1e-6)


def test_behaviour_teaches_a_human_model_and_only_where_it_is_told():
    """From answers alone the weights that only behaviours have are never learned; behaviours find them."""
    net, access, _ = many_handed(1, 1)
    human, teacher = access.leaked.value[0], RADIUS.teacher(streams(0, ["t"]))
    room = training.Classroom(RADIUS, net, human, teacher)
    outer, leaked = slot.build(width=4, learns=True, behaviours=3), partly_known(net, human, 0)
    how = {"steps": 600, "rate": 0.03, "batch": 32, "off_batch": 32}
    trainings = [Training(**how), Training(**how, behaviours_told=False)]
    two = Leaked(*(t.expand(2, -1, -1) for t in (leaked.value, leaked.known, leaked.slack)))
    fit = training.train(outer, trainings, room, lambda step: two, streams(0, ["o", "o"]), stream(0, "q"))
    start = outer.init(net, streams(0, ["o"]))
    free, before = (blocks.views(outer._layout(net), t)["free"] for t in (fit.theta, start))
    rows = net.views(torch.arange(net.p))["weight1"][1:].flatten()
    assert torch.equal(free[1, rows], before[0, rows]) and not torch.isclose(free[0, rows], before[0, rows]).any()
    x = RADIUS.off_distribution(teacher, 300, streams(0, ["x"]))
    _, _, does = outer.answer(RADIUS, net, fit.theta, x[None], Access(two))
    own = net.forward(human, x)[..., 1:].transpose(-1, -2)
    told, untold = ((d - own).square().mean() / own.var() for d in does)
    assert told < 0.1 < 0.5 < untold


def test_an_outer_of_behaviours_that_are_not_there_is_refused():
    net, access, x = many_handed(1, 1)
    for outer in (slot.build(behaviours=4), slot.build(learns=True, behaviours=4), direct.build(behaviours=4)):
        with pytest.raises(InputError, match="outer.behaviours: got 4; expected at most 3, .* human.behaviours: 4"):
            outer.answer(RADIUS, net, outer.init(net, streams(0, ["o"])), x, access)
    # Where answers take all outputs there are, none is a behaviour.
    net, access, x = handed(MERGED, 3, 1, 1)
    outer = direct.build(behaviours=1)
    with pytest.raises(InputError, match="expected at most 0"):
        outer.answer(MERGED, net, outer.init(net, streams(0, ["o"])), x, access)


def test_a_slot_for_several_humans_cannot_learn_one():
    net, access, x = handed(RADIUS, 3, 1, 2)
    outer = slot.build(learns=True)
    with pytest.raises(InputError, match="a slot that learns, for 2 humans"):
        outer.answer(RADIUS, net, outer.init(net, streams(0, ["o"])), x, access)


# A slot that reads units -----------------------------------------------------------------------------


@pytest.mark.parametrize("world", [RADIUS, MERGED], ids=["hidden layer", "none"])
def test_a_slot_that_reads_units_sees_them_beside_the_answer(world):
    net, access, x = handed(world, 3, 1, 1)
    outer = slot.build(width=4, reads="units")
    theta = outer.init(net, streams(0, ["o"]))
    inside = outer.hidden(world, net, theta, x, access)
    plain = slot.build(width=4)
    without = plain.hidden(world, net, plain.init(net, streams(0, ["o"])), x, access)
    assert inside.shape[-1] == without.shape[-1] + 3
    units = net.layers(access.leaked.value, x)[0]
    assert torch.allclose(inside[..., 4 + world.d + 1 : 4 + world.d + 4], units)
    testing.check_outer(outer, world)


def test_a_matched_copy_answers_alike_and_lies_next_to_its_like():
    net = RADIUS.human_net(5)
    human, other = net.init(streams(0, ["a", "b"]))
    x = RADIUS.on_distribution(RADIUS.teacher(streams(0, ["t"])), 40, streams(0, ["x"]))[0]
    copy = matched(net, other[None], human[None])[0]
    assert torch.allclose(net.forward(copy, x), net.forward(other, x), atol=1e-5)
    assert (copy - human).norm() < (other - human).norm()
    shuffled = human.clone()
    views, order = net.views(shuffled), torch.tensor([3, 0, 4, 1, 2])
    for name, dim in (("weight0", 0), ("bias0", 0), ("weight1", 1)):
        views[name].copy_(-net.views(human)[name].index_select(dim, order))  # odd units: both signs turned
    assert torch.allclose(matched(net, shuffled[None], human[None])[0], human)
    merged = MERGED.human_net(3).init(streams(0, ["a"]))
    assert torch.equal(matched(MERGED.human_net(3), merged, merged + 1), merged)
