"""Further outputs learn tastes of the human's own, and cost the answers little; which part of θ2 answers is counted."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.humans import descent
from reuse_sim.humans.answering import answering_share, held
from reuse_sim.humans.behaviour import tastes
from reuse_sim.inheritance.observed import r_squared
from reuse_sim.nets import Mlp
from reuse_sim.rng import streams
from reuse_sim.worlds import digits, linear, merged_neurons, radius, spurious

NAMES = ["a", "b", "c"]


def grown(world, **options):
    """Three humans of one teacher, with their questions on-distribution."""
    human = descent.build(**{"width": 16, "steps": 600, "rate": 0.02} | options)
    theta_1 = world.teacher(streams(0, ["teacher"])).expand(3, -1)
    theta = human.train(world, human.init(world, streams(1, NAMES)), theta_1, streams(2, NAMES)).theta
    return human, theta_1, theta, world.on_distribution(theta_1, 1000, streams(3, NAMES))


@pytest.mark.parametrize(
    "world", [radius.build(), spurious.build(), digits.build(steps=5)], ids=lambda w: type(w).__name__
)
def test_tastes_are_standardised_differ_and_depend_on_their_own_generator_only(world):
    """Over fresh questions: a mean of 512 varies by 1/√512 = .044, and so does one of 4096 by .016."""
    theta_1 = world.teacher(streams(0, ["teacher"])).expand(3, -1)
    found = tastes(world, theta_1, 4, streams(2, NAMES))
    x = world.on_distribution(theta_1, 4096, streams(3, NAMES))
    said = found.answer(x)
    assert said.shape == (3, 4096, 4)
    assert said.mean(1).abs().max() < 0.25 and (said.std(1) - 1).abs().max() < 0.25
    pairs = torch.corrcoef(said[0].T)
    assert pairs.fill_diagonal_(0).abs().max() < 0.95
    alone = tastes(world, theta_1[:1], 4, streams(2, NAMES[1:2])).answer(x[1:2])
    torch.testing.assert_close(alone[0], said[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.answer(x[1:], slice(1, None)), said[1:])


@pytest.mark.parametrize("world", [radius.build(), spurious.build()], ids=lambda w: type(w).__name__)
def test_behaviours_are_learned_beside_the_answers(world):
    human, theta_1, theta, x = grown(world, behaviours=3)
    net = human.net(world)
    assert net.sizes == (world.d, 16, 4)
    likes = human.tastes(world, theta_1, streams(2, NAMES))
    does = net.forward(theta, x)[..., 1:]
    assert r_squared(does.movedim(-1, 0), likes.answer(x).movedim(-1, 0)).min() > 0.8
    error = (world.human_answer(net, theta, x) - world.answer(theta_1, x)).square().mean()
    assert error < 0.3 and human.tastes(world, theta_1, streams(9, NAMES)).theta.ne(likes.theta).all()


def test_a_repaired_twin_goes_on_behaving_as_it_did():
    world = radius.build()
    human, theta_1, theta, x = grown(world, behaviours=3)
    twin = human.train(world, theta, theta_1, streams(4, NAMES), 0.5).theta
    net = human.net(world)
    before, after = (net.forward(t, x)[..., 1:].movedim(-1, 0) for t in (theta, twin))
    assert r_squared(after, before).min() > 0.9


def test_humans_who_answer_otherwise_have_no_behaviours():
    with pytest.raises(InputError, match=r"human.behaviours: got 2, where humans .*Take another world"):
        descent.build(behaviours=2).net(merged_neurons.build())
    assert descent.build(behaviours=2).net(linear.build()).sizes == (20, 3)


# Which part of θ2 answers -----------------------------------------------------------------------------


def planted(answering: int, units: int = 10, bias: bool = True) -> tuple[Mlp, torch.Tensor]:
    """A human whose first output reads `answering` of its units and whose second reads the others."""
    net = Mlp((3, units, 2), "tanh", bias)
    theta = net.init(streams(0, ["planted"]))
    weight = net.views(theta)["weight1"]
    weight.fill_(0.0)
    weight[:, 0, :answering] = 1.0
    weight[:, 1, answering:] = 1.0
    return net, theta


@pytest.mark.parametrize(("answering", "bias"), [(1, True), (4, True), (10, True), (4, False)])
def test_planted_units_and_no_others_answer(answering: int, bias: bool):
    """k units of 3 inputs and a bias each, k weights and a bias to the answer; all of equal size, so all are needed."""
    net, theta = planted(answering, bias=bias)
    x = 3 * torch.randn(1, 400, 3, generator=streams(1, ["x"])[0])
    expected = answering * (3 + bias) + answering + bias
    assert float(answering_share(net, theta, x)) == pytest.approx(expected / net.p)


def test_in_a_deep_human_units_count_by_what_is_left_before_them():
    """Two of five, then two of six units lead to the answer: 2·(3 + 1) + 2·(2 + 1) + (2 + 1) parameters."""
    net = Mlp((3, 5, 6, 2), "tanh")
    theta = torch.zeros(1, net.p)
    v = net.views(theta)
    v["weight0"].copy_(torch.randn(5, 3, generator=streams(0, ["w"])[0]))
    v["weight1"][:, [0, 1], [0, 1]] = 1.0
    v["weight1"][:, 2:, 2:] = 1.0
    v["weight2"][:, 0, :2] = torch.tensor([1.0, -1.0])
    v["weight2"][:, 1, 2:] = 1.0
    x = torch.randn(1, 400, 3, generator=streams(1, ["x"])[0])
    assert float(answering_share(net, theta, x)) == pytest.approx((8 + 6 + 3) / net.p)


def test_without_hidden_units_all_of_it_answers():
    assert answering_share(Mlp((4, 1), bias=False), torch.ones(2, 4), torch.ones(2, 9, 4)).tolist() == [1, 1]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.booleans(), min_size=7, max_size=7), st.integers(0, 2**31))
def test_a_unit_held_at_its_mean_sends_its_mean(there: list[bool], seed: int):
    net = Mlp((3, 7, 2), "relu")
    theta = net.init(streams(seed, ["a"])).double()
    x = torch.randn(1, 50, 3, generator=streams(seed, ["x"])[0], dtype=torch.float64)
    hidden = net.layers(theta, x)[0]
    mean = hidden.mean(-2)
    here = torch.tensor([there])
    replaced = torch.where(here.unsqueeze(1), hidden, mean.unsqueeze(1))
    v = net.views(theta)
    expected = replaced @ v["weight1"].transpose(-1, -2) + v["bias1"].unsqueeze(-2)
    torch.testing.assert_close(net.forward(held(net, theta, [mean], here), x), expected)


def test_more_behaviour_leaves_a_smaller_part_to_answering():
    """In one world only; scenarios/behaviours.yaml asks it of many."""
    world = radius.build()
    shares = []
    for behaviours in (0, 8):
        human, _, theta, x = grown(world, behaviours=behaviours, width=24)
        shares.append(float(answering_share(human.net(world), theta, x[:, :256]).mean()))
    assert shares[1] < 0.7 * shares[0]
